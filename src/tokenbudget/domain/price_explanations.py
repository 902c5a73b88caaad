"""Why a price applies: the row, what led to it and what every flag means.

It owns the words; it refuses to choose a price (``price_lists.py``, ``schedules.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Final

from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.price_lists import NameAnswer, PriceList
from tokenbudget.domain.schedules import ANY_SIZE, Ladder, PriceMatch

FLAG_MEANINGS: Final[Mapping[str, str]] = {
    "provider_fallback": "the price is that of a provider whose models this one also serves",
    "alias": "the name is a moving one; the model it meant at that time is priced",
    "tier_fallback": "no row is for the service tier; the standard price is used",
    "region_fallback": "other rows tell this region apart, the one used does not",
    "context_fallback": "standard prices change at this size of request; the row used does not say",
    "fx": "the price is in another currency, converted by the quote of this day",
    "contract": "the contracted rates follow this contract",
}
"""By the word before the colon, if there is one."""


@dataclass(frozen=True, slots=True)
class PriceQuestion:
    """What a price is asked for; the size of the input chooses among the steps of a price."""

    provider: str
    model: str
    occurred_at: datetime
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PriceExplanation:
    """The price that applies, with every step by size of the input, in their order.

    ``used`` is one of the steps, None when the input is too small for all of them.
    """

    question: PriceQuestion
    steps: tuple[PriceMatch, ...]
    used: PriceMatch | None
    reasons: tuple[str, ...]


def explain_price(price_list: PriceList, question: PriceQuestion) -> PriceExplanation | str:
    """Give the price that applies and why, or the word for why there is none."""
    schedule = price_list.schedule(
        question.provider,
        question.model,
        question.service_tier,
        question.region,
        question.account,
    )
    ladder = schedule.steps_at(question.occurred_at)
    answer = price_list.find_name(question.provider, question.model)
    if not ladder or answer is None:
        return schedule.absence
    steps = tuple(price_list.in_ledger_currency(match, question.occurred_at) for _, match in ladder)
    place = sum(size < question.input_tokens for size, _ in ladder) - 1
    used = steps[place] if place >= 0 else None
    reasons = [*_name_reasons(price_list, question, answer)]
    if used is not None:
        reasons.extend(_row_reasons(used, ladder, place))
    return PriceExplanation(question, steps, used, tuple(reasons))


def flag_meaning(flag: str) -> str:
    """Give what a flag of a price says, in a sentence."""
    return FLAG_MEANINGS[flag.partition(":")[0]]


def _name_reasons(
    price_list: PriceList, question: PriceQuestion, answer: NameAnswer
) -> Iterator[str]:
    asked = price_list.canonical_provider(question.provider)
    yield f"provider {question.provider!r} means {asked}"
    model = answer.stretches[0].model
    if model.provider != asked:
        yield f"{asked} has no such model of its own, and also serves those of {model.provider}"
    if answer.spelling != question.model:
        yield f"the name is read as {answer.spelling!r}"
    if answer.pattern is not None:
        yield f"it answers to the pattern {answer.pattern!r} of {model.model}"
    elif "alias" in answer.flags:
        yield "it is a moving name"
    else:
        yield f"it is a name of {model.model}"


def _row_reasons(used: PriceMatch, ladder: Ladder, place: int) -> Iterator[str]:
    price, selector = used.price, used.price.selector
    yield f"the row is one of {price.model}, for tier {selector.tier or 'any'}"
    region = (
        f"region {selector.region}" if selector.region else "regions without a row of their own"
    )
    yield f"for {region}"
    yield _size_reason(ladder, place)
    if selector.hours is not None:
        yield "it is the time of day that the row is for"
    since = f"from {format_instant(price.valid_from)}" if price.valid_from else "since ever"
    until = f"until {format_instant(price.valid_to)}" if price.valid_to else "until further notice"
    yield f"valid {since} {until}"
    if price.recorded_at is not None and _replaces_another(used):
        yield f"it fixes another row, recorded {format_instant(price.recorded_at)}"
    factor = Fraction(used.numerator, used.denominator) * price.divisor
    if factor != 1:
        yield f"rates of tokens are multiplied by {factor}"


def _replaces_another(match: PriceMatch) -> bool:
    price = match.price
    return any(
        (row.selector, row.valid_from) == (price.selector, price.valid_from)
        for row in match.model.superseded
    )


def _size_reason(ladder: Ladder, place: int) -> str:
    above = ladder[place][0]
    upper = f" up to {ladder[place + 1][0]}" if place + 1 < len(ladder) else ""
    lower = "" if above == ANY_SIZE else f" above {above}"
    return f"for input of{lower}{upper} tokens" if lower or upper else "for input of any size"

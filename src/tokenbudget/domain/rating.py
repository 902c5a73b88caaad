"""What a usage costs. It owns the arithmetic: disjoint classes times rates, rounded once.

It refuses to choose a price (``price_lists.py``), to know which contract or exchange rate applies
(``schedules.py``) and which commitment covers a usage (``commitments.py``; it is told by name).
``frames/rating.py`` is its vectorised twin and equal to the nano.

A charge has three figures for a whole usage. The list cost follows from published rates, the
contracted cost from those of the contracts, and the effective cost is the contracted one, or zero
where a commitment covers the usage: its fixed cost is shared later. Each is summed exactly in
picos, divided once and rounded once, half to even, so it lies within half a nano of the exact cost.
Where something is unknown all three are None, never zero, and a flag says why:

    usage_unknown        no quantity was reported
    usage_inconsistent   the parts of a total exceed it, so what each class holds cannot be known
    unrated_<unit>       the row has no rate for a unit that was used, nor for a parent of it
    currency_<code>      the price is in another currency than the ledger, and no quote of that
                         day converts it
    provider_unknown, model_unknown, no_price_at_time: see ``price_lists.py``

Fallbacks, conversions and contracts are flagged as in ``schedules.py``, ``commitment:<id>`` names
what covers the usage.
``input_tokens_absent`` stays on a priced charge: output was reported and input was not, so the
cost is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from tokenbudget.domain.commitments import COMMITMENT_PREFIX
from tokenbudget.domain.money import PICOS_PER_NANO, divide_half_even
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import Price
from tokenbudget.domain.schedules import PriceMatch, Schedule, UnitRates
from tokenbudget.domain.usage import (
    CACHED_MODALITIES,
    INPUT_MODALITIES,
    INPUT_PARTS,
    MAX_QUANTITY,
    MAX_REMEMBERED,
    OUTPUT_MODALITIES,
    UNITS,
    Basis,
)

USAGE_UNKNOWN: Final = "usage_unknown"
USAGE_INCONSISTENT: Final = "usage_inconsistent"
INPUT_TOKENS_ABSENT: Final = "input_tokens_absent"
UNRATED_PREFIX: Final = "unrated_"
CURRENCY_PREFIX: Final = "currency_"

FREE_WITHOUT_RATE: Final = frozenset({"requests"})
"""Units that are counted for every usage and cost nothing unless a row says so."""

OUTPUT_UNITS: Final = ("output_tokens", "reasoning_tokens", *OUTPUT_MODALITIES)

OVERLAPS: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    **{part: (("input_tokens", -1),) for part in (*INPUT_PARTS, *INPUT_MODALITIES)},
    **{
        cached: (("cached_input_tokens", -1), (modality, -1), ("input_tokens", 1))
        for cached, modality in CACHED_MODALITIES.items()
    },
    **{part: (("output_tokens", -1),) for part in OUTPUT_UNITS[1:]},
}
"""What a part takes from the totals that hold it too, so that every token is in one class."""


class RatingFacts(NamedTuple):
    """What a price depends on besides quantities.

    ``occurred_at`` is aware UTC; ``account`` tells contracts apart; ``commitment`` is the id of the
    one that covers the usage.
    """

    provider: str
    model: str
    occurred_at: datetime
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    commitment: str | None = None


class Charge(NamedTuple):
    """What one usage costs, in nanos of the ledger currency; all amounts None means unpriced.

    ``match`` is the price row that was found, which an unpriced charge may have too. ``flags``
    name every fallback and every reason, those of the match first. ``commitment`` is the id of the
    one that covers the usage.
    """

    basis: Basis
    match: PriceMatch | None
    list_nanos: int | None
    contracted_nanos: int | None
    effective_nanos: int | None
    flags: tuple[str, ...]
    commitment: str | None = None

    @property
    def price_digest(self) -> str | None:
        """Give what identifies the price row and all that was agreed, None when none was found."""
        return price_digest(self.match, self.commitment) if self.match else None

    @property
    def price(self) -> Price | None:
        """Give the price row, None when none was found."""
        return self.match.price if self.match else None


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One class of a charge: unit, disjoint quantity, rate a unit and amount in exact picos."""

    unit: str
    quantity: int
    rate_picos: Fraction
    amount_picos: Fraction


def rate(quantities: Mapping[str, int] | None, facts: RatingFacts, price_list: PriceList) -> Charge:
    """Give the charge of one usage; what is unknown leaves it unpriced and is never an error."""
    total_input = quantities.get("input_tokens", 0) if quantities else 0
    match = find_match(total_input, facts, price_list)
    if match is None:
        return _unpriced(facts, None, (_absence(facts, price_list),))
    if match.currency != price_list.currency:
        return _unpriced(facts, match, (CURRENCY_PREFIX + match.currency,))
    if not quantities:
        return _unpriced(facts, match, (USAGE_UNKNOWN,))
    classes = disjoint_quantities(quantities)
    if min(classes.values()) < 0:
        return _unpriced(facts, match, (USAGE_INCONSISTENT,))
    picos = 0
    rates = match.published.rates
    for unit, quantity in classes.items():
        if unit in rates:
            picos += quantity * rates[unit]
        elif quantity and unit not in FREE_WITHOUT_RATE:
            return _unpriced(facts, match, _unrated_flags(classes, rates))
    contracted_picos = picos
    if match.contracted is not match.published:
        contracted_picos = _sum_picos(classes, match.contracted.rates)
    is_partial = "input_tokens" not in quantities and quantities.get("output_tokens")
    remarks = (INPUT_TOKENS_ABSENT,) if is_partial else ()
    return _priced(facts, match, (picos, contracted_picos), remarks)


def find_match(
    total_input_tokens: int, facts: RatingFacts, price_list: PriceList
) -> PriceMatch | None:
    """Give the price that a usage with so much input is rated by, None when there is none.

    It is in the ledger currency unless no quote converts it that day.
    """
    match = _schedule(facts, price_list).match_at(facts.occurred_at, total_input_tokens)
    if match is None or match.currency == price_list.currency:
        return match
    return price_list.in_ledger_currency(match, facts.occurred_at)


def price_digest(match: PriceMatch, commitment: str | None) -> str:
    """Give what identifies a price row, all that was agreed about it and what covers the usage."""
    return match.price_digest if commitment is None else f"{match.price_digest}@{commitment}"


def disjoint_quantities(quantities: Mapping[str, int]) -> dict[str, int]:
    """Give the quantities with each token in one class only.

    ``input_tokens`` is then plain uncached text, ``output_tokens`` plain text. A negative value
    means that the parts of a total exceed it.
    """
    classes = dict(quantities)
    for part, total, sign in _overlaps(tuple(quantities)):
        classes[total] = classes.get(total, 0) + sign * quantities[part]
    return classes


@lru_cache(maxsize=MAX_REMEMBERED)
def _overlaps(units: tuple[str, ...]) -> tuple[tuple[str, str, int], ...]:
    """Give what each of these units takes from which total, by which sign."""
    return tuple((part, total, sign) for part in units for total, sign in OVERLAPS.get(part, ()))


def charge_lines(quantities: Mapping[str, int], charge: Charge) -> list[ChargeLine]:
    """Give the lines that explain the list cost of a priced charge, in the order of UNITS.

    Their amounts add up to it before its rounding. Empty for an unpriced charge.
    """
    if charge.match is None or charge.list_nanos is None:
        return []
    published = charge.match.published
    rates, ratio = published.rates, Fraction(published.numerator, published.denominator)
    classes = disjoint_quantities(quantities)
    return [
        ChargeLine(unit, classes[unit], rates[unit] * ratio, classes[unit] * rates[unit] * ratio)
        for unit in UNITS
        if classes.get(unit) and unit in rates
    ]


def upper_bound_cost(
    input_tokens: int, max_output_tokens: int, facts: RatingFacts, price_list: PriceList
) -> Charge:
    """Give what a request may cost at most.

    Input counts as uncached and all output at the dearest rate output can have. The size of the
    input chooses the price step. One request is counted where requests have a rate.
    """
    match, flags = _find_bound(input_tokens, facts, price_list)
    if match is None or flags:
        return _unpriced(facts, match, flags)
    if max_output_tokens and _dearest_output_rate(match.published) is None:
        return _unpriced(facts, match, (UNRATED_PREFIX + "output_tokens",))
    published, contracted = match.published, match.contracted
    list_picos = _bound_picos(input_tokens, max_output_tokens, published)
    contracted_picos = (
        list_picos
        if contracted is published
        else _bound_picos(input_tokens, max_output_tokens, contracted)
    )
    return _priced(facts, match, (list_picos, contracted_picos), ())


def affordable_output_tokens(
    headroom_nanos: int, input_tokens: int, facts: RatingFacts, price_list: PriceList
) -> int:
    """Give the most output tokens whose effective upper bound cost stays within the headroom.

    At most MAX_QUANTITY. Zero when the input alone exceeds the headroom and when the model is
    unpriced.
    """
    match, flags = _find_bound(input_tokens, facts, price_list)
    if match is None or flags or _dearest_output_rate(match.published) is None:
        return 0
    sheet = match.contracted
    output_rate = _dearest_output_rate(sheet)
    if facts.commitment is not None:
        return MAX_QUANTITY if headroom_nanos >= 0 else 0
    headroom_picos = headroom_nanos * PICOS_PER_NANO * sheet.denominator // sheet.numerator
    affordable_picos = headroom_picos - _input_picos(input_tokens, sheet)
    if affordable_picos < 0:
        return 0
    return min(affordable_picos // output_rate, MAX_QUANTITY) if output_rate else MAX_QUANTITY


def _find_bound(
    input_tokens: int, facts: RatingFacts, price_list: PriceList
) -> tuple[PriceMatch | None, tuple[str, ...]]:
    """Give the match for input of that size, and why nothing can be bounded by it."""
    match = find_match(input_tokens, facts, price_list)
    if match is None:
        return None, (_absence(facts, price_list),)
    if match.currency != price_list.currency:
        return match, (CURRENCY_PREFIX + match.currency,)
    if input_tokens and "input_tokens" not in match.published.rates:
        return match, (UNRATED_PREFIX + "input_tokens",)
    return match, ()


def _schedule(facts: RatingFacts, price_list: PriceList) -> Schedule:
    return price_list.schedule(
        facts.provider, facts.model, facts.service_tier, facts.region, facts.account
    )


def _absence(facts: RatingFacts, price_list: PriceList) -> str:
    return _schedule(facts, price_list).absence


def _input_picos(input_tokens: int, sheet: UnitRates) -> int:
    return input_tokens * sheet.rates.get("input_tokens", 0) + sheet.rates.get("requests", 0)


def _bound_picos(input_tokens: int, max_output_tokens: int, sheet: UnitRates) -> int:
    output_rate = _dearest_output_rate(sheet) or 0
    return _input_picos(input_tokens, sheet) + max_output_tokens * output_rate


def _dearest_output_rate(sheet: UnitRates) -> int | None:
    rates = sheet.rates
    return max((rates[unit] for unit in OUTPUT_UNITS if unit in rates), default=None)


def _sum_picos(classes: Mapping[str, int], rates: Mapping[str, int]) -> int:
    return sum(quantity * rates.get(unit, 0) for unit, quantity in classes.items())


def _unrated_flags(classes: Mapping[str, int], rates: Mapping[str, int]) -> tuple[str, ...]:
    known = [unit for unit in UNITS if classes.get(unit)]
    return tuple(
        UNRATED_PREFIX + unit
        for unit in known
        if unit not in rates and unit not in FREE_WITHOUT_RATE
    )


def _priced(
    facts: RatingFacts, match: PriceMatch, picos: tuple[int, int], remarks: tuple[str, ...]
) -> Charge:
    published, contracted = match.published, match.contracted
    list_nanos = _nanos(picos[0], published)
    contracted_nanos = list_nanos if contracted is published else _nanos(picos[1], contracted)
    commitment = facts.commitment
    if commitment is None:
        flags = match.flags + remarks
        return Charge(Basis.RATED, match, list_nanos, contracted_nanos, contracted_nanos, flags)
    flags = (*match.flags, COMMITMENT_PREFIX + commitment, *remarks)
    return Charge(Basis.RATED, match, list_nanos, contracted_nanos, 0, flags, commitment)


def _nanos(picos: int, sheet: UnitRates) -> int:
    return divide_half_even(picos * sheet.numerator, PICOS_PER_NANO * sheet.denominator)


def _unpriced(facts: RatingFacts, match: PriceMatch | None, reasons: tuple[str, ...]) -> Charge:
    flags = match.flags if match else ()
    covered = () if facts.commitment is None else (COMMITMENT_PREFIX + facts.commitment,)
    return Charge(
        Basis.UNPRICED, match, None, None, None, (*flags, *covered, *reasons), facts.commitment
    )

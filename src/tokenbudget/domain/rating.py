"""What a usage costs. It owns the arithmetic: disjoint classes times rates, rounded once.

It refuses to choose a price (``price_lists.py``) and to know contracts, commitments or foreign
exchange: until those exist, contracted and effective cost equal the list cost.
``frames/rating.py`` is its vectorised twin and equal to the nano.

A charge is one figure for a whole usage: picos are summed exactly, divided once and rounded once,
half to even, so it lies within half a nano of the exact cost. Where something is unknown the
amounts are None, never zero, and a flag says why:

    usage_unknown        no quantity was reported
    usage_inconsistent   the parts of a total exceed it, so what each class holds cannot be known
    unrated_<unit>       the row has no rate for a unit that was used, nor for a parent of it
    currency_<code>      the price is in another currency than the ledger
    provider_unknown, model_unknown, no_price_at_time: see ``price_lists.py``, as for fallbacks

``input_tokens_absent`` stays on a priced charge: output was reported and input was not, so the
cost is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Final

from tokenbudget.domain.money import PICOS_PER_NANO, divide_half_even
from tokenbudget.domain.price_lists import PriceList, PriceMatch
from tokenbudget.domain.prices import Price
from tokenbudget.domain.usage import (
    CACHED_MODALITIES,
    INPUT_MODALITIES,
    INPUT_PARTS,
    MAX_QUANTITY,
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


@dataclass(frozen=True, slots=True)
class RatingFacts:
    """What a price depends on besides quantities.

    ``occurred_at`` is aware UTC; ``account`` tells contracts apart.
    """

    provider: str
    model: str
    occurred_at: datetime
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """What one usage costs, in nanos of the ledger currency; all amounts None means unpriced.

    ``match`` is the price row that was found, which an unpriced charge may have too. ``flags``
    name every fallback and every reason, those of the match first.
    """

    basis: Basis
    match: PriceMatch | None
    list_nanos: int | None
    contracted_nanos: int | None
    effective_nanos: int | None
    flags: tuple[str, ...]

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
    schedule = price_list.schedule(facts.provider, facts.model, facts.service_tier, facts.region)
    match = schedule.match_at(facts.occurred_at, total_input)
    if match is None:
        return _unpriced(None, (schedule.absence,))
    if match.price.currency != price_list.currency:
        return _unpriced(match, (CURRENCY_PREFIX + match.price.currency,))
    if not quantities:
        return _unpriced(match, (USAGE_UNKNOWN,))
    classes = disjoint_quantities(quantities)
    if min(classes.values()) < 0:
        return _unpriced(match, (USAGE_INCONSISTENT,))
    picos = 0
    rates = match.price.unit_rates
    for unit, quantity in classes.items():
        if unit in rates:
            picos += quantity * rates[unit]
        elif quantity and unit not in FREE_WITHOUT_RATE:
            return _unpriced(match, _unrated_flags(classes, rates))
    is_partial = "input_tokens" not in quantities and quantities.get("output_tokens")
    return _priced(match, picos, (INPUT_TOKENS_ABSENT,) if is_partial else ())


def disjoint_quantities(quantities: Mapping[str, int]) -> dict[str, int]:
    """Give the quantities with each token in one class only.

    ``input_tokens`` is then plain uncached text, ``output_tokens`` plain text. A negative value
    means that the parts of a total exceed it.
    """
    classes = dict(quantities)
    for part, quantity in quantities.items():
        for total, sign in OVERLAPS.get(part, ()):
            classes[total] = classes.get(total, 0) + sign * quantity
    return classes


def charge_lines(quantities: Mapping[str, int], charge: Charge) -> list[ChargeLine]:
    """Give the lines that explain a priced charge, in the order of UNITS.

    Their amounts add up to the charge before its rounding. Empty for an unpriced charge.
    """
    if charge.match is None or charge.list_nanos is None:
        return []
    rates = charge.match.price.unit_rates
    ratio = Fraction(charge.match.numerator, charge.match.denominator)
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
    match, fixed_picos, flags = _input_cost(input_tokens, facts, price_list)
    if match is None or flags:
        return _unpriced(match, flags)
    output_rate = _dearest_output_rate(match.price)
    if output_rate is None:
        if max_output_tokens:
            return _unpriced(match, (UNRATED_PREFIX + "output_tokens",))
        output_rate = 0
    return _priced(match, fixed_picos + max_output_tokens * output_rate, ())


def affordable_output_tokens(
    headroom_nanos: int, input_tokens: int, facts: RatingFacts, price_list: PriceList
) -> int:
    """Give the most output tokens whose upper bound cost stays within the headroom.

    At most MAX_QUANTITY.     Zero when the input alone exceeds the headroom and when the model is
    unpriced.
    """
    match, fixed_picos, flags = _input_cost(input_tokens, facts, price_list)
    output_rate = _dearest_output_rate(match.price) if match else None
    if match is None or flags or output_rate is None:
        return 0
    affordable_picos = (
        headroom_nanos * PICOS_PER_NANO * match.denominator // match.numerator - fixed_picos
    )
    if affordable_picos < 0:
        return 0
    return min(affordable_picos // output_rate, MAX_QUANTITY) if output_rate else MAX_QUANTITY


def _input_cost(
    input_tokens: int, facts: RatingFacts, price_list: PriceList
) -> tuple[PriceMatch | None, int, tuple[str, ...]]:
    schedule = price_list.schedule(facts.provider, facts.model, facts.service_tier, facts.region)
    match = schedule.match_at(facts.occurred_at, input_tokens)
    if match is None:
        return None, 0, (schedule.absence,)
    if match.price.currency != price_list.currency:
        return match, 0, (CURRENCY_PREFIX + match.price.currency,)
    rates = match.price.unit_rates
    if input_tokens and "input_tokens" not in rates:
        return match, 0, (UNRATED_PREFIX + "input_tokens",)
    return match, input_tokens * rates.get("input_tokens", 0) + rates.get("requests", 0), ()


def _dearest_output_rate(price: Price) -> int | None:
    return max(
        (price.unit_rates[unit] for unit in OUTPUT_UNITS if unit in price.unit_rates), default=None
    )


def _unrated_flags(classes: Mapping[str, int], rates: Mapping[str, int]) -> tuple[str, ...]:
    known = [unit for unit in UNITS if classes.get(unit)]
    return tuple(
        UNRATED_PREFIX + unit
        for unit in known
        if unit not in rates and unit not in FREE_WITHOUT_RATE
    )


def _priced(match: PriceMatch, picos: int, flags: tuple[str, ...]) -> Charge:
    nanos = divide_half_even(picos * match.numerator, PICOS_PER_NANO * match.denominator)
    return Charge(Basis.RATED, match, nanos, nanos, nanos, match.flags + flags)


def _unpriced(match: PriceMatch | None, reasons: tuple[str, ...]) -> Charge:
    flags = match.flags + reasons if match else reasons
    return Charge(Basis.UNPRICED, match, None, None, None, flags)

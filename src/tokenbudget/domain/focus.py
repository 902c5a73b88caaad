"""A day of usage as priced parts, and the charges beside it that a FOCUS export tells of.

It owns how the sums of a day are taken apart so that unit price x quantity is the cost of every
part and the parts add up to the sums; it refuses names of columns, SQL and files. Amounts, prices
and priced quantities are integers of 10**-18 (attos): a price of twelve decimals for a million
tokens, times a count of tokens, is a whole number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.money import PICOS_PER_UNIT, divide_half_even, split
from tokenbudget.domain.periods import Period
from tokenbudget.domain.prices import STANDARD_TIER

ATTO_DIGITS: Final = 18
ATTOS_PER_UNIT: Final = 10**ATTO_DIGITS
ATTOS_PER_NANO: Final = 10**9
PRICED_TOKENS: Final = 1_000_000
"""How many tokens a price of tokens is for."""

PRICE_STEP: Final = 10**6
"""Prices have twelve decimals: they are multiples of so many attos."""

REQUESTS: Final = "requests"
OTHER_UNITS: Final = "other_units"
ROUNDING: Final = "rounding"
COMMITMENT: Final = "commitment"
MAX_ROUNDING_ATTOS: Final = ATTOS_PER_NANO // 2
"""How far the rounding of one charge may move it; prices are rounded by far less."""


class CostSource(StrEnum):
    """Where the figures of an exported row come from.

    METERED was rated from usage, UNPRICED was used and has no price (its costs are unknown, not
    zero), COMMITMENT is a share of a fixed cost, INVOICE is a line of a bill that no usage stands
    for. STATEMENT is what a closed statement says of a bearer beside its metered usage, UNTRACKED
    what it says was invoiced and not metered.
    """

    METERED = "metered"
    UNPRICED = "unpriced"
    COMMITMENT = "commitment"
    INVOICE = "invoice"
    STATEMENT = "statement"
    UNTRACKED = "untracked"


class DaySums(NamedTuple):
    """The sums of one UTC day, dimension set and price row, as the ledger rolled them up."""

    starts_at: datetime
    dimension_set_id: int
    price_row_id: int
    requests: int = 0
    unpriced_requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    list_nanos: int = 0
    contracted_nanos: int = 0
    effective_nanos: int = 0


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """What a price row says: attos by unit, for a million tokens or for one request.

    ``commitment`` covers the usage, so that nothing is invoiced for it by itself; with
    ``is_share`` the sums are a part of that commitment's fixed cost and nothing else.
    """

    listed: Mapping[str, int] = field(default_factory=dict)
    contracted: Mapping[str, int] = field(default_factory=dict)
    tier: str = STANDARD_TIER
    region: str | None = None
    above: int | None = None
    commitment: str | None = None
    is_share: bool = False


NO_TERMS: Final = PriceTerms()


class Part(NamedTuple):
    """One class of a day's usage.

    ``quantity`` is in tokens where ``is_of_tokens``, else in requests; ``block`` is how many of
    them a price is for, and ``priced`` the quantity in blocks (attos). Prices are never negative.
    ``effective`` and ``billed`` are what the class has of the day's. ``requests`` and
    ``unpriced_requests`` stand on the first part alone, so that they add up.
    """

    meter: str
    quantity: int
    is_of_tokens: bool
    block: int
    priced: int
    list_price: int
    contracted_price: int
    effective: int = 0
    billed: int = 0
    requests: int = 0
    unpriced_requests: int = 0

    @property
    def list_cost(self) -> int:
        """Give list price x priced quantity, in attos; it is a whole number."""
        return self.list_price * self.priced // ATTOS_PER_UNIT

    @property
    def contracted_cost(self) -> int:
        """Give contracted price x priced quantity, in attos; it is a whole number."""
        return self.contracted_price * self.priced // ATTOS_PER_UNIT


SHARE: Final = Part(COMMITMENT, 0, True, PRICED_TOKENS, 0, 0, 0)
"""The part of a share of a commitment: nothing was consumed by it."""


class ExportedUsage(NamedTuple):
    """One part of a day's usage and whose it is; ``account`` and ``invoice_ref`` as on the bill."""

    key: str
    day: Period
    dimensions: DimensionSet
    terms: PriceTerms
    part: Part
    source: CostSource
    account: str
    invoice_ref: str | None = None


@dataclass(frozen=True, slots=True)
class ExportedCharge:
    """A charge that no metered usage stands for; amounts in attos of ``currency``.

    ``period`` is what it is charged for, ``month`` (year * 100 + month) the invoice's. ``tags`` are
    whatever else tells charges apart; ``method`` and ``rule`` say how a share came to its bearer.
    """

    key: str
    provider: str
    account: str
    period: Period
    month: int
    category: ChargeCategory
    billed: int
    listed: int
    currency: str
    source: CostSource
    description: str
    is_correction: bool = False
    project: str | None = None
    model: str | None = None
    usage_type: str | None = None
    invoice_ref: str | None = None
    team: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    rule: str | None = None


def unit_prices(picos: Mapping[str, Fraction], *, tokens: frozenset[str]) -> dict[str, int]:
    """Give prices in attos, rounded half even to twelve decimals, from exact picos a unit.

    A price is for PRICED_TOKENS where the unit is one of ``tokens``, else for one of the unit.
    """
    prices = {}
    for unit, rate in picos.items():
        steps = rate * (PRICED_TOKENS if unit in tokens else 1)
        steps *= Fraction(ATTOS_PER_UNIT, PICOS_PER_UNIT * PRICE_STEP)
        prices[unit] = divide_half_even(steps.numerator, steps.denominator) * PRICE_STEP
    return prices


def take_apart(day: DaySums, terms: PriceTerms, billed_nanos: int | None = None) -> list[Part]:
    """Give the parts of a day in a fixed order; their costs add up to the day's to the nano.

    What the prices do not explain (units that are not rolled up, the rounding of single charges)
    is a part of its own. ``billed_nanos`` is what a closed statement has of the day; None is an
    open month, where what will be invoiced is the contracted cost, and nothing where a commitment
    covers the usage.
    """
    parts = [SHARE] if terms.is_share else _priced_parts(day, terms)
    parts += _unexplained(day, parts)
    parts = parts or [Part(REQUESTS, day.requests, False, 1, 0, 0, 0)]
    if billed_nanos is None:
        is_covered = terms.is_share or terms.commitment is not None
        billed_nanos = 0 if is_covered else day.contracted_nanos
    effective = _spread(day.effective_nanos, day, parts)
    billed = _spread(billed_nanos, day, parts)
    shared = [
        part._replace(effective=own, billed=due)
        for part, own, due in zip(parts, effective, billed, strict=True)
    ]
    unpriced = day.unpriced_requests
    shared[0] = shared[0]._replace(requests=day.requests, unpriced_requests=unpriced)
    return shared


def disjoint_tokens(day: DaySums) -> dict[str, int]:
    """Give the day's tokens, each in one class; totals only where the parts exceed them."""
    classes = {
        "input_tokens": day.input_tokens - day.cached_input_tokens - day.cache_write_tokens,
        "cached_input_tokens": day.cached_input_tokens,
        "cache_write_tokens": day.cache_write_tokens,
        "output_tokens": day.output_tokens - day.reasoning_tokens,
        "reasoning_tokens": day.reasoning_tokens,
    }
    if min(classes.values()) < 0:
        return {"input_tokens": day.input_tokens, "output_tokens": day.output_tokens}
    return classes


class RunningShare:
    """Divides an amount over weights that come one after the other, to the last nano.

    Each share is what the weights so far have earned less what was given before, so the shares add
    up to the amount whenever the weights add up to ``weight``, and nothing has to be remembered.
    """

    __slots__ = ("_nanos", "_seen", "_weight")

    def __init__(self, nanos: int, weight: int) -> None:
        if weight <= 0:
            raise ValueError("a share needs a weight above zero")
        self._nanos, self._weight, self._seen = nanos, weight, 0

    def next(self, weight: int) -> int:
        """Give the share of the next weight in nanos."""
        before = divide_half_even(self._nanos * self._seen, self._weight)
        self._seen += weight
        return divide_half_even(self._nanos * self._seen, self._weight) - before


def _priced_parts(day: DaySums, terms: PriceTerms) -> list[Part]:
    parts = [
        Part(
            unit,
            tokens,
            True,
            PRICED_TOKENS,
            tokens * ATTOS_PER_UNIT // PRICED_TOKENS,
            terms.listed.get(unit, 0),
            terms.contracted.get(unit, 0),
        )
        for unit, tokens in disjoint_tokens(day).items()
        if tokens
    ]
    price, agreed = terms.listed.get(REQUESTS, 0), terms.contracted.get(REQUESTS, 0)
    if day.requests and (price or agreed):
        priced = day.requests * ATTOS_PER_UNIT
        parts.append(Part(REQUESTS, day.requests, False, 1, priced, price, agreed))
    return parts


def _unexplained(day: DaySums, parts: list[Part]) -> list[Part]:
    """Give what the parts lack of the day's costs: none, one, or two where their signs differ.

    The price is for all the requests of the day together.
    """
    listed = day.list_nanos * ATTOS_PER_NANO - sum(part.list_cost for part in parts)
    agreed = day.contracted_nanos * ATTOS_PER_NANO - sum(part.contracted_cost for part in parts)
    if not listed and not agreed:
        return []
    largest = max(abs(listed), abs(agreed))
    is_rounding = bool(parts) and largest <= (day.requests + 1) * MAX_ROUNDING_ATTOS
    meter = ROUNDING if is_rounding else OTHER_UNITS
    is_counted = is_rounding or any(part.meter == REQUESTS for part in parts)
    quantity, block = 0 if is_counted else day.requests, max(day.requests, 1)
    if listed * agreed >= 0:
        sign = -1 if min(listed, agreed) < 0 else 1
        pairs = [(meter, quantity, sign, abs(listed), abs(agreed))]
    else:
        # One quantity cannot make one cost positive and the other negative.
        signs = (1, -1) if listed > 0 else (-1, 1)
        pairs = [
            (meter, quantity, signs[0], abs(listed), 0),
            (f"{meter}_contracted", 0, signs[1], 0, abs(agreed)),
        ]
    return [
        Part(name, count, False, block, sign * ATTOS_PER_UNIT, price, contracted)
        for name, count, sign, price, contracted in pairs
    ]


def _spread(nanos: int, day: DaySums, parts: list[Part]) -> list[int]:
    """Give what each part has of an amount, in attos; exact, by contracted cost."""
    costs = [part.contracted_cost for part in parts]
    if nanos == day.contracted_nanos:
        return costs
    shares = split(nanos, [max(cost, 0) for cost in costs])
    return [share * ATTOS_PER_NANO for share in shares]

"""Which rows apply when: the prices of one (provider, model, tier, region, account) for all time.

It owns the choice of rows, their fallback flags and the folding of contracts; it refuses names
(``price_lists.py``) and quantities (``rating.py``). A ``Schedule`` has the stretches of time in
which the same rows and contracts apply, and in each of them the prices by size of the request.

Nothing falls back in silence. The flags, in this order:

    provider_fallback   the price is that of a provider whose models this one also serves
    alias               the name is a moving one; the model it meant then is priced
    tier_fallback       no row for the service tier; the standard price
    region_fallback     other rows tell this region apart, the one used does not
    context_fallback    standard prices change at this size of request; the rows used do not say
    contract:<id>       each contract that the contracted rates follow
    fx:<currency>@<day> the quote that converts a price in another currency than the ledger's

The first two are earned by the name, and handed in; the last depends on the day of the usage.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from itertools import product
from math import lcm, prod
from typing import Final

from tokenbudget.domain.agreements import (
    Contract,
    Scope,
    agreed_rates,
    agreement_instants,
    contracts_in_force,
)
from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.prices import (
    IDENTITY_DIGITS,
    STANDARD_TIER,
    DailyHours,
    ModelPrices,
    Price,
)
from tokenbudget.domain.usage import TOKEN_UNITS

TOKEN_UNIT_SET: Final = frozenset(TOKEN_UNITS)
ANY_SIZE: Final = -1
RATIO_MARK: Final = "*"
NO_PRICE_AT_TIME: Final = "no_price_at_time"


@dataclass(frozen=True, slots=True)
class UnitRates:
    """What units cost: quantity x rate x numerator / denominator is an amount in exact picos."""

    rates: Mapping[str, int]
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class PriceMatch:
    """The row that applies, how it was come by, and what was agreed about it.

    Published rates of tokens are multiplied by ``numerator / denominator``, which holds the
    multiplier rows and the row's own divisor; what is no token (a search, an hour) by the divisor
    alone. ``contracts`` apply in their order; ``conversion`` is None for a
    row in the ledger currency and for one that nothing converts. ``published`` and ``contracted``
    give amounts in ``currency``: the conversion's where there is one, else the row's own. They are
    one object when there is no contract. ``price_digest`` identifies all of it in every process.
    """

    price: Price
    model: ModelPrices = field(repr=False)
    numerator: int
    denominator: int
    flags: tuple[str, ...]
    contracts: tuple[Contract, ...] = ()
    conversion: Conversion | None = None
    currency: str = field(init=False, repr=False, compare=False)
    published: UnitRates = field(init=False, repr=False, compare=False)
    contracted: UnitRates = field(init=False, repr=False, compare=False)
    price_digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what depends on the fields."""
        currency = self.conversion.into if self.conversion else self.price.currency
        object.__setattr__(self, "currency", currency)
        object.__setattr__(self, "published", _published_rates(self))
        object.__setattr__(self, "contracted", _contracted_rates(self))
        object.__setattr__(self, "price_digest", _price_digest(self))

    def ratio_of(self, unit: str) -> Fraction:
        """Give what the row's rate for a unit is multiplied by, agreements apart."""
        if unit in TOKEN_UNIT_SET:
            return Fraction(self.numerator, self.denominator)
        return Fraction(1, self.price.divisor)


Ladder = tuple[tuple[int, PriceMatch], ...]
"""Matches by exclusive threshold on total input, ascending; empty means there is no price."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time in which the same rows and contracts apply.

    ``clocks`` are the daily hours that tell its rows apart, and ``ladders`` has one ladder for
    each set of clocks that may be on: its index is the binary number whose lowest digit is the
    first clock.
    """

    clocks: tuple[DailyHours, ...]
    ladders: tuple[Ladder, ...]

    def ladder_number(self, instant: datetime) -> int:
        """Give which of the ladders is in force; it changes on whole minutes only."""
        return sum(1 << place for place, clock in enumerate(self.clocks) if clock.contains(instant))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The prices of one (provider, model, tier, region, account) for all time.

    ``spells[i]`` is in force from ``instants[i - 1]`` (included) to ``instants[i]`` (excluded).
    ``absence`` says why there is no price where there is none.
    """

    instants: tuple[datetime, ...]
    spells: tuple[Spell, ...]
    absence: str

    def steps_at(self, occurred_at: datetime) -> Ladder:
        """Give the matches by size of request at that time, empty when there is no price."""
        spell = self.spells[bisect_right(self.instants, occurred_at)]
        return spell.ladders[spell.ladder_number(occurred_at) if spell.clocks else 0]

    def match_at(self, occurred_at: datetime, total_input_tokens: int) -> PriceMatch | None:
        """Give the match for a request of that size at that time, None when it has no price."""
        found = None
        for threshold, match in self.steps_at(occurred_at):
            if total_input_tokens <= threshold:
                break
            found = match
        return found


NO_SPELLS: Final = (Spell((), ((),)),)


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when on (None: since ever) a name means which model."""

    valid_from: datetime | None
    model: ModelPrices


@dataclass(frozen=True, slots=True)
class Question:
    """What a schedule is built for; ``flags`` are those the name has earned already."""

    tier: str
    region: str | None
    flags: tuple[str, ...]
    name: str
    provider: str
    account: str | None
    contracts: tuple[Contract, ...]

    def scope(self, model: ModelPrices) -> Scope:
        """Give what contracts are looked up by."""
        names = frozenset((self.name, model.model.lower()))
        return Scope(self.provider, names, self.account, self.tier, self.region)


def build_schedule(stretches: Sequence[Stretch], question: Question) -> Schedule:
    """Give the prices that answer the question, the name meaning the stretches in order of time."""
    scopes = [question.scope(stretch.model) for stretch in stretches]
    contracts = [item for item in question.contracts if any(map(item.covers, scopes))]
    question = replace(question, contracts=tuple(contracts))
    instants = _instants(stretches, question)
    spells = tuple(_spell(stretches, question, start) for start in (None, *instants))
    return Schedule(instants, spells, NO_PRICE_AT_TIME)


def _instants(stretches: Sequence[Stretch], question: Question) -> tuple[datetime, ...]:
    rows = [row for stretch in stretches for row in stretch.model.prices]
    found = {stretch.valid_from for stretch in stretches}
    found.update(row.valid_from for row in rows)
    found.update(row.valid_to for row in rows)
    found.update(agreement_instants(question.contracts))
    return tuple(sorted(instant for instant in found if instant is not None))


def _spell(stretches: Sequence[Stretch], question: Question, start: datetime | None) -> Spell:
    model = _model_at(stretches, start)
    rows = [row for row in model.prices if row.is_valid_at(start)] if model else []
    rows = [row for row in rows if row.selector.region in (None, question.region)]
    clocks = tuple(dict.fromkeys(row.selector.hours for row in rows if row.selector.hours))
    ladders = []
    for states in product((False, True), repeat=len(clocks)):
        on = {clock for clock, is_on in zip(reversed(clocks), states, strict=True) if is_on}
        active = [row for row in rows if row.selector.hours is None or row.selector.hours in on]
        ladder = _ladder(model, active, question) if model else ()
        ladders.append(tuple((size, _agreed(match, question, start)) for size, match in ladder))
    return Spell(clocks, tuple(ladders))


def convert(match: PriceMatch, conversion: Conversion) -> PriceMatch:
    """Give the match with its amounts in the currency of the conversion."""
    return replace(match, conversion=conversion, flags=(*match.flags, conversion.flag))


def _agreed(match: PriceMatch, question: Question, start: datetime | None) -> PriceMatch:
    """Give the match with the contracts that are in force when the stretch begins."""
    contracts = contracts_in_force(question.contracts, question.scope(match.model), start)
    if not contracts:
        return match
    flags = (*match.flags, *(contract.flag for contract in contracts))
    return replace(match, contracts=contracts, flags=flags)


def _published_rates(match: PriceMatch) -> UnitRates:
    rates, ratio = match.price.unit_rates, Fraction(match.numerator, match.denominator)
    factor = ratio * match.price.divisor
    if factor != 1 and not rates.keys() <= TOKEN_UNIT_SET:
        scales = {True: factor.numerator, False: factor.denominator}
        rates = {unit: rate * scales[unit in TOKEN_UNIT_SET] for unit, rate in rates.items()}
        ratio = Fraction(1, match.price.divisor * factor.denominator)
    ratio *= _conversion_ratio(match)
    return UnitRates(rates, ratio.numerator, ratio.denominator)


def _contracted_rates(match: PriceMatch) -> UnitRates:
    if not match.contracts:
        return match.published
    published = {unit: rate * match.ratio_of(unit) for unit, rate in match.price.rates.items()}
    agreed = agreed_rates(published, match.contracts)
    divisor = lcm(*(rate.denominator for rate in agreed.values()))
    conversion = _conversion_ratio(match) / divisor
    rates = {unit: int(rate * divisor) for unit, rate in agreed.items()}
    return UnitRates(rates, conversion.numerator, conversion.denominator)


def _conversion_ratio(match: PriceMatch) -> Fraction:
    return match.conversion.ratio if match.conversion else Fraction(1)


def _price_digest(match: PriceMatch) -> str:
    digest = match.price.price_ref
    is_agreed = match.contracts or match.conversion
    if is_agreed or match.numerator != match.denominator:
        digest += f"{RATIO_MARK}{match.numerator}/{match.denominator}"
    if is_agreed:
        parts = [contract.contract_ref for contract in match.contracts]
        parts.append(str(match.conversion))
        agreed = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
        digest += RATIO_MARK + agreed[:IDENTITY_DIGITS]
    return digest


def _model_at(stretches: Sequence[Stretch], start: datetime | None) -> ModelPrices | None:
    model = None
    for stretch in stretches:
        if stretch.valid_from is None or (start is not None and stretch.valid_from <= start):
            model = stretch.model
    return model


def _ladder(model: ModelPrices, rows: Sequence[Price], question: Question) -> Ladder:
    multipliers = [row for row in rows if row.times and row.selector.tier in (None, question.tier)]
    groups = _groups(row for row in rows if not row.times)
    wanted = [
        (tier, region)
        for tier in (question.tier, STANDARD_TIER)
        for region in (question.region, None)
    ]
    chosen = next((group for group in wanted if group in groups), None)
    if chosen is None:
        return ()
    priced_tiers = {chosen[0], *(row.selector.tier for row in multipliers)}
    is_regional_elsewhere = any(region == question.region for _, region in groups)
    flags = list(question.flags)
    if question.tier not in priced_tiers:
        flags.append("tier_fallback")
    if chosen[1] != question.region and is_regional_elsewhere:
        flags.append("region_fallback")
    usual = frozenset(size for group in wanted[2:] for size in groups.get(group, ()))
    return _steps(model, groups[chosen], multipliers, flags, usual)


def _groups(rows: Iterable[Price]) -> dict[tuple[str | None, str | None], dict[int, Price]]:
    groups: dict[tuple[str | None, str | None], dict[int, Price]] = {}
    # Later rows replace earlier ones of the same size: a row for these hours beats one for all day.
    for row in sorted(rows, key=lambda row: row.selector.hours is not None):
        group = groups.setdefault((row.selector.tier, row.selector.region), {})
        group[_size(row)] = row
    return groups


def _steps(
    model: ModelPrices,
    rows: dict[int, Price],
    multipliers: Sequence[Price],
    flags: Sequence[str],
    usual_sizes: frozenset[int],
) -> Ladder:
    sizes = {*rows, *usual_sizes, *(_size(row) for row in multipliers)}
    steps = []
    for size in sorted(size for size in sizes if size >= min(rows)):
        own_size = max(own for own in rows if own <= size)
        is_beyond = any(own_size < usual <= size for usual in usual_sizes)
        step_flags = (*flags, "context_fallback") if is_beyond else tuple(flags)
        ratio = _ratio(rows[own_size], [row for row in multipliers if _size(row) <= size])
        steps.append(
            (
                size,
                PriceMatch(rows[own_size], model, ratio.numerator, ratio.denominator, step_flags),
            )
        )
    return tuple(steps)


def _ratio(row: Price, multipliers: Iterable[Price]) -> Fraction:
    factors = (Fraction(*multiplier.times) for multiplier in multipliers if multiplier.times)
    return prod(factors, start=Fraction(1, row.divisor))


def _size(row: Price) -> int:
    return ANY_SIZE if row.selector.above is None else row.selector.above

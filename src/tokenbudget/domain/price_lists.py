"""Which price applies to a usage. It owns matching of names, choice of rows and fallback flags.

It refuses to know rates (``prices.py``) and to rate (``rating.py``). For every (provider, model,
tier, region) asked about, a ``Schedule`` is prepared once: the stretches of time in which the same
rows apply, and in each of them the prices by size of the request. Looking up is then a bisection,
and the vectorised twin in ``frames/`` reads the same schedules.

Nothing falls back in silence. The flags, in this order:

    provider_fallback   the price is that of a provider whose models this one also serves
    alias               the name is a moving one; the model it meant then is priced
    tier_fallback       no row for the service tier; the standard price
    region_fallback     other rows tell this region apart, the one used does not
    context_fallback    standard prices change at this size of request; the rows used do not say

No price at all is a word too: ``provider_unknown``, ``model_unknown`` or ``no_price_at_time``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import product
from math import prod
from typing import Final

from tokenbudget.domain.prices import (
    STANDARD_TIER,
    DailyHours,
    ModelPrices,
    Price,
    ProviderPrices,
    normalise_word,
)

MAX_CACHED_SCHEDULES: Final = 65_536
ANY_SIZE: Final = -1
STANDARD_WORDS: Final = frozenset({"", "standard", "default", "auto", "on_demand"})
NEUTRAL_PREFIXES: Final = frozenset({"models", "publishers"})
COMPACT_DATE: Final = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|\Z)")

PROVIDER_UNKNOWN: Final = "provider_unknown"
MODEL_UNKNOWN: Final = "model_unknown"
NO_PRICE_AT_TIME: Final = "no_price_at_time"


@dataclass(frozen=True, slots=True)
class PriceMatch:
    """The row that applies, and how it was come by.

    Every amount is multiplied by ``numerator / denominator``, which holds the multiplier rows and
    the row's own divisor.
    """

    price: Price
    model: ModelPrices = field(repr=False)
    numerator: int
    denominator: int
    flags: tuple[str, ...]


Ladder = tuple[tuple[int, PriceMatch], ...]
"""Matches by exclusive threshold on total input, ascending; empty means there is no price."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time in which the same rows apply.

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
    """The prices of one (provider, model, tier, region) for all time.

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
class _Stretch:
    """From when on (None: since ever) a name means which model."""

    valid_from: datetime | None
    model: ModelPrices


@dataclass(frozen=True, slots=True)
class _Question:
    """What a ladder is built for; ``flags`` are those the name has earned already."""

    tier: str
    region: str | None
    flags: tuple[str, ...]


class PriceList:
    """A versioned set of prices; what it answers depends on its sources alone.

    ``version`` is the sha256 of the sources. ``currency`` is the ledger's: rows in another one are
    found, but cannot be rated without a conversion. The only thing that changes inside is a
    bounded cache of schedules.
    """

    def __init__(
        self, providers: Sequence[ProviderPrices], *, version: str, currency: str = "USD"
    ) -> None:
        self.providers = tuple(providers)
        self.version = version
        self.currency = currency
        self._matchers = {prices.provider: _Matcher(prices) for prices in self.providers}
        self._provider_by_word = {
            normalise_word(word): prices.provider
            for prices in self.providers
            for word in prices.names
        }
        self._schedules: dict[tuple[str, str, str | None, str | None], Schedule] = {}

    def find(
        self,
        provider: str,
        model: str,
        *,
        occurred_at: datetime,
        service_tier: str | None = None,
        region: str | None = None,
        total_input_tokens: int = 0,
    ) -> PriceMatch | None:
        """Give the row that applies, every fallback flagged; None when there is no price."""
        schedule = self.schedule(provider, model, service_tier, region)
        return schedule.match_at(occurred_at, total_input_tokens)

    def schedule(
        self, provider: str, model: str, service_tier: str | None, region: str | None
    ) -> Schedule:
        """Give the prices of a (provider, model, tier, region) for all time; it is cached."""
        key = (provider, model, service_tier, region)
        schedule = self._schedules.get(key)
        if schedule is None:
            if len(self._schedules) >= MAX_CACHED_SCHEDULES:
                self._schedules.clear()
            schedule = self._schedules[key] = self._build(provider, model, service_tier, region)
        return schedule

    def _build(
        self, provider: str, model: str, service_tier: str | None, region: str | None
    ) -> Schedule:
        matcher = self._matchers.get(self._provider_by_word.get(normalise_word(provider), ""))
        if matcher is None:
            return Schedule((), NO_SPELLS, PROVIDER_UNKNOWN)
        tier = normalise_word(service_tier or "")
        question = _Question(
            tier=STANDARD_TIER if tier in STANDARD_WORDS else tier,
            region=region.strip().lower() if region else None,
            flags=(),
        )
        return self._answer(matcher, model, question)

    def _answer(self, matcher: _Matcher, model: str, question: _Question) -> Schedule:
        stretches, flags = matcher.resolve(model)
        for fallback in () if stretches else matcher.prices.fallback:
            stretches, flags = self._matchers[fallback].resolve(model)
            if stretches:
                flags = ("provider_fallback", *flags)
                break
        if not stretches:
            return Schedule((), NO_SPELLS, MODEL_UNKNOWN)
        return _schedule(stretches, _Question(question.tier, question.region, flags))


class _Matcher:
    """Finds the model of one provider that a name means.

    Exact names come first (its own is one, whatever its patterns), then moving aliases, then
    patterns in the order of the file. A name that nothing answers to is tried again without the
    provider's own prefix and with a compact date spelt with dashes: other spellings of one name.
    """

    def __init__(self, prices: ProviderPrices) -> None:
        self.prices = prices
        self._models = {model.model.lower(): model for model in prices.models}
        self._exact: dict[str, ModelPrices] = {}
        self._patterns: list[tuple[re.Pattern[str], ModelPrices]] = []
        self._prefixes = NEUTRAL_PREFIXES | {normalise_word(word) for word in prices.names}
        for model in prices.models:
            for pattern in model.patterns:
                self._add(pattern, model)
        for name, model in self._models.items():
            self._exact.setdefault(name, model)

    def resolve(self, name: str) -> tuple[tuple[_Stretch, ...], tuple[str, ...]]:
        """Give what the name means over time and the flags it earns; empty when it is unknown."""
        for spelling in _spellings(name.strip().lower(), self._prefixes):
            if spelling in self._exact:
                return (_Stretch(None, self._exact[spelling]),), ()
            if spelling in self.prices.aliases:
                targets = self.prices.aliases[spelling]
                return tuple(
                    _Stretch(target.valid_from, self._models[target.model.lower()])
                    for target in targets
                ), ("alias",)
            for pattern, model in self._patterns:
                if pattern.search(spelling):
                    return (_Stretch(None, model),), ()
        return (), ()

    def _add(self, pattern: str, model: ModelPrices) -> None:
        expression = pattern_expression(pattern)
        if expression is None:
            self._exact.setdefault(pattern, model)
        else:
            self._patterns.append((re.compile(expression), model))


def pattern_expression(pattern: str) -> str | None:
    """Give the regular expression to search with, None when the pattern is an exact name."""
    if len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/"):
        return pattern[1:-1]
    if "*" in pattern:
        return r"\A" + ".*".join(re.escape(part) for part in pattern.split("*")) + r"\Z"
    return None


def _spellings(name: str, prefixes: frozenset[str]) -> Iterator[str]:
    yield name
    bare = name
    while "/" in bare and normalise_word(bare.split("/", 1)[0]) in prefixes:
        bare = bare.split("/", 1)[1]
        yield bare
    dashed = COMPACT_DATE.sub(r"-\1-\2-\3", bare)
    if dashed != bare:
        yield dashed


def _schedule(stretches: Sequence[_Stretch], question: _Question) -> Schedule:
    instants = _instants(stretches)
    spells = tuple(_spell(stretches, question, start) for start in (None, *instants))
    return Schedule(instants, spells, NO_PRICE_AT_TIME)


def _instants(stretches: Sequence[_Stretch]) -> tuple[datetime, ...]:
    rows = [row for stretch in stretches for row in stretch.model.prices]
    found = {stretch.valid_from for stretch in stretches}
    found.update(row.valid_from for row in rows)
    found.update(row.valid_to for row in rows)
    return tuple(sorted(instant for instant in found if instant is not None))


def _spell(stretches: Sequence[_Stretch], question: _Question, start: datetime | None) -> Spell:
    model = _model_at(stretches, start)
    rows = [row for row in model.prices if row.is_valid_at(start)] if model else []
    rows = [row for row in rows if row.selector.region in (None, question.region)]
    clocks = tuple(dict.fromkeys(row.selector.hours for row in rows if row.selector.hours))
    ladders = []
    for states in product((False, True), repeat=len(clocks)):
        on = {clock for clock, is_on in zip(reversed(clocks), states, strict=True) if is_on}
        active = [row for row in rows if row.selector.hours is None or row.selector.hours in on]
        ladders.append(_ladder(model, active, question) if model else ())
    return Spell(clocks, tuple(ladders))


def _model_at(stretches: Sequence[_Stretch], start: datetime | None) -> ModelPrices | None:
    model = None
    for stretch in stretches:
        if stretch.valid_from is None or (start is not None and stretch.valid_from <= start):
            model = stretch.model
    return model


def _ladder(model: ModelPrices, rows: Sequence[Price], question: _Question) -> Ladder:
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

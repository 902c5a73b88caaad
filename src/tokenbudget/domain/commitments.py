"""Capacity paid for by time, used or not: what it covers, what a day costs and who bears it.

It owns commitments (provisioned throughput, and hosts of one's own, which are the same thing); it
refuses SQL and prices by usage. Covered usage keeps its list and contracted cost and has no
effective cost of its own. The fixed cost of each finished UTC day is shared over the usage it
covered, and what nobody used is a line of its own, so that shares and unused add up to the fixed
cost to the nano. Where capacity is known, only the used part is shared; what a quarter-hour used
beyond it may spill, and then costs what it would have cost without the commitment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED, DimensionSet
from tokenbudget.domain.money import divide_half_even, split
from tokenbudget.domain.patterns import answers_to
from tokenbudget.domain.periods import QUARTER_HOUR, Period, Window, to_micros, window_at

COMMITMENT_PREFIX: Final = "commitment:"
COMMITMENT_TAG: Final = "commitment"
KIND_TAG: Final = "kind"
UNUSED: Final = "unused"
SPILLED: Final = "spilled"
MINUTES_PER_QUARTER_HOUR: Final = 15
MICROS: Final = {"hour": 3_600_000_000, "day": 86_400_000_000}


class Per(StrEnum):
    """The time that one price of a commitment pays for; months are those of UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Share(StrEnum):
    """By what the fixed cost is shared.

    ``WEIGHTED_TOKENS`` is by list cost, which weighs each token by its price; ``TOKENS`` by input
    and output tokens; ``GPU_SECONDS`` gives each usage its own GPU-seconds at the host's rate.
    """

    WEIGHTED_TOKENS = "weighted-tokens"
    TOKENS = "tokens"
    GPU_SECONDS = "gpu-seconds"


@dataclass(frozen=True, slots=True)
class Commitment:
    """A fixed cost for a stretch of time and the usage it covers.

    ``covers`` has, by dimension or tag, the patterns of which one must answer, models in lower
    case. ``nanos_per_time`` is what all its units cost for one ``per``, exact, in ``currency``.
    Bounds of validity lie on quarter-hours; ``valid_to`` None means until further notice.
    ``tokens_per_minute`` is what it can carry, None when that is unknown; ``spills`` says that
    usage beyond it is served all the same and paid for as if there were no commitment.
    """

    id: str
    provider: str
    covers: Mapping[str, tuple[str, ...]]
    nanos_per_time: Fraction
    per: Per
    valid_from: datetime
    valid_to: datetime | None = None
    currency: str = "USD"
    share: Share = Share.WEIGHTED_TOKENS
    tokens_per_minute: int | None = None
    spills: bool = False

    def is_in_force(self, instant: datetime) -> bool:
        """Tell whether it holds at the instant."""
        return self.valid_from <= instant and (self.valid_to is None or instant < self.valid_to)

    def part_in_force(self, period: Period) -> Period | None:
        """Give the part of the period in which it holds, None when there is none."""
        start = max(period.start, self.valid_from)
        end = period.end if self.valid_to is None else min(period.end, self.valid_to)
        return Period(start, end) if start < end else None

    def answers(self, dimensions: DimensionSet) -> bool:
        """Tell whether usage with these dimensions is covered, its provider aside."""
        return all(
            any(answers_to(value, pattern) for pattern in patterns)
            for name, patterns in self.covers.items()
            for value in [_spelt(name, dimensions)]
        )


@dataclass(frozen=True, slots=True)
class CoveredUsage:
    """What a commitment covered of one dimension set in one quarter-hour."""

    starts_at: datetime
    dimension_set_id: int
    tokens: int
    list_nanos: int
    contracted_nanos: int


@dataclass(frozen=True, slots=True)
class DayShares:
    """Who bears the fixed cost of a day, in the order of the usage it was shared over.

    ``used`` and ``unused`` add up to the fixed cost; ``spilled`` is what usage beyond capacity
    costs on top of it.
    """

    used: tuple[int, ...]
    spilled: tuple[int, ...]
    unused: int


def find_covering(
    commitments: Iterable[Commitment], provider: str, dimensions: DimensionSet, instant: datetime
) -> Commitment | None:
    """Give the first commitment that covers the usage of a provider, None when none does."""
    for commitment in commitments:
        is_candidate = commitment.provider == provider and commitment.is_in_force(instant)
        if is_candidate and commitment.answers(dimensions):
            return commitment
    return None


def fixed_nanos(commitment: Commitment, period: Period, ratio: Fraction) -> int:
    """Give what the commitment costs in a period of one UTC month, converted by ``ratio``.

    It is what has accrued since the month began, at the end less at the start, each rounded half
    to even: so the days of a month add up to the month whatever they cost.
    """
    month = window_at(Window.MONTH, period.start, "UTC")
    span = MICROS.get(commitment.per, to_micros(month.end) - to_micros(month.start))
    nanos_per_micro = commitment.nanos_per_time * ratio / span
    bounds = [to_micros(bound) - to_micros(month.start) for bound in (period.start, period.end)]
    start, end = (nanos_per_micro * micros for micros in bounds)
    return _rounded(end) - _rounded(start)


def share_out(
    commitment: Commitment, fixed: int, period: Period, usage: Sequence[CoveredUsage]
) -> DayShares:
    """Give how a fixed cost is borne by the usage of a period of whole quarter-hours.

    Without usage it is all unused. By largest remainder, so nothing is lost or made.
    """
    used = _used_nanos(commitment, fixed, period, usage) if usage else 0
    return DayShares(
        used=tuple(split(used, _weights(commitment.share, usage))) if usage else (),
        spilled=_spilled(commitment, usage),
        unused=fixed - used,
    )


def unused_dimensions(commitment: Commitment) -> DimensionSet:
    """Give the dimensions of the line that carries what nobody used."""
    return DimensionSet(
        team=UNALLOCATED,
        provider=commitment.provider,
        model=UNUSED,
        tags={COMMITMENT_TAG: commitment.id, KIND_TAG: UNUSED},
        resolved_by={"team": UNALLOCATED},
    )


def _spelt(name: str, dimensions: DimensionSet) -> str:
    value = dimensions.value(name) or ""
    return value.lower() if name == "model" else value


def _used_nanos(
    commitment: Commitment, fixed: int, period: Period, usage: Sequence[CoveredUsage]
) -> int:
    if commitment.share is Share.GPU_SECONDS:
        return min(fixed, sum(item.list_nanos for item in usage))
    if commitment.tokens_per_minute is None:
        return fixed
    capacity = commitment.tokens_per_minute * MINUTES_PER_QUARTER_HOUR
    carried = sum(min(tokens, capacity) for tokens in _tokens_by_quarter(usage).values())
    quarters = (period.end - period.start) // QUARTER_HOUR
    return divide_half_even(fixed * carried, capacity * quarters)


def _weights(share: Share, usage: Sequence[CoveredUsage]) -> list[int]:
    tokens = [item.tokens for item in usage]
    if share is Share.TOKENS:
        return tokens
    costs = [item.list_nanos for item in usage]
    # Where no list price tells usage apart, a token weighs as much as any other.
    return costs if any(costs) else tokens


def _spilled(commitment: Commitment, usage: Sequence[CoveredUsage]) -> tuple[int, ...]:
    spilled = [0] * len(usage)
    if not commitment.spills or commitment.tokens_per_minute is None:
        return tuple(spilled)
    capacity = commitment.tokens_per_minute * MINUTES_PER_QUARTER_HOUR
    places: dict[datetime, list[int]] = defaultdict(list)
    for place, item in enumerate(usage):
        places[item.starts_at].append(place)
    for starts_at, tokens in _tokens_by_quarter(usage).items():
        if tokens <= capacity:
            continue
        costs = [usage[place].contracted_nanos for place in places[starts_at]]
        beyond = divide_half_even(sum(costs) * (tokens - capacity), tokens)
        for place, nanos in zip(places[starts_at], split(beyond, costs), strict=True):
            spilled[place] = nanos
    return tuple(spilled)


def _tokens_by_quarter(usage: Iterable[CoveredUsage]) -> dict[datetime, int]:
    tokens: dict[datetime, int] = defaultdict(int)
    for item in usage:
        tokens[item.starts_at] += item.tokens
    return tokens


def _rounded(nanos: Fraction) -> int:
    return divide_half_even(nanos.numerator, nanos.denominator)

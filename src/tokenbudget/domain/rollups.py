"""What a rollup measures and how rollups cover time.

It owns grains and segments; it refuses SQL and prices.

Every usage is in a quarter-hour rollup and in a UTC-day rollup. A period is covered by day rollups
for its whole UTC days and by quarter-hour rollups at its edges, so that each usage is counted once
and few rows are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from tokenbudget.domain.periods import EPOCH, QUARTER_HOUR, Period

QUARTER_HOUR_SECONDS: Final = 900
DAY_SECONDS: Final = 86_400
ONE_DAY: Final = timedelta(days=1)

MEASURES: Final = (
    "list_nanos",
    "contracted_nanos",
    "effective_nanos",
    "requests",
    "unpriced_requests",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """The rollups of one grain that start in ``period``; their sums belong to place ``piece``."""

    piece: int
    grain_seconds: int
    period: Period


@dataclass(frozen=True, slots=True)
class RollupSum:
    """The sums of one dimension set in one piece of time, in the order of ``MEASURES``."""

    piece: int
    dimension_set_id: int
    sums: tuple[int, ...]


def cover(periods: Iterable[Period]) -> list[Segment]:
    """Give the segments that cover each period exactly; ``piece`` is the period's place."""
    return [
        Segment(piece, grain_seconds, part)
        for piece, period in enumerate(periods)
        for grain_seconds, part in _parts(period)
    ]


def quarter_hour_at(instant: datetime) -> datetime:
    """Give the start of the quarter-hour of UTC that holds the instant."""
    return instant - (instant - EPOCH) % QUARTER_HOUR


def _parts(period: Period) -> list[tuple[int, Period]]:
    first_midnight = _midnight_at(period.start + ONE_DAY - timedelta.resolution)
    last_midnight = _midnight_at(period.end)
    if first_midnight >= last_midnight:
        return [(QUARTER_HOUR_SECONDS, period)]
    bounds = (
        (QUARTER_HOUR_SECONDS, period.start, first_midnight),
        (DAY_SECONDS, first_midnight, last_midnight),
        (QUARTER_HOUR_SECONDS, last_midnight, period.end),
    )
    return [(grain, Period(start, end)) for grain, start, end in bounds if start < end]


def _midnight_at(instant: datetime) -> datetime:
    return datetime.combine(instant.astimezone(UTC).date(), time(), tzinfo=UTC)

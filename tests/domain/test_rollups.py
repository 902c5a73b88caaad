"""How rollups of two grains cover time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import (
    DAY_SECONDS,
    QUARTER_HOUR_SECONDS,
    Segment,
    cover,
    quarter_hour_at,
)

MIDNIGHT = datetime(2026, 11, 10, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (
            Period(MIDNIGHT, MIDNIGHT + 3 * DAY),
            [(DAY_SECONDS, Period(MIDNIGHT, MIDNIGHT + 3 * DAY))],
        ),
        (
            Period(MIDNIGHT + HOUR, MIDNIGHT + DAY + HOUR),
            [(QUARTER_HOUR_SECONDS, Period(MIDNIGHT + HOUR, MIDNIGHT + DAY + HOUR))],
        ),
        (
            Period(MIDNIGHT - HOUR, MIDNIGHT + DAY + HOUR),
            [
                (QUARTER_HOUR_SECONDS, Period(MIDNIGHT - HOUR, MIDNIGHT)),
                (DAY_SECONDS, Period(MIDNIGHT, MIDNIGHT + DAY)),
                (QUARTER_HOUR_SECONDS, Period(MIDNIGHT + DAY, MIDNIGHT + DAY + HOUR)),
            ],
        ),
    ],
)
def test_whole_days_come_from_day_rollups_and_edges_from_quarter_hours(
    period: Period, expected: list[tuple[int, Period]]
) -> None:
    assert cover([period]) == [Segment(0, grain, part) for grain, part in expected]


@given(st.integers(0, 3_000), st.integers(1, 3_000))
def test_segments_tile_the_period(first: int, length: int) -> None:
    start = MIDNIGHT + first * timedelta(minutes=15)
    period = Period(start, start + length * timedelta(minutes=15))

    segments = cover([period])

    bounds = [segment.period.start for segment in segments] + [segments[-1].period.end]
    assert (bounds[0], bounds[-1]) == (period.start, period.end)
    assert [segment.period.end for segment in segments] == bounds[1:]


def test_a_quarter_hour_holds_its_start_and_not_its_end() -> None:
    assert quarter_hour_at(MIDNIGHT) == MIDNIGHT
    assert quarter_hour_at(MIDNIGHT - timedelta.resolution) == MIDNIGHT - timedelta(minutes=15)

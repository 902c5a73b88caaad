"""Weeks by name and the stretches pages compare."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.domain.spans import (
    days_before,
    last_complete_week,
    last_days,
    month_before,
    parse_week,
    week_before,
    week_name,
)

WEEK_46 = Period(datetime(2026, 11, 9, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC))
FRIDAY = datetime(2026, 11, 20, 12, 7, tzinfo=UTC)


def test_a_week_is_read_and_written_by_its_iso_name() -> None:
    assert parse_week("2026-W46", "UTC") == WEEK_46
    assert week_name(WEEK_46, "UTC") == "2026-W46"


def test_a_week_is_cut_in_its_zone() -> None:
    week = parse_week("2026-W46", "America/New_York")

    assert week.start == datetime(2026, 11, 9, 5, tzinfo=UTC)
    assert week_name(week, "America/New_York") == "2026-W46"


def test_a_week_with_a_clock_change_is_longer() -> None:
    week = parse_week("2026-W44", "America/New_York")

    assert (week.end - week.start).total_seconds() == 169 * 3600


def test_the_first_week_of_a_year_may_begin_in_the_year_before() -> None:
    assert parse_week("2026-W01", "UTC").start == datetime(2025, 12, 29, tzinfo=UTC)
    assert parse_week("2026-W53", "UTC").start == datetime(2026, 12, 28, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2025-W53", "2026-W00", "2026-46", "W46", "2026-w46", "0001-W01"])
def test_any_other_text_names_the_rule(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not an ISO week such as 2026-W46"):
        parse_week(text, "UTC")


def test_the_last_complete_week_is_over() -> None:
    assert last_complete_week(FRIDAY, "UTC") == WEEK_46
    assert last_complete_week(WEEK_46.end, "UTC") == WEEK_46


def test_the_week_and_the_month_before_end_where_this_one_starts() -> None:
    november = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))

    assert week_before(WEEK_46, "UTC").end == WEEK_46.start
    assert month_before(november, "UTC").start == datetime(2026, 10, 1, tzinfo=UTC)


def test_the_last_days_end_with_today_in_full() -> None:
    assert last_days(FRIDAY, 7, "UTC") == Period(
        datetime(2026, 11, 14, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    )


def test_the_days_before_end_at_the_same_time_of_day() -> None:
    assert days_before(FRIDAY, 7, "UTC") == Period(
        datetime(2026, 11, 7, tzinfo=UTC), datetime(2026, 11, 13, 12, tzinfo=UTC)
    )


def test_the_days_before_follow_the_wall_clock_across_a_change() -> None:
    now = datetime(2026, 11, 3, 15, tzinfo=UTC)

    before = days_before(now, 7, "America/New_York")

    assert before == Period(
        datetime(2026, 10, 21, 4, tzinfo=UTC), datetime(2026, 10, 27, 14, tzinfo=UTC)
    )

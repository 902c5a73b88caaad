"""Periods are half-open, cut in a zone, given in UTC, and leave neither gap nor overlap."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import (
    Period,
    Window,
    format_instant,
    from_micros,
    parse_instant,
    to_micros,
    window_at,
    windows_between,
    zone,
)

ZONES = (
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Europe/Berlin",
    "Africa/Cairo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
)
instants = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 - the strategy takes naive bounds
    max_value=datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def test_a_period_includes_its_start_and_excludes_its_end() -> None:
    noon_hour = Period(utc(2026, 11, 20, 12), utc(2026, 11, 20, 13))

    assert noon_hour.contains(utc(2026, 11, 20, 12))
    assert not noon_hour.contains(utc(2026, 11, 20, 13))
    assert not noon_hour.contains(utc(2026, 11, 20, 11, 59))


def test_a_period_needs_aware_bounds() -> None:
    naive = datetime(2026, 11, 20)  # noqa: DTZ001 - the naive time is what is refused

    with pytest.raises(ValueError, match="aware"):
        Period(naive, utc(2026, 11, 21))
    with pytest.raises(ValueError, match="aware"):
        Period(utc(2026, 11, 19), naive)


def test_a_period_must_end_after_it_starts() -> None:
    with pytest.raises(ValueError, match="must end after it starts"):
        Period(utc(2026, 11, 20), utc(2026, 11, 20))


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "America", "a\x00b"])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not an IANA zone") as refusal:
        zone(name)

    assert refusal.value.facts == {"field": "timezone"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T12:00:00Z", utc(2026, 11, 20, 12)),
        (
            "2026-11-20T12:00:00.250000+05:30",
            utc(2026, 11, 20, 6, 30, 0).replace(microsecond=250_000),
        ),
    ],
)
def test_an_rfc_3339_text_becomes_utc(text: str, expected: datetime) -> None:
    instant = parse_instant(text, field="occurred_at")

    assert instant == expected
    assert instant.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("yesterday", "occurred_at 'yesterday' is not an RFC 3339 time"),
        ("2026-11-20T12:00:00", "occurred_at '2026-11-20T12:00:00' has no UTC offset"),
        ("2026-02-30T12:00:00Z", "occurred_at '2026-02-30T12:00:00Z' is not an RFC 3339 time"),
        ("0001-01-01T00:00:00+05:00", "occurred_at '0001-01-01T00:00:00+05:00' is out of range"),
    ],
)
def test_a_text_that_is_no_instant_is_refused_by_name_and_rule(text: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_instant(text, field="occurred_at")

    assert refusal.value.detail == rule
    assert refusal.value.facts == {"field": "occurred_at"}


def test_an_instant_is_written_in_utc_with_z() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))

    assert format_instant(datetime(2026, 11, 20, 12, tzinfo=kolkata)) == "2026-11-20T06:30:00Z"
    assert (
        format_instant(utc(2026, 11, 20, 12, 0, 0).replace(microsecond=5))
        == "2026-11-20T12:00:00.000005Z"
    )


def test_micros_count_from_the_epoch() -> None:
    assert to_micros(utc(1970, 1, 2, 0, 0, 1).replace(microsecond=5)) == 86_401_000_005
    assert to_micros(utc(1969, 12, 31, 23, 59, 59)) == -1_000_000
    assert from_micros(86_401_000_005) == utc(1970, 1, 2, 0, 0, 1).replace(microsecond=5)


@pytest.mark.parametrize(
    "use",
    [to_micros, format_instant, lambda value: window_at(Window.DAY, value, "UTC")],
    ids=["to_micros", "format_instant", "window_at"],
)
def test_a_naive_datetime_has_no_place(use: object) -> None:
    naive = datetime(2026, 11, 20)  # noqa: DTZ001 - the naive time is what is refused

    assert callable(use)
    with pytest.raises(ValueError, match="naive"):
        use(naive)


@given(instants)
def test_micros_and_text_both_give_the_instant_back(instant: datetime) -> None:
    assert from_micros(to_micros(instant)) == instant
    assert parse_instant(format_instant(instant), field="occurred_at") == instant


@pytest.mark.parametrize(
    ("window", "zone_name", "start", "end"),
    [
        (Window.MINUTE, "UTC", utc(2026, 11, 20, 12, 45), utc(2026, 11, 20, 12, 46)),
        (Window.MINUTE, "Asia/Kolkata", utc(2026, 11, 20, 12, 45), utc(2026, 11, 20, 12, 46)),
        (Window.HOUR, "UTC", utc(2026, 11, 20, 12), utc(2026, 11, 20, 13)),
        (Window.HOUR, "Asia/Kolkata", utc(2026, 11, 20, 12, 30), utc(2026, 11, 20, 13, 30)),
        (Window.DAY, "UTC", utc(2026, 11, 20), utc(2026, 11, 21)),
        (Window.DAY, "America/New_York", utc(2026, 11, 20, 5), utc(2026, 11, 21, 5)),
        (Window.WEEK, "UTC", utc(2026, 11, 16), utc(2026, 11, 23)),
        (Window.MONTH, "UTC", utc(2026, 11, 1), utc(2026, 12, 1)),
        (Window.MONTH, "America/New_York", utc(2026, 11, 1, 4), utc(2026, 12, 1, 5)),
        (Window.QUARTER, "UTC", utc(2026, 10, 1), utc(2027, 1, 1)),
        (Window.YEAR, "Asia/Kolkata", utc(2025, 12, 31, 18, 30), utc(2026, 12, 31, 18, 30)),
    ],
)
def test_each_window_is_cut_in_its_zone(
    window: Window, zone_name: str, start: datetime, end: datetime
) -> None:
    assert window_at(window, utc(2026, 11, 20, 12, 45), zone_name) == Period(start, end)


def test_a_minute_begins_with_its_first_second() -> None:
    instant = utc(2026, 11, 20, 12, 45, 59).replace(microsecond=999_999)

    minute = window_at(Window.MINUTE, instant, "UTC")

    assert minute == Period(utc(2026, 11, 20, 12, 45), utc(2026, 11, 20, 12, 46))
    with pytest.raises(ValueError, match="naive"):
        window_at(Window.MINUTE, instant.replace(tzinfo=None), "UTC")


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25)])
def test_a_day_of_a_clock_change_lasts_23_or_25_hours(day: date, hours: int) -> None:
    noon = datetime(day.year, day.month, day.day, 17, tzinfo=UTC)

    local_day = window_at(Window.DAY, noon, "America/New_York")

    assert local_day.end - local_day.start == timedelta(hours=hours)


def test_an_hour_that_happens_twice_is_two_windows() -> None:
    first = window_at(Window.HOUR, utc(2026, 11, 1, 5, 30), "America/New_York")
    second = window_at(Window.HOUR, utc(2026, 11, 1, 6, 30), "America/New_York")

    assert first == Period(utc(2026, 11, 1, 5), utc(2026, 11, 1, 6))
    assert second == Period(utc(2026, 11, 1, 6), utc(2026, 11, 1, 7))


def test_a_half_hour_clock_change_shortens_the_hour_it_falls_in() -> None:
    # Lord Howe moved from +10:30 to +11:00 at 2026-10-03T15:30Z: 02:00 on the wall became 02:30.
    before = window_at(Window.HOUR, utc(2026, 10, 3, 15, 20), "Australia/Lord_Howe")
    after = window_at(Window.HOUR, utc(2026, 10, 3, 15, 45), "Australia/Lord_Howe")

    assert before == Period(utc(2026, 10, 3, 14, 30), utc(2026, 10, 3, 15, 30))
    assert after == Period(utc(2026, 10, 3, 15, 30), utc(2026, 10, 3, 16))


def test_a_half_hour_gained_is_an_hour_of_its_own() -> None:
    # It moved back at 2026-04-04T15:00Z: 02:00 on the wall became 01:30.
    gained = window_at(
        Window.HOUR, utc(2026, 4, 4, 15, 10, 0).replace(microsecond=7), "Australia/Lord_Howe"
    )
    before = window_at(Window.HOUR, utc(2026, 4, 4, 14, 50), "Australia/Lord_Howe")

    assert gained == Period(utc(2026, 4, 4, 15), utc(2026, 4, 4, 15, 30))
    assert before == Period(utc(2026, 4, 4, 14), utc(2026, 4, 4, 15))


def test_the_windows_of_a_period_may_reach_beyond_it() -> None:
    period = Period(utc(2026, 11, 20, 12), utc(2026, 11, 22, 1))

    days = list(windows_between(Window.DAY, period, "UTC"))

    assert days == [
        Period(utc(2026, 11, 20), utc(2026, 11, 21)),
        Period(utc(2026, 11, 21), utc(2026, 11, 22)),
        Period(utc(2026, 11, 22), utc(2026, 11, 23)),
    ]


def test_a_window_that_starts_where_the_period_ends_is_left_out() -> None:
    period = Period(utc(2026, 11, 20), utc(2026, 11, 21))

    assert list(windows_between(Window.DAY, period, "UTC")) == [period]


@given(st.sampled_from(Window), instants, st.sampled_from(ZONES))
def test_a_window_holds_its_instant_and_is_the_same_for_all_of_them(
    window: Window, instant: datetime, zone_name: str
) -> None:
    found = window_at(window, instant, zone_name)

    assert found.contains(instant)
    assert window_at(window, found.start, zone_name) == found
    assert window_at(window, found.end - timedelta(microseconds=1), zone_name) == found


@given(st.sampled_from([Window.HOUR, Window.DAY]), instants, st.sampled_from(ZONES))
def test_windows_tile_a_span_across_clock_changes(
    window: Window, start: datetime, zone_name: str
) -> None:
    span = Period(start, start + timedelta(days=3))

    tiles = list(windows_between(window, span, zone_name))

    assert all(earlier.end == later.start for earlier, later in pairwise(tiles))
    assert tiles[0].contains(span.start)
    assert tiles[-1].start < span.end <= tiles[-1].end


@pytest.mark.parametrize("first_month", range(1, 13))
@pytest.mark.parametrize("window", [Window.QUARTER, Window.YEAR])
def test_fiscal_windows_tile_the_years_and_one_begins_with_the_first_month(
    window: Window, first_month: int
) -> None:
    instant, end = utc(2024, 1, 1), utc(2029, 1, 1)
    starts = []
    while instant < end:
        period = window_at(window, instant, "America/New_York", first_month)
        assert period.contains(instant)
        starts.append(period.start.astimezone(zone("America/New_York")))
        instant = period.end

    assert {(start.day, start.hour) for start in starts} == {(1, 0)}
    assert first_month in {start.month for start in starts}
    assert len({start.month for start in starts}) == (4 if window is Window.QUARTER else 1)

"""Time as half-open intervals. It owns windows in a zone; it refuses naive times and the clock.

All instants are aware UTC datetimes. A calendar window is cut in an IANA zone and given in UTC, so
a day may last 23 or 25 hours.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tokenbudget.domain.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
QUARTER_HOUR = timedelta(minutes=15)
MONTHS_PER_YEAR = 12
DAYS_PER_WEEK = 7


class Window(StrEnum):
    """The calendar windows a budget or a query may use; weeks are ISO weeks (Monday first)."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


MONTHS_OF = {Window.MONTH: 1, Window.QUARTER: 3, Window.YEAR: MONTHS_PER_YEAR}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The instants from ``start`` (included) to ``end`` (excluded), both aware UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Reject naive or reversed bounds."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a period needs aware datetimes")
        if self.start >= self.end:
            raise ValueError("a period must end after it starts")

    def contains(self, instant: datetime) -> bool:
        """Tell whether the instant lies in the period."""
        return self.start <= instant < self.end


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo:
    """Give the IANA zone; raises InvalidInput for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(f"timezone {name!r} is not an IANA zone", field="timezone") from None


@lru_cache(maxsize=4096)
def parse_instant(text: str, *, field: str) -> datetime:
    """Give the aware UTC datetime of an RFC 3339 text; raises InvalidInput for any other text."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{field} {text!r} is not an RFC 3339 time", field=field) from None
    if value.tzinfo is None:
        raise InvalidInput(f"{field} {text!r} has no UTC offset", field=field)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{field} {text!r} is out of range", field=field) from None


@lru_cache(maxsize=4096)
def format_instant(value: datetime) -> str:
    """Give RFC 3339 in UTC, such as ``2026-11-20T12:00:00Z``; a naive value is a ValueError."""
    return _require_aware(value).astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_micros(value: datetime) -> int:
    """Give whole microseconds since 1970-01-01T00:00Z; a naive value is a ValueError."""
    delta = _require_aware(value) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """Give the aware UTC datetime for microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=micros)


def window_at(window: Window, instant: datetime, zone_name: str, first_month: int = 1) -> Period:
    """Give the calendar window of the zone that holds the instant; naive is a ValueError.

    Years begin with ``first_month``, as fiscal ones may, and quarters divide them.
    Hours are cut on the zone's wall clock. Where its offset moves by less than an hour, the hours
    on either side of the move are shorter than sixty minutes.
    """
    tz = zone(zone_name)
    if window is Window.MINUTE:
        return _minute_at(_require_aware(instant))
    local = _require_aware(instant).astimezone(tz)
    if window is Window.HOUR:
        return _hour_at(local, tz)
    first, after = _day_bounds(window, local.date(), first_month)
    return Period(_midnight(first, tz), _midnight(after, tz))


def windows_between(window: Window, period: Period, zone_name: str) -> Iterator[Period]:
    """Give the windows that touch the period, in order; the outer ones may reach beyond it."""
    current = window_at(window, period.start, zone_name)
    while current.start < period.end:
        yield current
        current = window_at(window, current.end, zone_name)


def _require_aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a naive datetime has no place in the ledger")
    return value


def _minute_at(instant: datetime) -> Period:
    # Offsets have been whole minutes for longer than there are ledgers.
    start = instant.astimezone(UTC).replace(second=0, microsecond=0)
    return Period(start, start + timedelta(minutes=1))


def _hour_at(local: datetime, tz: ZoneInfo) -> Period:
    instant = local.astimezone(UTC)
    into_hour = timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    start = instant - into_hour
    end = start + timedelta(hours=1)
    change_before = _offset_change(start, instant, tz)
    change_after = _offset_change(instant, end, tz)
    return Period(change_before or start, change_after or end)


def _offset_change(first: datetime, last: datetime, tz: ZoneInfo) -> datetime | None:
    """Give the whole second in (first, last] at which the zone's offset moves, or None."""
    offset = first.astimezone(tz).utcoffset()
    if last.astimezone(tz).utcoffset() == offset:
        return None
    seconds = range(1, math.ceil((last - first) / SECOND) + 1)
    moved = bisect_left(
        seconds,
        True,
        key=lambda second: (first + second * SECOND).astimezone(tz).utcoffset() != offset,
    )
    return (first + seconds[moved] * SECOND).replace(microsecond=0)


def _day_bounds(window: Window, day: date, first_month: int) -> tuple[date, date]:
    if window is Window.DAY:
        return day, day + timedelta(days=1)
    if window is Window.WEEK:
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=DAYS_PER_WEEK)
    months = MONTHS_OF[window]
    into_window = (day.month - first_month) % months
    first = _add_months(day.replace(day=1), -into_window)
    return first, _add_months(first, months)


def _add_months(first: date, months: int) -> date:
    year, month = divmod(first.year * MONTHS_PER_YEAR + first.month - 1 + months, MONTHS_PER_YEAR)
    return date(year, month + 1, 1)


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)

"""Stretches of time that reports and pages name.

It owns ISO weeks, the last days, and what each is compared with.

It refuses the clock: now is handed in.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period, Window, window_at, zone
from tokenbudget.domain.rollups import quarter_hour_at

WEEK_NAME: Final = re.compile(r"([12]\d{3})-W(\d{2})")
MIDDAY_HOURS: Final = 12
MOMENT: Final = timedelta(microseconds=1)


def parse_week(text: str, timezone: str) -> Period:
    """Give the ISO week of a name such as ``2026-W46``, cut in the zone.

    Raises InvalidInput for any other text.
    """
    named = WEEK_NAME.fullmatch(text)
    try:
        monday = date.fromisocalendar(int(named[1]), int(named[2]), 1) if named else None
    except ValueError:
        monday = None
    if monday is None:
        raise InvalidInput(f"week {text!r} is not an ISO week such as 2026-W46", field="week")
    midday = datetime(monday.year, monday.month, monday.day, MIDDAY_HOURS, tzinfo=zone(timezone))
    return window_at(Window.WEEK, midday, timezone)


def week_name(period: Period, timezone: str) -> str:
    """Give the ISO name of the zone's week that holds the period's start: ``2026-W46``."""
    calendar = period.start.astimezone(zone(timezone)).isocalendar()
    return f"{calendar.year}-W{calendar.week:02d}"


def week_before(period: Period, timezone: str) -> Period:
    """Give the ISO week that ends where this one starts."""
    return window_at(Window.WEEK, period.start - MOMENT, timezone)


def month_before(period: Period, timezone: str) -> Period:
    """Give the calendar month that ends where this one starts."""
    return window_at(Window.MONTH, period.start - MOMENT, timezone)


def last_complete_week(now: datetime, timezone: str) -> Period:
    """Give the latest ISO week of the zone that is over at ``now``."""
    return week_before(window_at(Window.WEEK, now, timezone), timezone)


def last_days(now: datetime, days: int, timezone: str) -> Period:
    """Give so many days of the zone, the last of which is today in full."""
    return Period(_midnight(now, days - 1, timezone), window_at(Window.DAY, now, timezone).end)


def days_before(now: datetime, days: int, timezone: str) -> Period:
    """Give what ``last_days`` has until now, so many (at least two) days earlier.

    It ends at the same time of day as now, down to the quarter-hour, so that a day under way is
    compared with as much of an earlier one.
    """
    same_time = (now.astimezone(zone(timezone)) - timedelta(days=days)).astimezone(UTC)
    return Period(_midnight(now, 2 * days - 1, timezone), quarter_hour_at(same_time))


def _midnight(now: datetime, days: int, timezone: str) -> datetime:
    """Give the start of the day of the zone that lies so many days before today."""
    tz = zone(timezone)
    day = now.astimezone(tz).date() - timedelta(days=days)
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)

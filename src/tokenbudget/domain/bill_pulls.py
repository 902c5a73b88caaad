"""Which days of a provider's reports are read, and when they are to be read again.

It owns the rule; it refuses the clock, the network and what a report says. Days are UTC days, as
providers bill. No provider promises that a day is final, so the recent ones are read again on every
pull, and so is the month before until its invoice is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tokenbudget.domain.periods import Period, Window, window_at

UTC_ZONE: Final = "UTC"
ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PullTerms:
    """What is read again: ``restated_days`` back from today, and the whole month before.

    The month before is read up to and including the day ``invoice_day`` of the month after.
    """

    restated_days: int = 7
    invoice_day: int = 10


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far one report was read: the end of its last whole day, and when a pull was complete."""

    pulled_until: datetime
    pulled_at: datetime


def period_to_read(terms: PullTerms, progress: PullProgress | None, *, now: datetime) -> Period:
    """Give the days to read: from the first that is new or may be restated until today began.

    Today is left out, since a day that is half told looks like one that was over-counted. The first
    pull of all begins with the month before this one.
    """
    today = window_at(Window.DAY, now, UTC_ZONE)
    month = window_at(Window.MONTH, now, UTC_ZONE)
    month_before = window_at(Window.MONTH, month.start - ONE_DAY, UTC_ZONE)
    starts = [today.start - terms.restated_days * ONE_DAY]
    if progress is None or now.day <= terms.invoice_day:
        starts.append(month_before.start)
    if progress is not None:
        starts.append(progress.pulled_until)
    return Period(min(starts), today.start)


def is_due(progress: PullProgress | None, *, now: datetime, interval: timedelta) -> bool:
    """Tell whether a report is to be read: never yet, not to its end, or an interval ago."""
    if progress is None or now - progress.pulled_at >= interval:
        return True
    # An unfinished first pull is days behind; a finished one ends with yesterday or the day before.
    return progress.pulled_until + ONE_DAY < window_at(Window.DAY, now, UTC_ZONE).start


def is_stale(progress: PullProgress | None, *, now: datetime, limit: timedelta) -> bool:
    """Tell whether a report was never read, or last to its end longer ago than the limit."""
    return progress is None or now - progress.pulled_at > limit

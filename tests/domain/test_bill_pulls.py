"""Which days a pull reads, and when a report is due or stale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tokenbudget.domain.bill_pulls import (
    PullProgress,
    PullTerms,
    is_due,
    is_stale,
    period_to_read,
)
from tokenbudget.domain.periods import Period

NOON = timedelta(hours=12)
INTERVAL = timedelta(hours=6)


def day(text: str) -> datetime:
    """Give the beginning of a day of 2026 or the year named, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "until", "first"),
    [
        # Never read: the month before, whatever day it is.
        ("2026-09-20", None, "2026-08-01"),
        # Up to date: seven days back.
        ("2026-09-20", "2026-09-19", "2026-09-13"),
        # Behind: from where it stopped.
        ("2026-09-20", "2026-09-02", "2026-09-02"),
        # Until the tenth the invoice of the month before may be to come.
        ("2026-09-10", "2026-09-09", "2026-08-01"),
        ("2026-09-11", "2026-09-10", "2026-09-04"),
        ("2026-09-10", "2026-07-30", "2026-07-30"),
        # Across a year.
        ("2027-01-05", "2027-01-04", "2026-12-01"),
    ],
)
def test_a_pull_reads_what_is_new_and_what_may_be_restated(
    now: str, until: str | None, first: str
) -> None:
    progress = None if until is None else PullProgress(day(until), day(until))

    period = period_to_read(PullTerms(), progress, now=day(now) + NOON)

    assert period == Period(day(first), day(now))


def test_the_days_and_the_invoice_day_are_terms() -> None:
    terms = PullTerms(restated_days=3, invoice_day=0)

    period = period_to_read(
        terms, PullProgress(day("2026-09-01"), day("2026-09-01")), now=day("2026-09-02")
    )

    assert period == Period(day("2026-08-30"), day("2026-09-02"))


def test_a_report_is_due_when_its_last_whole_pull_is_an_interval_ago() -> None:
    progress = PullProgress(day("2026-09-20"), day("2026-09-20"))

    assert is_due(None, now=day("2026-09-20"), interval=INTERVAL)
    assert not is_due(progress, now=day("2026-09-20") + timedelta(hours=5), interval=INTERVAL)
    assert is_due(progress, now=day("2026-09-20") + INTERVAL, interval=INTERVAL)


def test_a_report_that_is_days_behind_is_due_at_once() -> None:
    pulled_at = day("2026-09-20") + NOON
    now = pulled_at + timedelta(minutes=1)

    assert is_due(PullProgress(day("2026-09-18"), pulled_at), now=now, interval=INTERVAL)
    assert not is_due(PullProgress(day("2026-09-19"), pulled_at), now=now, interval=INTERVAL)


def test_a_report_is_stale_when_it_was_never_read_or_long_ago() -> None:
    progress = PullProgress(day("2026-09-20"), day("2026-09-20"))
    limit = timedelta(hours=24)

    assert is_stale(None, now=day("2026-09-20"), limit=limit)
    assert not is_stale(progress, now=day("2026-09-21"), limit=limit)
    assert is_stale(progress, now=day("2026-09-21") + timedelta(seconds=1), limit=limit)

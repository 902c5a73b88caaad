"""Pulling what providers bill and what they say was used, and storing what has changed.

It owns which days are read, that a day said again stores nothing, and progress that survives a
kill. It refuses requests (``provider_requests.py``), shapes (``formats/bill_requests.py``) and what
an import supersedes (``bills.py``). A day is stored in a transaction of its own and its progress is
noted after it: whoever goes on after a kill reads at most that day again, and finds it unchanged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog

from tokenbudget.domain.bill_pulls import (
    ONE_DAY,
    UTC_ZONE,
    PullProgress,
    PullTerms,
    is_due,
    is_stale,
    period_to_read,
)
from tokenbudget.domain.errors import (
    ConfigurationError,
    InvalidInput,
    TokenbudgetError,
    Unavailable,
)
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.reconciliation import ZERO, add_exactly
from tokenbudget.formats.bill_digests import digest_entries
from tokenbudget.formats.bill_requests import AdminApi, DayBucket, Report, read_entries
from tokenbudget.formats.bills.lines import BillEntry, EmptyPeriod
from tokenbudget.services.bill_doubles import warn_of_period
from tokenbudget.services.bills import BillImport, PulledEntries, import_entries
from tokenbudget.services.provider_requests import ProviderClient
from tokenbudget.store import bill_pulls as store
from tokenbudget.store.db import Database

ACCOUNT_TAG: Final = "x_account"
WINDOW_DAYS: Final = 31
"""One query asks for so many days at most, a few pages at a time."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullOrder:
    """What to pull: for which account and, where they are named, from and until which day.

    Everything pulled belongs to ``account``, whatever a report calls it, so that a report that
    begins to name its organisation is not taken for a second one. Days named here are read whether
    or not they were before; ``end`` is excluded.
    """

    account: str = ""
    terms: PullTerms = field(default_factory=PullTerms)
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class PullSchedule:
    """What a server pulls by itself: how often, and from which age on it says that it is late."""

    order: PullOrder
    interval: timedelta
    stale_after: timedelta


@dataclass(frozen=True, slots=True)
class PulledReport:
    """What came of one report.

    ``changed_days`` of the ``days`` read said something new; ``line_count``, ``superseded_lines``
    and the exact ``totals`` by currency are of those. ``failure`` is why it ended early; the days
    before are stored. ``warnings`` tell of days that seem to count twice, if any day has changed.
    """

    source: str
    account: str
    period: Period
    days: int
    changed_days: int
    line_count: int
    superseded_lines: int
    totals: Mapping[str, Decimal]
    failure: TokenbudgetError | None = None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tally:
    days: int = 0
    changed_days: int = 0
    line_count: int = 0
    superseded_lines: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)

    def count(self, stored: BillImport | None) -> None:
        self.days += 1
        if stored is None or not stored.is_new:
            return
        self.changed_days += 1
        self.line_count += stored.line_count
        self.superseded_lines += stored.superseded_lines
        for currency, total in stored.totals.items():
            self.totals[currency] = add_exactly(self.totals.get(currency, ZERO), total)


@dataclass(frozen=True, slots=True)
class _Pull:
    """One report on its way into the ledger."""

    database: Database
    report: Report
    account: str
    now: datetime

    @property
    def source(self) -> str:
        return self.report.source

    def name_of(self, day: datetime) -> str:
        """Give the name under which every telling of a day is kept."""
        parts = (self.source, self.account, day.date().isoformat())
        return "/".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What is known of the days of a window.

    The digests of each day's tellings with the ids of their imports, by name, and the imports that
    are in force by day.
    """

    tellings: Mapping[str, Mapping[str, str]]
    in_force: Mapping[date, set[str]]


def pull_bills(
    database: Database, client: ProviderClient, order: PullOrder, *, now: datetime
) -> list[PulledReport]:
    """Give what came of every report of a provider, in their order.

    A report that fails keeps none of the others from being read. Raises ConfigurationError when the
    key is refused, and InvalidInput for days that cannot be read.
    """
    return [_pull_report(database, client, report, order, now) for report in client.api.reports]


def pull_on_schedule(
    database: Database, client: ProviderClient, schedule: PullSchedule, *, now: datetime
) -> list[PulledReport]:
    """Give what came of the reports that are due; what fails is logged and due again next time.

    A report is due when its last whole pull is an interval ago or has not come to its end. One that
    stays behind for longer than ``stale_after`` is logged as ``bills_pull_stale``.
    """
    order = schedule.order
    progress = _find_progress(database, client.api, order.account)
    pulled = []
    try:
        for report in client.api.reports:
            if is_due(progress[report.source], now=now, interval=schedule.interval):
                pulled.append(_pull_report(database, client, report, order, now))
                _log(pulled[-1])
    except ConfigurationError as error:
        logger.error("bills_pull_refused", provider=client.api.name, error=error.detail)
    stale = list_stale(database, client.api, order.account, now=now, limit=schedule.stale_after)
    if stale:
        logger.warning("bills_pull_stale", provider=client.api.name, sources=stale)
    return pulled


def list_stale(
    database: Database, api: AdminApi, account: str, *, now: datetime, limit: timedelta
) -> list[str]:
    """Give the sources that were never pulled to the end, or last longer ago than ``limit``."""
    return [
        source
        for source, progress in _find_progress(database, api, account).items()
        if is_stale(progress, now=now, limit=limit)
    ]


def _find_progress(
    database: Database, api: AdminApi, account: str
) -> dict[str, PullProgress | None]:
    with database.reading() as session:
        return {
            report.source: store.find_progress(session, source=report.source, account=account)
            for report in api.reports
        }


def _log(pulled: PulledReport) -> None:
    failure = pulled.failure
    if failure is not None:
        logger.warning("bills_pull_failed", source=pulled.source, error=failure.detail)
    elif pulled.changed_days:
        logger.info(
            "bills_pulled",
            source=pulled.source,
            days=pulled.changed_days,
            lines=pulled.line_count,
            superseded_lines=pulled.superseded_lines,
        )
    if pulled.warnings:
        logger.warning("bills_pull_doubles", source=pulled.source, warnings=pulled.warnings)


def _pull_report(
    database: Database, client: ProviderClient, report: Report, order: PullOrder, now: datetime
) -> PulledReport:
    pull = _Pull(database, report, order.account, now)
    with database.reading() as session:
        progress = store.find_progress(session, source=pull.source, account=pull.account)
    period = _choose_period(order, progress, now)
    tally, failure = _Tally(), None
    try:
        _read_days(pull, client, period, progress, tally)
        if order.start is None and order.end is None:
            _note_complete(pull)
    except (InvalidInput, Unavailable) as error:
        failure = error
    return PulledReport(
        source=pull.source,
        account=pull.account,
        period=period,
        days=tally.days,
        changed_days=tally.changed_days,
        line_count=tally.line_count,
        superseded_lines=tally.superseded_lines,
        totals=dict(sorted(tally.totals.items())),
        failure=failure,
        warnings=warn_of_period(database, pull.source, period) if tally.changed_days else (),
    )


def _choose_period(order: PullOrder, progress: PullProgress | None, now: datetime) -> Period:
    usual = period_to_read(order.terms, progress, now=now)
    start, end = order.start or usual.start, order.end or usual.end
    if start >= end:
        raise InvalidInput("the first day must come before the day to stop at", field="from")
    if end > usual.end + ONE_DAY:
        raise InvalidInput("days after today cannot be read yet", field="to")
    return Period(start, end)


def _read_days(
    pull: _Pull,
    client: ProviderClient,
    period: Period,
    progress: PullProgress | None,
    tally: _Tally,
) -> None:
    """Store the days of the period one by one, with the progress after each that says news."""
    noted = None if progress is None else progress.pulled_until
    today = window_at(Window.DAY, pull.now, UTC_ZONE).start
    for window in _windows(period):
        earlier, until = _read_earlier(pull, window), noted
        for bucket in client.iterate_days(pull.report, window):
            stored = _store_day(pull, bucket, earlier)
            tally.count(stored)
            # A gap is never passed over, and a day that is not over is not read to its end.
            day = window_at(Window.DAY, bucket.period.start, UTC_ZONE)
            if (until is None or day.start <= until) and day.end <= today:
                until = max(until or day.end, day.end)
            if stored is not None:
                noted = _note_progress(pull, noted, until)
        noted = _note_progress(pull, noted, until)


def _windows(period: Period) -> Iterator[Period]:
    start = period.start
    while start < period.end:
        end = min(start + WINDOW_DAYS * ONE_DAY, period.end)
        yield Period(start, end)
        start = end


def _read_earlier(pull: _Pull, window: Period) -> _Earlier:
    days = range((window.end - window.start) // ONE_DAY)
    names = [pull.name_of(window.start + day * ONE_DAY) for day in days]
    tellings: dict[str, dict[str, str]] = {name: {} for name in names}
    in_force: dict[date, set[str]] = defaultdict(set)
    with pull.database.reading() as session:
        for name, import_id, sha256 in store.list_import_digests(
            session, source=pull.source, file_names=names
        ):
            tellings[name][sha256] = import_id
        for start, import_id in store.list_imports_in_force(
            session, source=pull.source, account=pull.account, period=window
        ):
            in_force[start.date()].add(import_id)
    return _Earlier(tellings, in_force)


def _store_day(pull: _Pull, bucket: DayBucket, earlier: _Earlier) -> BillImport | None:
    """Import what a day says, and give None when that is what is in force already.

    Nothing about a day of which nothing was ever said is no news. What is in force is asked for,
    too, since a file may have replaced what a pull said.
    """
    entries = [_owned(entry, pull.account) for entry in read_entries(pull.report, bucket)]
    name = pull.name_of(bucket.period.start)
    tellings = earlier.tellings[name]
    in_force = earlier.in_force[bucket.period.start.date()]
    if all(isinstance(entry, EmptyPeriod) for entry in entries):
        is_known = not in_force
    else:
        latest = tellings.get(digest_entries(entries, name=name, generation=len(tellings) - 1))
        is_known = latest is not None and in_force == {latest}
    if is_known:
        return None
    digest = digest_entries(entries, name=name, generation=len(tellings))
    told = PulledEntries(pull.source, pull.account, name, digest, entries)
    return import_entries(pull.database, told, now=pull.now)


def _owned(entry: BillEntry, account: str) -> BillEntry:
    """Give the entry under the account of the pull; what the report calls it becomes a tag."""
    if isinstance(entry, EmptyPeriod) or entry.account in ("", account):
        return replace(entry, account=account)
    return replace(entry, account=account, tags={**entry.tags, ACCOUNT_TAG: entry.account})


def _note_progress(pull: _Pull, noted: datetime | None, until: datetime | None) -> datetime | None:
    """Note how far the report was read, unless that is known, and give it."""
    if until is not None and until != noted:
        with pull.database.transaction() as session:
            store.note_progress(
                session, source=pull.source, account=pull.account, pulled_until=until, now=pull.now
            )
    return until


def _note_complete(pull: _Pull) -> None:
    with pull.database.transaction() as session:
        store.note_complete(session, source=pull.source, account=pull.account, now=pull.now)

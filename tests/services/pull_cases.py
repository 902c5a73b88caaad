"""What tests of pulls share: a ledger, the fake admin APIs, and time that only passes when asked.

It is the twentieth of September; the sample pages tell of its first four days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx

from tests.fake_providers import ANTHROPIC_KEY, OPENAI_KEY, FakeProviders
from tokenbudget.formats.bill_requests import get_api
from tokenbudget.services.bill_pulls import (
    PulledReport,
    PullOrder,
    PullSchedule,
    pull_bills,
    pull_on_schedule,
)
from tokenbudget.services.provider_requests import Access, Pacing, ProviderClient
from tokenbudget.store.bill_pulls import list_progress
from tokenbudget.store.db import Database

NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
KEYS = {"openai": OPENAI_KEY, "anthropic": ANTHROPIC_KEY}


class Killed(BaseException):
    """The process ends here, as far as a test can tell."""


@dataclass
class Puller:
    """Pulls from the fake providers into one ledger at ``now``.

    ``pauses`` are the seconds that were waited; after ``requests_left`` requests the process dies.
    """

    database: Database
    providers: FakeProviders
    http: httpx.Client
    now: datetime = NOW
    pauses: list[float] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=lambda: dict(KEYS))
    requests_left: int | None = None

    def pull(self, provider: str = "openai", order: PullOrder | None = None) -> list[PulledReport]:
        """Pull from one provider."""
        return pull_bills(self.database, self.client(provider), order or PullOrder(), now=self.now)

    def pull_scheduled(
        self, provider: str = "openai", order: PullOrder | None = None
    ) -> list[PulledReport]:
        """Pull what is due after six hours, and call a day late."""
        schedule = PullSchedule(order or PullOrder(), timedelta(hours=6), timedelta(hours=24))
        client = self.client(provider)
        return pull_on_schedule(self.database, client, schedule, now=self.now)

    def client(self, provider: str) -> ProviderClient:
        """Give what asks one provider."""
        access = Access(get_api(provider), self.providers.url, self.keys[provider])
        pacing = Pacing(self.pause, lambda: self.now, lambda: 0)
        return ProviderClient(self.http, access, pacing)

    def pause(self, seconds: float) -> None:
        """Note the wait, and die when that is the time."""
        if seconds:
            self.pauses.append(seconds)
        elif self.requests_left is not None:
            if self.requests_left == 0:
                raise Killed
            self.requests_left -= 1


@contextmanager
def pulling(database: Database, providers: FakeProviders) -> Iterator[Puller]:
    """Give a puller, and leave no connection behind."""
    with httpx.Client(trust_env=False) as http:
        yield Puller(database, providers, http)


def only(pulled: Sequence[PulledReport], source: str) -> PulledReport:
    """Give what came of one report."""
    [found] = [report for report in pulled if report.source == source]
    return found


def pulled_until(database: Database) -> dict[str, str]:
    """Give until which day each source was read."""
    with database.reading() as session:
        rows = list_progress(session)
        return {row.source: row.pulled_until.date().isoformat() for row in rows}


def order_of(first: str, after: str, *, account: str = "") -> PullOrder:
    """Give the order to read the days from the first to the one to stop at."""
    start, end = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (first, after))
    return PullOrder(account=account, start=start, end=end)

"""The composition root.

Settings become an engine, a clock, a price list and the terms of the ledger.

It is the only place that reads the clock and the only one, beside the commands, that reads
settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tokenbudget.domain.price_lists import PriceList
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.services.holds import HoldTerms
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Memory
from tokenbudget.services.quota import Terms
from tokenbudget.services.rulebook import RulebookShelf
from tokenbudget.settings import Settings, packaged_path
from tokenbudget.store.db import Database
from tokenbudget.store.migrations import migrate, require_current


@dataclass(frozen=True, slots=True)
class Services:
    """What every entry point needs; one a process."""

    settings: Settings
    database: Database
    price_list: PriceList
    clock: Callable[[], datetime]


def utc_now() -> datetime:
    """Give the current instant."""
    return datetime.now(UTC)


def open_services(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    price_list: PriceList | None = None,
) -> Services:
    """Give the services of this process; the database is opened and not yet migrated."""
    database = Database(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    book = price_list or load_price_book(packaged_path("pricing"), currency=settings.currency)
    return Services(settings, database, book, clock)


def prepare_database(services: Services) -> None:
    """Migrate the database, or where that is switched off make sure that it is current."""
    scripts = packaged_path("alembic")
    if services.settings.migrate_on_start:
        migrate(services.database, scripts)
    else:
        require_current(services.database, scripts)


def make_ledger(services: Services) -> Ledger:
    """Give a ledger with a memory of its own, for one thread."""
    settings = services.settings
    holds = HoldTerms(
        usual=timedelta(seconds=settings.hold_ttl_seconds),
        longest=timedelta(seconds=settings.hold_max_seconds),
        grace=timedelta(seconds=settings.hold_grace_seconds),
    )
    return Ledger(
        database=services.database,
        shelf=RulebookShelf(services.price_list),
        memory=Memory(frozenset(settings.unrolled_tags)),
        terms=Terms(settings.currency, holds, settings.default_max_output_tokens),
        clock=services.clock,
    )

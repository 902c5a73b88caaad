"""The composition root.

Settings become an engine, a clock, a price list and the terms of the ledger.

It is the only place that reads the clock and the only one, beside the commands, that reads
settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.formats.agreements import load_agreements
from tokenbudget.formats.compiled_prices import load_compiled_prices
from tokenbudget.services.decisions import LogTerms
from tokenbudget.services.holds import HoldTerms
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Memory
from tokenbudget.services.quota import Terms
from tokenbudget.services.rulebook import RulebookShelf
from tokenbudget.settings import Settings, packaged_path
from tokenbudget.store.db import Database
from tokenbudget.store.migrations import migrate, require_current
from tokenbudget.tokens import EstimatorsInvalid, use_estimators


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
    choose_estimators(settings)
    database = Database(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    return Services(settings, database, price_list or open_price_list(settings), clock)


def open_price_list(settings: Settings) -> PriceList:
    """Give the prices that ship, in the ledger currency, with what the operator agreed on."""
    pricing = packaged_path("pricing")
    published = load_compiled_prices(pricing, settings.data_dir, currency=settings.currency)
    return published.with_agreements(load_agreements(pricing, settings.agreements_dir, published))


def choose_estimators(settings: Settings) -> None:
    """Let this process count tokens by the file the settings name, else by the package's.

    Raises ConfigurationError naming the file and what is wrong with it.
    """
    file = settings.estimators_file
    try:
        use_estimators("" if file is None else file.expanduser().read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the estimators cannot be read: {error}") from None
    except EstimatorsInvalid as error:
        raise ConfigurationError(f"{file}: {error}") from None


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
        longest_batch=timedelta(seconds=settings.hold_max_batch_ttl_seconds),
    )
    return Ledger(
        database=services.database,
        shelf=RulebookShelf(services.price_list),
        memory=Memory(frozenset(settings.unrolled_tags)),
        terms=Terms(
            settings.currency,
            holds,
            settings.default_max_output_tokens,
            log=LogTerms(settings.decision_sample_percent),
        ),
        clock=services.clock,
    )

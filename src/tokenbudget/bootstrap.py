"""The composition root.

Settings become an engine, a clock, a price list and the terms of the ledger.

It is the only place that reads the clock and the only one, beside the commands, that reads
settings.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import SecretStr

from tokenbudget.domain.bill_pulls import PullTerms
from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.formats.agreements import load_agreements
from tokenbudget.formats.bill_requests import APIS, get_api
from tokenbudget.formats.compiled_prices import load_compiled_prices
from tokenbudget.services.bill_pulls import PullOrder
from tokenbudget.services.decisions import LogTerms
from tokenbudget.services.holds import HoldTerms
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Memory
from tokenbudget.services.provider_requests import Access, Pacing, ProviderClient
from tokenbudget.services.quota import Terms
from tokenbudget.services.reconciliation import Reading
from tokenbudget.services.rulebook import RulebookShelf
from tokenbudget.services.statement_documents import Surroundings
from tokenbudget.services.stating import Allocate, make_allocate
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


def make_surroundings(services: Services) -> Surroundings:
    """Give what documents of statements need besides the ledger."""
    exchange = services.price_list.agreements.exchange
    return Surroundings(packaged_path("reports"), exchange, services.settings.gl_file)


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


def make_reading(services: Services, provider: str | None = None) -> Reading:
    """Give what a comparison with bills is read by: of one provider or, for None, of all."""
    return Reading(
        currency=services.settings.currency,
        price_list=services.price_list,
        as_of=services.clock(),
        provider=provider,
    )


def make_statement_allocate(services: Services) -> Allocate:
    """Give what divides the invoices of a month in this ledger."""
    return make_allocate(currency=services.settings.currency, price_list=services.price_list)


def list_pulled_providers(settings: Settings) -> list[str]:
    """Give the providers whose bills can be pulled: those that have an admin key."""
    return [api.name for api in APIS if _admin_key(settings, api.name) is not None]


def make_provider_client(
    services: Services, provider: str, http: httpx.Client, pause: Callable[[float], object]
) -> ProviderClient:
    """Give what asks a provider's admin API, with patience for one pull.

    Raises ConfigurationError naming the variable when there is no key, and InvalidInput for a
    provider that cannot be pulled.
    """
    api = get_api(provider)
    key = _admin_key(services.settings, provider)
    if key is None:
        raise ConfigurationError(f"{api.key_variable} is not set: {provider} needs an admin key")
    access = Access(api, getattr(services.settings, f"{provider}_url"), key.get_secret_value())
    return ProviderClient(http, access, Pacing(pause, services.clock, random.random))


def make_pull_order(settings: Settings, provider: str) -> PullOrder:
    """Give what a scheduled pull of a provider reads."""
    return PullOrder(
        account=getattr(settings, f"{provider}_account"),
        terms=PullTerms(settings.bills_restated_days, settings.bills_invoice_day),
    )


def _admin_key(settings: Settings, provider: str) -> SecretStr | None:
    key: SecretStr | None = getattr(settings, f"{provider}_admin_key")
    return key

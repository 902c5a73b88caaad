"""Events, checks and budgets with boring defaults, and the ledger driven by them.

Prices are made for working out by hand: of ``acme/plain`` a million input tokens cost one dollar
and a million output tokens two, so ten thousand input tokens are a cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from sqlmodel import SQLModel

from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.domain.errors import TokenbudgetError, Unavailable
from tokenbudget.domain.prices import ProviderPrices
from tokenbudget.formats.budgets import BudgetDraft, parse_budget
from tokenbudget.formats.events import Door, parse_items
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.budgets import BudgetChange, apply_budgets, list_standings
from tokenbudget.services.holds import ExtendHold, HoldView, ReleaseHold
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.services.quota import CheckQuota
from tokenbudget.services.selfcheck import selfcheck
from tokenbudget.services.usage import RecordAnswer, RecordUsage
from tokenbudget.store.db import Database, table_of

DOLLAR: Final = 10**9
CENT: Final = 10**7
TOKENS_PER_CENT: Final = 10_000
ONE_DAY: Final = timedelta(days=1)
NOBODY: Final = Caller()
WRITE_FAILURE: Final = (Unavailable, ProgrammingError)

PLAIN_RATES: Final = {"input_tokens": 1_000_000, "output_tokens": 2_000_000}
DOUBLED_RATES: Final = {"input_tokens": 2_000_000, "output_tokens": 4_000_000}
CACHING_RATES: Final = {
    "input_tokens": 1_000_000,
    "cached_input_tokens": 100_000,
    "cache_write_5m_tokens": 1_250_000,
    "cache_write_1h_tokens": 2_000_000,
    "output_tokens": 2_000_000,
}
PRICES: Final = make_price_list(
    make_model(make_price(PLAIN_RATES, model="plain"), model="plain"),
    make_model(
        make_price(PLAIN_RATES, model="stepped"),
        make_price(DOUBLED_RATES, model="stepped", above=200_000),
        model="stepped",
    ),
    make_model(make_price(CACHING_RATES, model="caching"), model="caching"),
    make_model(
        make_price(PLAIN_RATES, model="dated"),
        make_price(DOUBLED_RATES, model="dated", valid_from=day("2026-11-15")),
        model="dated",
    ),
    others=(
        ProviderPrices(
            provider="reseller",
            names=("reseller",),
            models=(
                make_model(
                    make_price(DOUBLED_RATES, provider="reseller", model="plain"),
                    provider="reseller",
                    model="plain",
                ),
            ),
        ),
    ),
    version="test-prices",
)
"""``plain``; ``stepped`` doubles above 200,000 input tokens; ``caching`` has cache rates; ``dated``
doubled on 15 November; ``reseller`` sells ``plain`` at twice the price."""


def cents(count: int) -> dict[str, int]:
    """Give usage of ``acme/plain`` that costs so many cents."""
    return {"input_tokens": count * TOKENS_PER_CENT}


def make_event(**overrides: Any) -> dict[str, Any]:
    """Give the wire form of an event that costs two cents: one of input, one of output."""
    return {
        "event_id": "e1",
        "occurred_at": "2026-11-20T12:00:00Z",
        "provider": "acme",
        "model": "plain",
        "usage": {"input_tokens": 10_000, "output_tokens": 5_000},
        "tags": {"team": "growth", "feature": "summarise", "tenant": "acme"},
        **overrides,
    }


def make_events(count: int, **overrides: Any) -> list[dict[str, Any]]:
    """Give the wire forms of events ``e1``, ``e2`` and so on, equal but for their ids."""
    return [make_event(event_id=f"e{number}", **overrides) for number in range(1, count + 1)]


def make_check(**overrides: Any) -> dict[str, Any]:
    """Give the wire form of a check for at most two cents: one of input, one of output."""
    return {
        "provider": "acme",
        "model": "plain",
        "input_tokens": 10_000,
        "max_output_tokens": 5_000,
        "tags": {"team": "growth", "feature": "summarise", "tenant": "acme"},
        **overrides,
    }


def make_budget(**overrides: Any) -> BudgetDraft:
    """Give a hard budget of one dollar a month for everything."""
    entry = {"id": "all", "limit": "1.00", "window": "month", "mode": "hard", **overrides}
    return parse_budget(entry, where="test", timezone="UTC")


def set_budgets(database: Database, *drafts: BudgetDraft, now: datetime) -> list[BudgetChange]:
    """Apply the budgets and give what changed."""
    return apply_budgets(database, drafts, now=now)


def record_work(
    events: Iterable[Mapping[str, Any]], *, now: datetime, caller: Caller = NOBODY
) -> RecordUsage:
    """Give the writer's work for events in their wire form."""
    bodies = [msgspec.json.encode(event) for event in events]
    return RecordUsage(parse_items(bodies, Door(now, ONE_DAY)), caller)


def check_work(check: Mapping[str, Any], *, caller: Caller = NOBODY) -> CheckQuota:
    """Give the writer's work for a check in its wire form."""
    return CheckQuota(parse_check(msgspec.json.encode(check)), caller)


def record(ledger: Ledger, *events: Mapping[str, Any], caller: Caller = NOBODY) -> RecordAnswer:
    """Record the events in one batch and give the answer."""
    [answer] = ledger.apply([record_work(events, now=ledger.clock(), caller=caller)])
    assert isinstance(answer, RecordAnswer)
    return answer


def ask(ledger: Ledger, **overrides: Any) -> dict[str, Any]:
    """Check quota for ``make_check(**overrides)`` and give the decision."""
    [answer] = ledger.apply([check_work(make_check(**overrides))])
    assert isinstance(answer, dict)
    return answer


def hold_cents(ledger: Ledger, count: int, **overrides: Any) -> str:
    """Hold so many cents and give the id of the hold."""
    decision = ask(ledger, input_tokens=count * TOKENS_PER_CENT, max_output_tokens=0, **overrides)
    assert decision["decision"] == "allow", decision
    return str(decision["hold_id"])


def release(ledger: Ledger, hold_id: str) -> HoldView | TokenbudgetError:
    """Release the hold and give it as it stands, or why it could not be."""
    [answer] = ledger.apply([ReleaseHold(hold_id)])
    assert isinstance(answer, HoldView | TokenbudgetError)
    return answer


def extend(ledger: Ledger, hold_id: str, *, seconds: int) -> HoldView | TokenbudgetError:
    """Extend the hold and give it as it stands, or why it could not be."""
    [answer] = ledger.apply([ExtendHold(hold_id, timedelta(seconds=seconds))])
    assert isinstance(answer, HoldView | TokenbudgetError)
    return answer


def standings(database: Database, *, now: datetime) -> dict[tuple[str, ...], tuple[int, int]]:
    """Give (settled, held) of every counter of the current windows, by budget id and split."""
    return {
        (standing.budget.id, *standing.split): (standing.settled, standing.held)
        for standing in list_standings(database, now=now)
    }


def broken_rules(database: Database) -> list[str]:
    """Give every invariant that selfcheck finds broken, with what breaks it."""
    return [
        f"{finding.rule}: {broken}" for finding in selfcheck(database) for broken in finding.broken
    ]


def rows_of(database: Database, model: type[SQLModel]) -> Sequence[sa.RowMapping]:
    """Give every row of a table in the order of its primary key."""
    table = table_of(model)
    with database.reading() as session:
        statement = sa.select(table).order_by(*table.primary_key.columns)
        return session.connection().execute(statement).mappings().all()


def contents(database: Database) -> dict[str, Sequence[sa.RowMapping]]:
    """Give every row of every table, for telling that nothing changed."""
    with database.reading() as session:
        return {
            table.name: session.connection()
            .execute(sa.select(table).order_by(*table.primary_key.columns))
            .mappings()
            .all()
            for table in SQLModel.metadata.sorted_tables
        }


@contextmanager
def table_away(database: Database, name: str) -> Iterator[None]:
    """Take a table away for a while, so that whatever writes it fails with a WRITE_FAILURE."""
    with database.locked_connection() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {name}_away")
    try:
        yield
    finally:
        with database.locked_connection() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {name}_away RENAME TO {name}")

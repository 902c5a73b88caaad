"""Operations are counted where usage is posted in bulk: imported, rated again, moved elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import (
    CENT,
    TOKENS_PER_CENT,
    broken_rules,
    cents,
    make_budget,
    make_event,
    record,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.services.attribution_cases import TO_SEARCH, reattribute, set_rules
from tests.services.import_cases import import_by_table
from tests.services.rerate_cases import BOOK, FIXED_BOOK, ledger_by, rerate
from tokenbudget.bootstrap import Services
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database


def used(database: Database, clock: FrozenClock, budget_id: str) -> dict[str | None, int]:
    """Give what is settled by operation."""
    standings = list_standings(database, now=clock(), budget_id=budget_id)
    return {standing.operation_ref: standing.settled for standing in standings}


@pytest.mark.parametrize(
    ("unit", "one_cent"), [("money", CENT), ("tokens", TOKENS_PER_CENT), ("requests", 0)]
)
def test_imported_events_count_for_their_operations(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    tmp_path: Path,
    unit: str,
    one_cent: int,
) -> None:
    budget = make_budget(id="each", window="operation", unit=unit, limit="9")
    set_budgets(database, budget, now=clock())
    named = [("op-1", 1), ("op-1", 2), ("op-2", 4), (None, 8), ("", 16)]
    lines = [
        json.dumps(make_event(event_id=f"e{place}", usage=cents(amount), operation_id=operation))
        for place, (operation, amount) in enumerate(named)
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")

    import_by_table(ledger, path)

    requests = {"op-1": 2, "op-2": 1}
    costs = {"op-1": 3 * one_cent, "op-2": 4 * one_cent}
    assert used(database, clock, "each") == (requests if unit == "requests" else costs)
    assert broken_rules(database) == []


def test_rating_again_moves_the_operations_of_usage_since_the_budget_began(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, make_event(event_id="before", usage=cents(40), operation_id="op-1"))
    set_budgets(database, make_budget(id="each", window="operation", limit="9"), now=clock())
    record(ledger, make_event(event_id="e1", usage=cents(10), operation_id="op-1"))
    record(ledger, make_event(event_id="e2", usage=cents(20), operation_id="op-2"))
    record(ledger, make_event(event_id="e3", usage=cents(80)))

    rerate(database, FIXED_BOOK, clock)

    assert used(database, clock, "each") == {"op-2": 30 * CENT, "op-1": 15 * CENT}
    assert broken_rules(database) == []


@pytest.mark.parametrize("unit", ["money", "tokens", "requests"])
def test_usage_that_moves_to_another_team_takes_its_operation_along(
    ledger: Ledger, database: Database, clock: FrozenClock, unit: str
) -> None:
    record(
        ledger,
        make_event(
            event_id="before", usage=cents(40), operation_id="op-1", tags={"tenant": "acme"}
        ),
    )
    for team in ("search", "unallocated"):
        budget = make_budget(
            id=team, window="operation", unit=unit, limit="9", selector={"team": team}
        )
        set_budgets(database, budget, now=clock())
    event = make_event(usage=cents(10), operation_id="op-1", tags={"tenant": "acme"})
    record(ledger, event)
    counted = {"money": 10 * CENT, "tokens": 100_000, "requests": 1}[unit]
    assert used(database, clock, "unallocated") == {"op-1": counted}

    set_rules(database, clock, TO_SEARCH)
    reattribute(database, clock)

    assert used(database, clock, "unallocated") == {"op-1": 0}
    assert used(database, clock, "search") == {"op-1": counted}
    assert broken_rules(database) == []

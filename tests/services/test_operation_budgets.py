"""Budgets of which each operation has a window of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    hold_cents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.services.rolling_cases import raised
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.services.budgets import MAX_OPERATIONS_SHOWN, list_standings
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, CounterRow, OutboxRow


def an_operation(**overrides: Any) -> BudgetDraft:
    """Give a hard budget of one dollar an operation."""
    return make_budget(window="operation", **overrides)


def use(ledger: Ledger, count: int, operation: str | None, event_id: str, **other: Any) -> None:
    """Record usage of so many cents by an operation."""
    event = make_event(event_id=event_id, usage=cents(count), operation_id=operation, **other)
    record(ledger, event)


def used(database: Database, clock: FrozenClock) -> dict[str | None, tuple[int, int]]:
    """Give (settled, held) in cents by operation."""
    return {
        standing.operation_ref: (standing.settled // CENT, standing.held // CENT)
        for standing in list_standings(database, now=clock())
    }


def test_each_operation_has_the_whole_limit(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    use(ledger, 90, "op-1", "e1")

    denied = ask(ledger, estimate="0.11", operation_id="op-1")
    allowed = ask(ledger, estimate="0.11", operation_id="op-2")

    assert denied["decision"] == "deny"
    assert denied["binding"]["headroom"] == "0.100000000"
    assert allowed["decision"] == "allow"
    assert used(database, clock) == {"op-1": (90, 0), "op-2": (0, 11)}
    assert broken_rules(database) == []


def test_an_operation_is_counted_for_as_long_as_it_lasts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    use(ledger, 60, "op-1", "e1")
    clock.advance(days=40)
    use(ledger, 39, "op-1", "e2", occurred_at="2026-12-30T12:00:00Z")

    assert ask(ledger, estimate="0.02", operation_id="op-1")["decision"] == "deny"
    assert broken_rules(database) == []


def test_a_check_that_names_no_operation_is_let_through_with_a_warning(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    use(ledger, 100, None, "e1")

    decision = ask(ledger, estimate="5.00")

    assert decision["decision"] == "allow"
    assert [each["code"] for each in decision["warnings"]] == ["operation_unknown"]
    assert "budget all was not checked" in decision["warnings"][0]["detail"]
    assert rows_of(database, CounterRow) == []


@pytest.mark.parametrize("overrides", [{"mode": "soft"}, {"valid_to": "2026-11-20T11:00:00Z"}])
def test_only_a_hard_budget_in_force_warns_that_it_was_passed_over(
    ledger: Ledger, database: Database, clock: FrozenClock, overrides: dict[str, str]
) -> None:
    since = {"valid_from": "2026-11-01T00:00:00Z"}
    set_budgets(database, an_operation(**since, **overrides), now=clock())

    assert ask(ledger, estimate="5.00")["warnings"] == []


def test_other_budgets_count_what_names_no_operation(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), make_budget(id="month"), now=clock())
    use(ledger, 95, None, "e1")

    decision = ask(ledger, estimate="0.06")

    assert decision["decision"] == "deny"
    assert decision["binding"]["budget"] == "month"


def test_an_operation_of_each_split_value_is_one_of_its_own(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(split_by=["tenant"]), now=clock())
    use(ledger, 90, "op-1", "e1", tags={"tenant": "acme"})

    denied = ask(ledger, estimate="0.11", operation_id="op-1", tags={"tenant": "acme"})
    allowed = ask(ledger, estimate="0.11", operation_id="op-1", tags={"tenant": "zeta"})

    assert (denied["decision"], allowed["decision"]) == ("deny", "allow")
    assert {(each.split, each.operation_ref) for each in list_standings(database, now=clock())} == {
        (("acme",), "op-1"),
        (("zeta",), "op-1"),
    }


def test_a_hold_settles_for_the_operation_it_was_granted_to(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    silent = hold_cents(ledger, 20, operation_id="op-1")
    straying = hold_cents(ledger, 20, operation_id="op-2")

    use(ledger, 12, None, "e1", hold_id=silent)
    use(ledger, 15, "op-3", "e2", hold_id=straying)

    assert used(database, clock) == {"op-2": (15, 0), "op-1": (12, 0), "op-3": (0, 0)}
    assert broken_rules(database) == []


def test_a_revision_counts_for_the_operation_it_names(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    use(ledger, 30, "op-1", "e1")

    use(ledger, 40, "op-2", "e1", revision=1)

    assert used(database, clock) == {"op-2": (40, 0), "op-1": (0, 0)}
    assert broken_rules(database) == []


def test_an_operation_counts_from_the_creation_of_the_budget(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    use(ledger, 95, "op-1", "e1")

    [change] = set_budgets(database, an_operation(), now=clock())
    use(ledger, 10, "op-1", "e2")
    use(ledger, 50, "op-1", "e1", revision=1)

    assert change.standings == ()
    # Taking back what was used before counts no more than that use did.
    assert used(database, clock) == {"op-1": (60, 0)}
    assert broken_rules(database) == []


@pytest.mark.parametrize(
    ("unit", "limit", "settled"), [("tokens", "100000", 30_000), ("requests", "10", 2)]
)
def test_operations_are_counted_in_every_unit(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    unit: str,
    limit: str,
    settled: int,
) -> None:
    set_budgets(database, an_operation(unit=unit, limit=limit), now=clock())

    use(ledger, 1, "op-1", "e1")
    use(ledger, 2, "op-1", "e2")

    assert [each.settled for each in list_standings(database, now=clock())] == [settled]
    assert broken_rules(database) == []


def test_a_threshold_names_the_operation_that_crossed_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(split_by=["tenant"]), now=clock())

    use(ledger, 85, "op-1", "e1")

    assert raised(database) == ["0.5", "0.8"]
    [message] = rows_of(database, OutboxRow)
    assert message["payload"]["operation_id"] == "op-1"
    assert message["payload"]["split"] == {"tenant": "acme"}
    assert len(rows_of(database, AlertRow)) == 2


def test_only_the_operations_that_used_most_are_shown(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, an_operation(), now=clock())
    events = [
        make_event(event_id=f"e{number}", usage=cents(number), operation_id=f"op-{number}")
        for number in range(1, MAX_OPERATIONS_SHOWN + 3)
    ]
    record(ledger, *events)

    shown = list(used(database, clock))

    assert len(shown) == MAX_OPERATIONS_SHOWN
    assert shown[0] == f"op-{MAX_OPERATIONS_SHOWN + 2}"
    assert "op-2" not in shown

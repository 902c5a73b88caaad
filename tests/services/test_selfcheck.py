"""Selfcheck finds nothing in a sound ledger, and every kind of unsoundness when there is one."""

from __future__ import annotations

import msgspec
import pytest

from tests.builders import (
    NOBODY,
    ONE_DAY,
    broken_rules,
    hold_cents,
    make_budget,
    make_event,
    record,
    release,
    set_budgets,
)
from tests.conftest import FrozenClock
from tokenbudget.formats.events import Door
from tokenbudget.formats.outcomes import parse_outcomes
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.outcomes import RecordOutcomes
from tokenbudget.services.selfcheck import selfcheck
from tokenbudget.store.db import Database

RULES = [
    "quarter-hour rollups = charges + shares",
    "daily rollups = charges + shares",
    "settled = sum of charges",
    "held = sum of open holds",
    "held >= 0",
    "no hold resolved twice",
    "left of a hold = granted - taken by pieces",
    "one charge stands for a call",
    "usage is found by when it occurred",
    "rollups of outcomes = outcomes",
    "closed statements = their digests, totals and invoices",
]


@pytest.fixture
def lived_in(ledger: Ledger, database: Database, clock: FrozenClock) -> Database:
    """Give a ledger with usage, a revision, unpriced usage and holds in every state."""
    set_budgets(database, make_budget(limit="10.00", split_by=["tenant"]), now=clock())
    settled, released, _expired = (hold_cents(ledger, 5) for _ in range(3))
    record(
        ledger,
        make_event(hold_id=settled),
        make_event(event_id="e2", tags={"tenant": "other"}),
        make_event(event_id="e3", model="mystery"),
    )
    record(ledger, make_event(event_id="e2", tags={"tenant": "third"}, revision=1))
    release(ledger, released)
    clock.advance(minutes=5)
    hold_cents(ledger, 7)
    record(ledger, make_event(event_id="e4", hold_id=hold_cents(ledger, 4, requests=3)))
    outcome = {"event_id": "o1", "name": "resolved", "occurred_at": "2026-11-20T12:00:00Z"}
    parsed = parse_outcomes(
        [msgspec.json.encode({**outcome, "tags": {"tenant": "other"}})], Door(clock(), ONE_DAY)
    )
    ledger.apply([RecordOutcomes(parsed, NOBODY)])
    return database


def spoil(database: Database, statement: str) -> list[str]:
    """Change the ledger behind its own back and give what selfcheck finds."""
    with database.locked_connection() as connection:
        connection.exec_driver_sql(statement)
    return broken_rules(database)


def test_an_empty_ledger_is_sound(database: Database) -> None:
    findings = selfcheck(database)

    assert [finding.rule for finding in findings] == RULES
    assert all(finding.holds for finding in findings)


def test_a_ledger_that_was_lived_in_is_sound(lived_in: Database) -> None:
    findings = selfcheck(lived_in)

    assert all(finding.holds for finding in findings)
    assert [finding.checked for finding in findings[:5]] == [4, 4, 3, 3, 3]


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        (
            "UPDATE rollups SET effective_nanos = effective_nanos + 1 WHERE grain_seconds = 900",
            "quarter-hour rollups = charges + shares",
        ),
        (
            "UPDATE rollups SET input_tokens = input_tokens + 1 WHERE grain_seconds = 86400",
            "daily rollups = charges + shares",
        ),
        ("UPDATE counters SET settled = settled + 1", "settled = sum of charges"),
        ("UPDATE counters SET held = held + 1", "held = sum of open holds"),
        ("UPDATE counters SET held = -1", "held >= 0"),
        (
            "INSERT INTO hold_resolutions (hold_id, kind, resolved_at)"
            " SELECT hold_id, 'released', 0 FROM hold_resolutions WHERE kind = 'settled'",
            "no hold resolved twice",
        ),
        (
            "UPDATE holds SET remaining_nanos = remaining_nanos - 1"
            " WHERE requests > 1 AND state = 'held'",
            "left of a hold = granted - taken by pieces",
        ),
        (
            "UPDATE holds SET pieces_settled = 0 WHERE requests > 1",
            "left of a hold = granted - taken by pieces",
        ),
        ("UPDATE hold_pieces SET taken_nanos = taken_nanos - 1", "held = sum of open holds"),
        (
            "UPDATE usage SET call_id = (SELECT min(id) FROM usage)"
            " WHERE id IN (SELECT usage_id FROM charges WHERE effective_nanos IS NULL)",
            "one charge stands for a call",
        ),
        ("DELETE FROM usage_stretches", "usage is found by when it occurred"),
        ("UPDATE outcome_rollups SET outcomes = outcomes + 1", "rollups of outcomes = outcomes"),
    ],
)
def test_every_broken_invariant_is_found(lived_in: Database, statement: str, rule: str) -> None:
    found = spoil(lived_in, statement)

    assert [line for line in found if line.startswith(f"{rule}: ")]


def test_a_finding_names_the_counter_and_both_figures(lived_in: Database) -> None:
    found = spoil(
        lived_in, "UPDATE counters SET settled = settled + 1 WHERE split_key = '[\"third\"]'"
    )

    assert found == [
        'settled = sum of charges: all["third"]@2026-11-01T00:00Z: '
        "settled 20000001, charges 20000000"
    ]

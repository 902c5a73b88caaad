"""Outcomes: counted once, placed where they belong, and cost divided by them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.builders import NOBODY, ONE_DAY, make_event, record, rows_of
from tests.conftest import FrozenClock
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.costs import CostRow
from tokenbudget.domain.periods import Period
from tokenbudget.formats.events import Door
from tokenbudget.formats.outcomes import parse_outcomes
from tokenbudget.services.costs import CostFilter, CostQuery, CostTable, query_costs
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.outcomes import (
    OutcomeAnswer,
    RecordOutcomes,
    find_broken_rollups,
    join_outcomes,
)
from tokenbudget.store.db import Database
from tokenbudget.store.outcome_tables import OutcomeRow

MONTH = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
ONE = 10**9


def make_outcome(**overrides: Any) -> dict[str, Any]:
    """Give the wire form of one resolved ticket of the operation ``op``."""
    return {
        "event_id": "o1",
        "name": "resolved",
        "operation_id": "op",
        "occurred_at": "2026-11-20T12:01:00Z",
        **overrides,
    }


def tell(ledger: Ledger, *outcomes: dict[str, Any], caller: Caller = NOBODY) -> OutcomeAnswer:
    """Record the outcomes in one batch and give the answer."""
    bodies = [msgspec.json.encode(each) for each in outcomes]
    parsed = parse_outcomes(bodies, Door(ledger.clock(), ONE_DAY))
    [answer] = ledger.apply([RecordOutcomes(parsed, caller)])
    assert isinstance(answer, OutcomeAnswer)
    return answer


def ask(database: Database, *group_by: str, **changes: Any) -> CostTable:
    """Ask what a resolved ticket cost in November."""
    metrics = ("cost_per:resolved",)
    return query_costs(database, CostQuery(MONTH, group_by, metrics=metrics, **changes))


def broken_rollups(database: Database) -> list[str]:
    """Give what of the rollups differs from the outcomes."""
    with database.reading() as session:
        return find_broken_rollups(session)


def resolved(row: CostRow) -> int:
    """Give the resolved tickets of a row in billionths."""
    return row.outcomes.get("resolved", 0)


def test_an_outcome_counts_where_its_operation_does(database: Database, ledger: Ledger) -> None:
    record(ledger, make_event(operation_id="op"))

    answer = tell(ledger, make_outcome())

    assert answer == OutcomeAnswer(1, 0, 0, ())
    [row] = ask(database, "team", "feature", "model").rows
    assert (row.group, row.requests, resolved(row)) == (("growth", "summarise", "plain"), 1, ONE)
    assert broken_rollups(database) == []


def test_an_outcome_before_its_operation_waits_as_unallocated_and_is_joined_later(
    database: Database, ledger: Ledger, clock: FrozenClock
) -> None:
    answer = tell(ledger, make_outcome())
    clock.advance(minutes=5)

    assert answer.waiting == 1
    assert join_outcomes(ledger.apply) == 0
    assert [(row.group, resolved(row)) for row in ask(database, "team").rows] == [
        (("unallocated",), ONE)
    ]

    record(ledger, make_event(operation_id="op"))

    assert join_outcomes(ledger.apply) == 1
    assert join_outcomes(ledger.apply) == 0
    assert {row.group: resolved(row) for row in ask(database, "team").rows if resolved(row)} == {
        ("growth",): ONE
    }
    assert resolved(ask(database).totals) == ONE
    assert broken_rollups(database) == []


def test_an_outcome_waits_while_its_operation_has_no_team(
    database: Database, ledger: Ledger
) -> None:
    record(ledger, make_event(operation_id="op", tags={}))

    assert tell(ledger, make_outcome()).waiting == 1
    assert join_outcomes(ledger.apply) == 0

    record(ledger, make_event(event_id="e2", operation_id="op"))

    assert join_outcomes(ledger.apply) == 1
    [growth] = [row for row in ask(database, "team").rows if row.group == ("growth",)]
    assert resolved(growth) == ONE


def test_an_outcome_stops_waiting_after_a_week(
    database: Database, ledger: Ledger, clock: FrozenClock
) -> None:
    tell(ledger, make_outcome())
    clock.advance(days=8)

    assert join_outcomes(ledger.apply) == 1
    assert [row["is_waiting"] for row in rows_of(database, OutcomeRow)] == [False]
    assert resolved(ask(database).totals) == ONE
    assert broken_rollups(database) == []


def test_tags_place_an_outcome_and_pinned_tags_beat_them(
    database: Database, ledger: Ledger
) -> None:
    tags = {"team": "growth", "tenant": "acme", "project": "apollo"}

    tell(ledger, make_outcome(operation_id=None, tags=tags, value="2.5"))
    tell(
        ledger,
        make_outcome(event_id="o2", operation_id=None, tags=tags),
        caller=Caller("key-1", pinned_tags={"team": "support"}),
    )

    rows = ask(database, "team", "tenant", "tag:project", "model").rows
    assert {row.group: resolved(row) for row in rows} == {
        ("growth", "acme", "apollo", None): 2_500_000_000,
        ("support", "acme", "apollo", None): ONE,
    }


def test_the_same_outcome_twice_counts_once(database: Database, ledger: Ledger) -> None:
    first = tell(ledger, make_outcome(), make_outcome())
    again = tell(ledger, make_outcome(value="1.000", occurred_at="2026-11-20T13:01:00+01:00"))

    assert (first.accepted, first.duplicates) == (1, 1)
    assert (again.accepted, again.duplicates) == (0, 1)
    assert resolved(ask(database).totals) == ONE


def test_the_same_id_with_other_content_is_a_conflict(database: Database, ledger: Ledger) -> None:
    tell(ledger, make_outcome())

    answer = tell(ledger, make_outcome(event_id="o2"), make_outcome(value=3))

    assert (answer.accepted, answer.duplicates) == (1, 0)
    assert [(each.index, each.event_id, each.code) for each in answer.rejected] == [
        (1, "o1", "conflict")
    ]
    assert resolved(ask(database).totals) == 2 * ONE


def test_two_workers_record_the_same_outcome_once(
    database: Database, ledger: Ledger, other_ledger: Ledger
) -> None:
    tell(ledger, make_outcome())

    assert tell(other_ledger, make_outcome()).duplicates == 1
    assert resolved(ask(database).totals) == ONE


def test_two_workers_at_once_record_each_outcome_once(
    database: Database, ledger: Ledger, other_ledger: Ledger
) -> None:
    batches = [[make_outcome(event_id=f"o{batch}-{n}") for n in range(5)] for batch in range(10)]

    def work(worker: Ledger) -> list[OutcomeAnswer]:
        return [tell(worker, *batch) for batch in batches]

    with ThreadPoolExecutor(2) as threads:
        answers = [each for told in threads.map(work, (ledger, other_ledger)) for each in told]

    assert sum(answer.accepted for answer in answers) == 50
    assert sum(answer.duplicates for answer in answers) == 50
    assert resolved(ask(database).totals) == 50 * ONE
    assert broken_rollups(database) == []


def test_usage_and_outcome_of_one_batch_are_joined_at_once(
    database: Database, ledger: Ledger
) -> None:
    bodies = [msgspec.json.encode(make_outcome())]
    parsed = parse_outcomes(bodies, Door(ledger.clock(), ONE_DAY))
    record(ledger, make_event(event_id="e0", operation_id="op"))

    [answer] = ledger.apply([RecordOutcomes(parsed, NOBODY)])

    assert isinstance(answer, OutcomeAnswer)
    assert answer.waiting == 0
    assert [row.group for row in ask(database, "team").rows] == [("growth",)]


def test_an_outcome_shares_the_dimensions_of_the_last_attempt_that_knows_its_team(
    database: Database, ledger: Ledger
) -> None:
    record(
        ledger,
        make_event(event_id="a", operation_id="op", model="stepped"),
        make_event(event_id="b", operation_id="op", attempt=2),
        make_event(event_id="c", operation_id="op", attempt=3, tags={}),
    )

    tell(ledger, make_outcome())

    rows = ask(database, "team", "model", "is_retry").rows
    assert [row.group for row in rows if resolved(row)] == [("growth", "plain", "true")]


def test_the_unit_cost_of_a_total_is_total_cost_by_total_outcomes(
    database: Database, ledger: Ledger
) -> None:
    growth = {"team": "growth"}
    record(
        ledger,
        make_event(event_id="a", tags=growth, usage={"input_tokens": 10_000}),
        make_event(event_id="b", tags={"team": "search"}, usage={"input_tokens": 30_000}),
        make_event(event_id="c", tags={"team": "idle"}, usage={"input_tokens": 10_000}),
    )
    tell(
        ledger,
        make_outcome(operation_id=None, tags=growth, value=4),
        make_outcome(event_id="o2", operation_id=None, tags={"team": "search"}, value=1),
        make_outcome(event_id="o3", operation_id=None, tags={"team": "new"}, value=1),
        make_outcome(event_id="o4", operation_id=None, tags=growth, name="accepted"),
    )

    table = ask(database, "team")

    assert {row.group[0]: (row.effective_nanos, resolved(row)) for row in table.rows} == {
        "growth": (10_000_000, 4 * ONE),
        "search": (30_000_000, ONE),
        "idle": (10_000_000, 0),
        "new": (0, ONE),
    }
    assert (table.totals.effective_nanos, resolved(table.totals)) == (50_000_000, 6 * ONE)


def test_filters_and_days_keep_costs_and_outcomes_together(
    database: Database, ledger: Ledger
) -> None:
    for day in (18, 19, 20):
        record(
            ledger,
            make_event(event_id=f"e{day}", occurred_at=f"2026-11-{day}T10:00:00Z"),
            make_event(
                event_id=f"s{day}", occurred_at=f"2026-11-{day}T10:00:00Z", tags={"team": "search"}
            ),
        )
        tell(
            ledger,
            make_outcome(
                event_id=f"o{day}",
                operation_id=None,
                tags={"team": "growth"},
                occurred_at=f"2026-11-{day}T10:00:00Z",
                value=day,
            ),
        )

    table = ask(database, granularity="day", filters=(CostFilter("team", ("growth",)),), limit=2)

    assert [(row.requests, resolved(row)) for row in table.rows] == [(1, 18 * ONE), (1, 19 * ONE)]
    assert (table.totals.requests, resolved(table.totals)) == (3, 57 * ONE)


def test_rollups_that_differ_from_the_outcomes_are_found(
    database: Database, ledger: Ledger
) -> None:
    tell(ledger, make_outcome())
    with database.locked_connection() as connection:
        connection.exec_driver_sql("UPDATE outcome_rollups SET outcomes = 2")

    assert len(broken_rollups(database)) == 2


def test_many_waiting_outcomes_are_joined_in_parts(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenbudget.services.outcomes.JOINED_AT_ONCE", 3)
    tell(
        ledger,
        *(make_outcome(event_id=f"o{n}", operation_id=f"op{n}") for n in range(8)),
    )
    record(ledger, *(make_event(event_id=f"e{n}", operation_id=f"op{n}") for n in range(0, 8, 2)))

    assert join_outcomes(ledger.apply) == 4
    assert {row.group: resolved(row) for row in ask(database, "team").rows} == {
        ("growth",): 4 * ONE,
        ("unallocated",): 4 * ONE,
    }
    assert broken_rollups(database) == []

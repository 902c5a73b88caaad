"""Drill-down to single usages: where they are found, how pages go on, what stands for what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders import (
    CENT,
    PRICES,
    hold_cents,
    make_event,
    make_events,
    record,
    record_work,
)
from tests.conftest import FrozenClock
from tokenbudget.domain.costs import CostFilter
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.event_queries import EventPage, EventQuery, EventRecord
from tokenbudget.domain.periods import Period
from tokenbudget.domain.usage import Basis, UsageEvent, Witness
from tokenbudget.services import event_queries
from tokenbudget.services.event_queries import get_event, get_operation, list_events
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.stretches import list_unnoted

DAY = Period(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
MONTH = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def events_of(database: Database, **conditions: Any) -> list[EventRecord]:
    """Give every page of the question in one list."""
    query = EventQuery(**conditions)
    records: list[EventRecord] = []
    for _ in range(100):
        page = list_events(database, PRICES, query)
        records += page.records
        if page.next_cursor is None:
            return records
        query = replace(query, cursor=page.next_cursor)
    raise AssertionError("pages never end")


def refs(records: list[EventRecord]) -> list[str]:
    """Give the event ids of the records."""
    return [each.event_ref for each in records]


def at(hour: int, minute: int = 0, *, day: int = 20) -> str:
    """Give a time of November as the wire spells it."""
    return f"2026-11-{day:02d}T{hour:02d}:{minute:02d}:00Z"


def test_events_come_newest_first_whenever_they_were_recorded(
    database: Database, ledger: Ledger, clock: FrozenClock
) -> None:
    record(ledger, make_event(event_id="noon", occurred_at=at(12)))
    clock.advance(days=2)
    record(
        ledger,
        make_event(event_id="late", occurred_at=at(11, 50)),
        make_event(event_id="later", occurred_at=at(12, 10)),
        make_event(event_id="after", occurred_at="2026-11-21T00:00:00Z"),
    )

    records = events_of(database, period=DAY)

    assert refs(records) == ["later", "noon", "late"]


def test_an_imported_history_is_found_by_when_it_occurred(
    database: Database, ledger: Ledger
) -> None:
    history = [
        make_event(event_id=f"h{day}", occurred_at=at(3, day % 60, day=day)) for day in range(1, 20)
    ]
    record(ledger, *reversed(history))

    fifth = Period(datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC))

    assert refs(events_of(database, period=fifth)) == ["h5"]
    assert refs(events_of(database, period=MONTH)) == [f"h{day}" for day in range(19, 0, -1)]


def test_usage_that_is_not_found_by_its_time_is_noticed(database: Database, ledger: Ledger) -> None:
    record(ledger, make_event(), make_event(event_id="old", occurred_at="1970-01-01T00:00:00Z"))

    with database.reading() as session:
        assert list_unnoted(session, limit=10) == []
    with database.locked_connection() as connection:
        connection.exec_driver_sql("DELETE FROM usage_stretches")
    with database.reading() as session:
        assert len(list_unnoted(session, limit=10)) == 2


def test_pages_give_every_event_once_in_order(database: Database, ledger: Ledger) -> None:
    record(
        ledger,
        *(make_event(event_id=f"e{n:02d}", occurred_at=at(n % 5, n % 3)) for n in range(23)),
    )

    whole = events_of(database, period=DAY)
    paged = events_of(database, period=DAY, limit=4)

    assert len(whole) == 23
    assert paged == whole
    assert [each.occurred_at for each in whole] == sorted(
        (each.occurred_at for each in whole), reverse=True
    )


def test_a_page_looks_at_a_bounded_number_of_usages_and_goes_on(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queries, "MAX_EXAMINED", 10)
    record(ledger, *(make_event(event_id=f"e{n}", occurred_at=at(n)) for n in range(4)))

    first = list_events(database, PRICES, EventQuery(DAY, flag="no_such_flag"))

    assert first == EventPage([], first.next_cursor)
    assert first.next_cursor is not None
    assert events_of(database, period=DAY, flag="no_such_flag") == []
    assert refs(events_of(database, period=DAY)) == ["e3", "e2", "e1", "e0"]


def test_a_long_quarter_hour_is_looked_at_in_growing_parts(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queries, "LEAST_PER_LOOK", 2)
    monkeypatch.setattr(event_queries, "MOST_PER_LOOK", 5)
    record(ledger, *make_events(30), make_event(event_id="odd", model="unheard-of"))

    assert refs(events_of(database, period=DAY, flag="model_unknown", limit=1)) == ["odd"]
    assert len(events_of(database, period=DAY, limit=3)) == 31
    assert len(events_of(database, period=DAY, limit=1, trace_ref="none")) == 0


def test_a_page_walks_a_bounded_stretch_of_time_and_goes_on(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queries, "MAX_QUARTER_HOURS", 3)
    record(ledger, *(make_event(event_id=f"e{n}", occurred_at=at(n)) for n in range(8)))

    assert len(list_events(database, PRICES, EventQuery(DAY)).records) == 3
    assert refs(events_of(database, period=DAY)) == [f"e{n}" for n in range(7, -1, -1)]
    assert refs(events_of(database, period=DAY, filters=(CostFilter("team", ("growth",)),))) == [
        f"e{n}" for n in range(7, -1, -1)
    ]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"filters": (CostFilter("team", ("growth",)),)}, ["retry", "plain"]),
        ({"filters": (CostFilter("team", ("growth",), negated=True),)}, ["odd"]),
        ({"filters": (CostFilter("status", ("error",)),)}, ["odd"]),
        ({"filters": (CostFilter("is_retry", ("true",)),)}, ["retry"]),
        ({"filters": (CostFilter("tag:project", ("apollo",)),)}, ["retry"]),
        ({"filters": (CostFilter("tag:user", ("u-17",)),)}, ["plain"]),
        ({"filters": (CostFilter("tenant", (None,)),)}, ["odd"]),
        ({"basis": Basis.UNPRICED}, ["odd"]),
        ({"basis": Basis.RATED}, ["retry", "plain"]),
        ({"flag": "model_unknown"}, ["odd"]),
        ({"source": "worker"}, ["odd"]),
        ({"source": "nobody"}, []),
        ({"trace_ref": "trace-1"}, ["plain"]),
        ({"event_ref": "plain"}, ["plain"]),
        ({"event_ref": "plain", "source": "worker"}, []),
        ({"operation_ref": "op-1"}, ["retry", "plain"]),
    ],
)
def test_conditions_keep_what_they_admit(
    database: Database, ledger: Ledger, conditions: dict[str, Any], found: list[str]
) -> None:
    tags = {"team": "growth", "tenant": "acme"}
    record(
        ledger,
        make_event(
            event_id="plain",
            tags={**tags, "user": "u-17"},
            trace_id="trace-1",
            operation_id="op-1",
            occurred_at=at(9),
        ),
        make_event(
            event_id="retry",
            tags={**tags, "project": "apollo"},
            attempt=2,
            operation_id="op-1",
            occurred_at=at(10),
        ),
        make_event(
            event_id="odd",
            source="worker",
            model="unheard-of",
            status="error",
            tags={"team": "search"},
            occurred_at=at(11),
        ),
    )

    assert refs(events_of(database, period=DAY, **conditions)) == found


def tell(ledger: Ledger, witness: Witness, **overrides: Any) -> None:
    """Record one witness's event of a call that a response id names."""
    event = make_event(response_id="resp-1", **overrides)
    work = record_work([event], now=ledger.clock())
    [item] = work.items
    assert isinstance(item, UsageEvent)
    ledger.apply([replace(work, items=[replace(item, witness=witness)])])


def test_a_call_is_found_by_its_response_and_shows_every_witness(
    database: Database, ledger: Ledger
) -> None:
    tell(ledger, Witness.OTLP, event_id="o", usage={"input_tokens": 9_000})
    tell(ledger, Witness.GATEWAY, event_id="g", reported_cost="0.03")
    tell(ledger, Witness.SDK, event_id="s", provider=" ACME ", hold_id="unheard-of")

    [counting] = events_of(database, response_ref="resp-1")
    history = get_event(database, "api/o")

    assert counting.event_ref == "g"
    assert len(events_of(database, response_ref="resp-1", is_counting=False)) == 3
    assert refs(events_of(database, period=DAY)) == ["g"]
    assert [(each.event_ref, each.is_counting) for each in history.witnesses] == [
        ("g", True),
        ("s", False),
        ("o", False),
    ]
    assert history.counting == counting
    assert sum(each.effective_nanos or 0 for each in history.charges) == 2 * CENT
    assert [event.usage_id for event in history.revisions] == [history.record.usage_id]
    assert get_event(database, "api/g").charges == history.charges


def test_a_call_is_found_by_the_hold_it_settled(database: Database, ledger: Ledger) -> None:
    hold_id = hold_cents(ledger, 2)
    record(ledger, make_event(hold_id=hold_id), make_event(event_id="other"))

    assert refs(events_of(database, hold_id=hold_id)) == ["e1"]
    assert events_of(database, hold_id="unheard-of") == []


def test_a_voided_event_counts_no_more_and_keeps_its_history(
    database: Database, ledger: Ledger
) -> None:
    record(ledger, make_event())
    void = {**make_event(revision=1), "void": True}
    del void["usage"]
    record(ledger, void)

    history = get_event(database, "api/e1")

    assert events_of(database, period=DAY) == []
    assert len(events_of(database, event_ref="e1", is_counting=False)) == 2
    assert sum(each.effective_nanos or 0 for each in history.charges) == 0
    assert history.counting is None


def test_an_operation_is_found_without_a_period(database: Database, ledger: Ledger) -> None:
    record(ledger, *make_events(3, operation_id="op-1"), make_event(event_id="other"))

    assert len(events_of(database, operation_ref="op-1")) == 3


def test_a_cursor_of_another_question_is_refused(database: Database, ledger: Ledger) -> None:
    record(ledger, *make_events(3))
    page = list_events(database, PRICES, EventQuery(DAY, limit=1))

    with pytest.raises(InvalidInput, match="another question"):
        list_events(database, PRICES, EventQuery(MONTH, cursor=page.next_cursor))


def test_only_the_last_revision_counts_and_all_can_be_shown(
    database: Database, ledger: Ledger
) -> None:
    record(ledger, make_event())
    record(ledger, make_event(revision=1, usage={"input_tokens": 40_000}))

    [counting] = events_of(database, period=DAY)
    both = events_of(database, period=DAY, is_counting=False)

    assert counting.revision == 1
    assert counting.charge is not None
    assert counting.charge.effective_nanos == 4 * CENT
    assert {each.revision: each.is_counting for each in both} == {0: False, 1: True}


def test_an_event_shows_its_revisions_and_every_movement_of_its_money(
    database: Database, ledger: Ledger
) -> None:
    record(ledger, make_event(source="app/one"))
    record(ledger, make_event(source="app/one", revision=1, usage={"input_tokens": 40_000}))

    history = get_event(database, "app/one/e1")

    assert [each.revision for each in history.revisions] == [0, 1]
    assert [each.effective_nanos for each in history.charges] == [2 * CENT, 4 * CENT, -2 * CENT]
    assert [each.is_reversal for each in history.charges] == [False, False, True]
    assert history.counting == history.revisions[1]
    assert history.record == history.revisions[0]
    assert get_event(database, str(history.record.usage_id)) == history


@pytest.mark.parametrize("name", ["77", "api/none", "none", "9" * 30, "/", "a/b/c/d"])
def test_an_event_that_is_not_there_is_not_found(database: Database, name: str) -> None:
    with pytest.raises(NotFound):
        get_event(database, name)


def test_an_operation_costs_all_its_attempts_and_wastes_those_that_failed(
    database: Database, ledger: Ledger
) -> None:
    record(
        ledger,
        make_event(event_id="a", operation_id="op", status="timeout", occurred_at=at(9)),
        make_event(event_id="b", operation_id="op", attempt=2, occurred_at=at(9, 1)),
        make_event(
            event_id="c", operation_id="op", attempt=3, model="unheard-of", occurred_at=at(9, 2)
        ),
        make_event(event_id="d", operation_id="another"),
    )

    totals = get_operation(database, "op")

    assert (totals.attempts, totals.retries, totals.failed, totals.unpriced) == (3, 2, 1, 1)
    assert (totals.effective_nanos, totals.waste_nanos) == (4 * CENT, 2 * CENT)
    assert totals.ended_at - totals.started_at == timedelta(minutes=2)
    assert [each.event_ref for each in totals.records] == ["a", "b", "c"]


def test_an_operation_nobody_told_of_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound, match="op-9"):
        get_operation(database, "op-9")

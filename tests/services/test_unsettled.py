"""Calls of unknown outcome: charged for their input, listed until somebody tells."""

from __future__ import annotations

from datetime import timedelta
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
    standings,
)
from tests.conftest import FrozenClock
from tests.services.witness_cases import tell_work
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.holds import HoldState
from tokenbudget.domain.unsettled import OpenCall
from tokenbudget.domain.usage import Witness
from tokenbudget.formats.cursors import encode_cursor
from tokenbudget.services.holds import get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.retagging import EventTarget, RetagUsage, TagChange
from tokenbudget.services.unsettled import list_unsettled
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow


@pytest.fixture(autouse=True)
def _one_budget(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())


def lost(hold_id: str | None, **overrides: Any) -> dict[str, Any]:
    """Give the event of a call that timed out: nobody knows what it used."""
    event = make_event(status="timeout", hold_id=hold_id, response_id="r1", **overrides)
    event.pop("usage")
    return event


def open_calls(database: Database) -> list[OpenCall]:
    """Give the whole list."""
    return list(list_unsettled(database).items)


def spent_and_held(database: Database, clock: FrozenClock) -> tuple[int, int]:
    """Give settled and held of the budget's current window, in cents."""
    settled, held = standings(database, now=clock())["all",]
    return settled // CENT, held // CENT


def test_a_call_of_unknown_outcome_is_charged_for_its_input(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = ask(ledger)["hold_id"]

    assert record(ledger, lost(hold_id)).unpriced == 0

    [call] = open_calls(database)
    [charge] = rows_of(database, ChargeRow)
    # A cent of input and a cent of output were held.
    assert spent_and_held(database, clock) == (1, 0)
    assert get_hold(database, hold_id).state is HoldState.SETTLED
    assert (charge["basis"], charge["flags"]) == ("estimated", "estimated_input_only")
    assert (call.hold_id, call.since) == (hold_id, clock())
    assert (call.team, call.feature, call.model) == ("growth", "summarise", "plain")
    assert (call.estimate_nanos, call.provisional_nanos) == (2 * CENT, CENT)
    assert broken_rules(database) == []


def test_a_call_whose_hold_knows_no_input_stays_unpriced_and_is_listed(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = ask(ledger, estimate="0.05", input_tokens=None)["hold_id"]

    assert record(ledger, lost(hold_id)).unpriced == 1

    [call] = open_calls(database)
    assert spent_and_held(database, clock) == (0, 0)
    assert (call.estimate_nanos, call.provisional_nanos) == (5 * CENT, None)


def test_a_call_under_no_hold_is_unpriced_and_not_on_this_list(
    ledger: Ledger, database: Database
) -> None:
    assert record(ledger, lost(None)).unpriced == 1

    assert open_calls(database) == []


def test_a_known_end_is_not_on_the_list(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(hold_id=hold_cents(ledger, 5)))
    record(ledger, make_event(event_id="e2", status="error", hold_id=hold_cents(ledger, 5)))

    assert open_calls(database) == []


def test_the_same_report_again_is_a_duplicate(ledger: Ledger, database: Database) -> None:
    event = lost(ask(ledger)["hold_id"])
    record(ledger, event)

    assert record(ledger, event).duplicates == 1
    assert len(open_calls(database)) == 1


def test_a_revision_that_tells_takes_the_call_off_the_list(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    event = lost(ask(ledger)["hold_id"])
    record(ledger, event)

    record(ledger, {**event, "usage": cents(7), "revision": 1})

    assert open_calls(database) == []
    assert spent_and_held(database, clock) == (7, 0)
    assert broken_rules(database) == []


@pytest.mark.parametrize("witness", [Witness.GATEWAY, Witness.PROVIDER])
def test_another_witness_takes_the_call_off_the_list(
    ledger: Ledger, database: Database, clock: FrozenClock, witness: Witness
) -> None:
    record(ledger, lost(ask(ledger)["hold_id"]))

    row = make_event(event_id="row-1", usage=cents(7), response_id="r1")
    ledger.apply([tell_work(ledger, witness, [row])])

    assert open_calls(database) == []
    assert spent_and_held(database, clock) == (7, 0)
    assert broken_rules(database) == []


def test_a_void_takes_the_call_off_the_list(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    event = lost(ask(ledger)["hold_id"])
    record(ledger, event)

    record(ledger, {**event, "void": True, "revision": 1})

    assert open_calls(database) == []
    assert spent_and_held(database, clock) == (0, 0)
    assert broken_rules(database) == []


def test_a_better_witness_that_is_voided_puts_the_call_back(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, lost(ask(ledger)["hold_id"]))
    row = make_event(event_id="row-1", usage=cents(7), response_id="r1")
    ledger.apply([tell_work(ledger, Witness.PROVIDER, [row])])

    taken_back = {**row, "void": True, "revision": 1}
    ledger.apply([tell_work(ledger, Witness.PROVIDER, [taken_back])])

    [call] = open_calls(database)
    assert call.provisional_nanos == CENT
    assert spent_and_held(database, clock) == (1, 0)
    assert broken_rules(database) == []


def test_a_call_whose_tags_are_learned_stays_on_the_list_under_them(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, lost(ask(ledger)["hold_id"], tags={"team": "growth"}))

    change = TagChange(EventTarget("api", "e1"), {"feature": "chat"})
    ledger.apply([RetagUsage([change])])

    [call] = open_calls(database)
    assert (call.feature, call.provisional_nanos) == ("chat", CENT)
    assert broken_rules(database) == []


def test_a_lost_piece_takes_its_input_out_of_the_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = ask(ledger, requests=4)["hold_id"]

    record(ledger, lost(hold_id))

    [call] = open_calls(database)
    assert spent_and_held(database, clock) == (1, 7)
    assert (call.requests, call.estimate_nanos) == (4, 8 * CENT)
    assert broken_rules(database) == []


def test_a_hold_that_ran_out_without_a_word_is_listed_until_usage_comes(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    ended = get_hold(database, hold_id).expires_at
    clock.advance(minutes=5)
    ledger.apply([])

    [hold] = open_calls(database)
    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert (hold.usage_id, hold.hold_id, hold.since) == (None, hold_id, ended)
    assert (hold.team, hold.feature, hold.model) == ("growth", "summarise", "plain")
    assert (hold.estimate_nanos, hold.provisional_nanos) == (5 * CENT, None)
    assert open_calls(database) == []


def test_pages_go_through_calls_and_holds_newest_first(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    started = clock()
    holds = [hold_cents(ledger, 1, ttl_seconds=60 + 60 * (number // 2)) for number in range(4)]
    for number, hold_id in enumerate([hold_cents(ledger, 1) for _ in range(3)]):
        event = lost(hold_id, event_id=f"e{number}", occurred_at="2026-11-20T12:01:00Z")
        assert record(ledger, {**event, "response_id": None}).accepted == 1
    clock.advance(minutes=5)
    ledger.apply([])

    seen: list[OpenCall] = []
    cursor = None
    for _ in range(10):
        page = list_unsettled(database, cursor=cursor, limit=2)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break

    totals = (page.calls, page.provisional_nanos, page.expired_holds)
    assert totals == (3, 3 * CENT, 4)
    minutes = [(each.since - started) // timedelta(minutes=1) for each in seen]
    assert minutes == [2, 2, 1, 1, 1, 1, 1]
    assert [each.usage_id is None for each in seen] == [True, True, False, False, False, True, True]
    assert {each.hold_id for each in seen if each.usage_id is None} == set(holds)
    assert len(set(seen)) == 7


@pytest.mark.parametrize(
    "parts",
    [[1, "call", "x"], [1, "bill", "1"], ["1", "call", "1"], [2**70, "hold", "a"], [1, "hold", 2]],
)
def test_a_cursor_that_no_page_gave_is_refused(database: Database, parts: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="cursor is not one that a page of this list gave"):
        list_unsettled(database, cursor=encode_cursor(parts))


@pytest.mark.parametrize("limit", [0, 1_001])
def test_a_page_has_bounds(database: Database, limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit must be 1 to 1000"):
        list_unsettled(database, limit=limit)

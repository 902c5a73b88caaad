"""Thresholds: crossed in the transaction that moved the counter, once, and told by one message."""

from __future__ import annotations

import pytest

from tests.builders import (
    CENT,
    cents,
    hold_cents,
    make_budget,
    make_event,
    make_events,
    record,
    release,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tokenbudget.services.alerts import list_alerts
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, OutboxRow


def thresholds(database: Database) -> list[str]:
    """Give the thresholds raised so far, lowest first."""
    return sorted(row["threshold"] for row in rows_of(database, AlertRow))


def messages(database: Database) -> list[str]:
    """Give the thresholds that messages tell of, lowest first."""
    return sorted(row["payload"]["threshold"] for row in rows_of(database, OutboxRow))


def test_nothing_is_raised_below_the_first_threshold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    record(ledger, make_event(usage={"input_tokens": 499_999}))

    assert thresholds(database) == []
    assert messages(database) == []


def test_a_crossing_is_a_row_and_a_message(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(split_by=["tenant"], owner="ana@example.com", on="actual"),
        now=clock(),
    )

    record(ledger, make_event(usage=cents(50)))

    [alert] = rows_of(database, AlertRow)
    [message] = rows_of(database, OutboxRow)
    assert (alert["budget_id"], alert["threshold"], alert["kind"]) == ("all", "0.5", "actual")
    assert (alert["measured"], alert["limit_quantity"]) == (50 * CENT, 100 * CENT)
    assert (message["topic"], message["state"]) == ("budget.threshold_crossed", "waiting")
    assert message["payload"] == {
        "type": "budget.threshold_crossed",
        "alert_id": alert["id"],
        "budget": "all",
        "budget_version": 1,
        "owner": "ana@example.com",
        "split": {"tenant": "acme"},
        "kind": "actual",
        "threshold": "0.5",
        "unit": "money",
        "currency": "USD",
        "measured": "0.500000000",
        "limit": "1.000000000",
        "share": "0.5",
        "window_start": "2026-11-01T00:00:00Z",
        "window_end": "2026-12-01T00:00:00Z",
        "raised_at": "2026-11-20T12:00:00Z",
    }


def test_of_several_thresholds_in_one_posting_only_the_highest_is_told(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    record(ledger, make_event(usage=cents(85)))

    assert thresholds(database) == ["0.5", "0.8"]
    assert messages(database) == ["0.8"]


def test_a_threshold_is_raised_once_however_often_it_is_crossed(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    for _ in range(3):
        release(ledger, hold_cents(ledger, 60))

    assert thresholds(database) == ["0.5"]
    assert messages(database) == ["0.5"]


def test_usage_above_a_threshold_raises_nothing_more(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(mode="soft"), now=clock())

    for event in make_events(6, usage=cents(30)):
        record(ledger, event)

    assert thresholds(database) == ["0.5", "0.8", "1"]
    assert messages(database) == ["0.5", "0.8", "1"]


@pytest.mark.parametrize(("on", "raised"), [("committed", ["0.5"]), ("actual", [])])
def test_a_hold_moves_only_what_is_committed(
    ledger: Ledger, database: Database, clock: FrozenClock, on: str, raised: list[str]
) -> None:
    set_budgets(database, make_budget(on=on), now=clock())

    hold_cents(ledger, 60)

    assert thresholds(database) == raised


def test_settling_a_hold_at_its_estimate_crosses_nothing_that_is_committed(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(thresholds=["0.6"]), now=clock())
    hold_id = hold_cents(ledger, 59)

    record(ledger, make_event(usage=cents(59), hold_id=hold_id))

    assert thresholds(database) == []


def test_every_split_value_and_every_window_has_its_own_thresholds(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(
            window="day",
            split_by=["tenant"],
            thresholds=["0.5"],
            valid_from="2026-11-01T00:00:00Z",
        ),
        now=clock(),
    )

    record(
        ledger,
        make_event(event_id="a", usage=cents(60), tags={"tenant": "a"}),
        make_event(event_id="b", usage=cents(60), tags={"tenant": "b"}),
        make_event(
            event_id="c",
            usage=cents(60),
            tags={"tenant": "a"},
            occurred_at="2026-11-19T12:00:00Z",
        ),
    )

    raised = {(row["split_key"], row["window_start"].day) for row in rows_of(database, AlertRow)}
    assert raised == {('["a"]', 20), ('["b"]', 20), ('["a"]', 19)}
    assert len(messages(database)) == 3


def test_token_budgets_tell_whole_tokens(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(unit="tokens", limit=10_000), now=clock())

    record(ledger, make_event(usage={"input_tokens": 12_345}))

    [message] = rows_of(database, OutboxRow)
    assert message["payload"]["measured"] == "12345"
    assert message["payload"]["limit"] == "10000"
    assert message["payload"]["share"] == "1.2345"


def test_applying_a_budget_to_what_was_spent_raises_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(usage=cents(90)))

    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event(event_id="e2", usage=cents(1)))

    assert thresholds(database) == []


def test_a_counter_of_an_earlier_count_raises_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(thresholds=["0.5"]), now=clock())
    hold_id = hold_cents(ledger, 40)
    set_budgets(database, make_budget(thresholds=["0.5"], selector={"team": "x"}), now=clock())

    record(ledger, make_event(usage=cents(70), hold_id=hold_id))

    assert thresholds(database) == []


def test_alerts_are_listed_newest_first_within_the_limit(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(mode="soft"), now=clock())
    for event in make_events(4, usage=cents(30)):
        record(ledger, event)
        clock.advance(minutes=1)

    listed = list_alerts(database, limit=2)

    assert [alert.threshold for alert in listed] == ["1", "0.8"]

"""Thresholds of windows that roll: crossed on the sum of the days, whichever of them moves."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.builders import CENT, cents, hold_cents, make_event, record, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.services.rolling_cases import binding_of, raised, rolling, spend
from tokenbudget.domain.budgets import BudgetMatch
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.rulebook import load_budgets
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, OutboxRow

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)


def test_thresholds_are_crossed_on_the_sum_of_the_days(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"]), now=clock())
    spend(ledger, 30, "2026-11-18T10:00:00Z")
    before = raised(database)

    spend(ledger, 25, "2026-11-20T10:00:00Z")

    [alert] = rows_of(database, AlertRow)
    [message] = rows_of(database, OutboxRow)
    assert before == []
    assert (alert["threshold"], alert["measured"]) == ("0.5", 55 * CENT)
    assert alert["window_start"] == datetime(2026, 11, 18, tzinfo=UTC)
    assert alert["window_end"] == MIDNIGHT
    assert message["payload"]["window_start"] == "2026-11-18T00:00:00Z"
    assert message["payload"]["window_end"] == "2026-11-21T00:00:00Z"
    assert message["payload"]["share"] == "0.55"


def test_money_that_arrives_late_crosses_the_thresholds_of_today(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"]), now=clock())
    spend(ledger, 30, "2026-11-20T10:00:00Z")

    spend(ledger, 19, "2026-11-18T10:00:00Z")
    before = raised(database)
    spend(ledger, 1, "2026-11-18T11:00:00Z")

    assert (before, raised(database)) == ([], ["0.5"])


def test_several_days_that_move_at_once_cross_once_by_their_sum(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5", "0.8", "1"]), now=clock())

    record(
        ledger,
        *(
            make_event(event_id=f"e{day}", usage=cents(29), occurred_at=f"2026-11-{day}T10:00:00Z")
            for day in (17, 18, 19, 20)
        ),
    )

    # Eighty-seven cents in the three days; those of the seventeenth are no part of them.
    assert raised(database) == ["0.5", "0.8"]
    assert [row["payload"]["measured"] for row in rows_of(database, OutboxRow)] == ["0.870000000"]


def test_the_turn_of_a_day_raises_nothing_and_lets_a_threshold_be_crossed_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"]), now=clock())
    spend(ledger, 30, "2026-11-18T10:00:00Z")
    spend(ledger, 30, "2026-11-20T10:00:00Z")
    crossed_once = raised(database)
    clock.advance(days=1)
    spend(ledger, 1, "2026-11-21T10:00:00Z")
    after_the_turn = raised(database)

    spend(ledger, 20, "2026-11-21T11:00:00Z")

    assert (crossed_once, after_the_turn) == (["0.5"], ["0.5"])
    assert raised(database) == ["0.5", "0.5"]


def test_a_sum_that_stays_above_its_threshold_is_raised_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"]), now=clock())
    spend(ledger, 60, "2026-11-20T10:00:00Z")
    clock.advance(days=1)
    spend(ledger, 5, "2026-11-21T10:00:00Z")
    spend(ledger, 5, "2026-11-20T11:00:00Z")

    assert raised(database) == ["0.5"]


def test_thresholds_on_what_is_spent_leave_out_what_other_days_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"], on="actual"), now=clock())
    spend(ledger, 20, "2026-11-18T10:00:00Z")
    hold_cents(ledger, 40)

    spend(ledger, 29, "2026-11-19T10:00:00Z")
    before = raised(database)
    spend(ledger, 1, "2026-11-20T10:00:00Z")

    assert (before, raised(database)) == ([], ["0.5"])


def test_a_book_that_is_not_told_the_time_crosses_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.5"]), now=clock())
    with database.transaction() as session:
        [budget] = load_budgets(session)
        book = CounterBook(session, {"all": budget}, {})
        key = book.key_of(BudgetMatch(budget, ()), clock())
        assert key is not None
        book.lock()
        book.counter(key).settled += 90 * CENT
        crossings = book.write()

    assert crossings == []
    assert binding_of(ledger) == (90, 0, 10)

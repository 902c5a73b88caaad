"""Raises: more quota for a time, known to every worker at once, and what they do to alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.services.allowance_cases import allowed, carrying, raise_by, standing_of
from tests.services.rolling_cases import raised, rolling, spend
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.formats.raises import RaiseDraft
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.raises import (
    Asker,
    create_raise,
    end_raise,
    list_budget_raises,
    review_raises,
)
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, BudgetRaiseEndRow, BudgetRaiseRow

TOMORROW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def firing(database: Database) -> list[str]:
    """Give the thresholds that fire, lowest first."""
    alerts = rows_of(database, AlertRow)
    return sorted(each["threshold"] for each in alerts if each["resolved_at"] is None)


def review(database: Database, clock: FrozenClock) -> tuple[int, int]:
    """Review raises as the job does."""
    return review_raises(database, now=clock(), currency="USD")


def test_a_raise_counts_in_every_worker_from_its_begin_to_its_end(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    assert allowed(other_ledger) == (0, 0, 100)

    raise_by(database, 50, since=clock() + timedelta(hours=1), until=TOMORROW, now=clock())

    assert allowed(ledger) == (0, 0, 100)
    clock.advance(hours=1)
    assert allowed(ledger) == (0, 50, 150)
    assert allowed(other_ledger) == (0, 50, 150)
    assert standing_of(database, clock()) == (0, 50, 150)
    assert ask(other_ledger, estimate="1.50")["decision"] == "allow"
    assert ask(ledger, estimate="0.01")["decision"] == "deny"
    clock.now = TOMORROW
    assert allowed(ledger) == (0, 0, 100)


def test_raises_add_up_and_every_counter_has_them(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    raise_by(database, 50, until=TOMORROW, now=clock())
    raise_by(database, 25, until=TOMORROW, now=clock())

    assert allowed(ledger, tags={"tenant": "acme"}) == (0, 75, 175)
    assert allowed(ledger, tags={"tenant": "zeta"}) == (0, 75, 175)


def test_a_raise_lifts_windows_that_roll_and_operations(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), make_budget(id="each", window="operation"), now=clock())
    spend(ledger, 40, "2026-11-19T12:00:00Z")
    raise_by(database, 50, until=TOMORROW, now=clock())
    create_raise(
        database,
        "each",
        RaiseDraft(200 * CENT, None, TOMORROW, "a long one"),
        asker=Asker(),
        now=clock(),
    )

    assert allowed(ledger, operation_id="op-1") == (0, 50, 110)
    assert ask(ledger, estimate="1.10", operation_id="op-1")["decision"] == "allow"


def test_a_raise_is_no_part_of_what_is_carried_over(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(rollover={"max_debt": "1.00"}), now=clock())
    raise_by(database, 50, until=TOMORROW, now=clock())
    spend(ledger, 130, "2026-11-20T12:00:00Z")

    clock.advance(hours=13)

    assert allowed(ledger) == (-30, 50, 120)
    assert standing_of(database, clock()) == (-30, 50, 120)


def test_ending_a_raise_is_a_further_fact(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    view = raise_by(database, 50, until=TOMORROW, now=clock())
    assert allowed(ledger) == (0, 50, 150)

    clock.advance(minutes=5)
    ended = end_raise(database, "all", view.terms.id, asker=Asker("key-2"), now=clock())
    clock.advance(minutes=5)
    again = end_raise(database, "all", view.terms.id, asker=Asker("key-3"), now=clock())

    assert allowed(ledger) == (0, 0, 100)
    assert (ended.ended_by, ended.asked_until) == ("key-2", TOMORROW)
    assert again == ended
    assert list_budget_raises(database, "all") == [ended]
    assert rows_of(database, BudgetRaiseRow)[0]["valid_to"] == TOMORROW
    assert len(rows_of(database, BudgetRaiseEndRow)) == 1


def test_ending_what_is_over_changes_nothing(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())
    view = raise_by(database, 50, until=TOMORROW, now=clock())
    clock.now = TOMORROW

    assert end_raise(database, "all", view.terms.id, asker=Asker(), now=clock()) == view
    assert rows_of(database, BudgetRaiseEndRow) == []


def test_the_same_idempotency_key_gives_the_same_raise(
    database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    asker = Asker("key-1", "again")
    draft = RaiseDraft(CENT, None, TOMORROW, "once")

    first, is_new = create_raise(database, "all", draft, asker=asker, now=clock())
    clock.advance(minutes=1)
    second, is_new_again = create_raise(database, "all", draft, asker=asker, now=clock())

    assert (is_new, is_new_again) == (True, False)
    assert first == second
    with pytest.raises(Conflict, match="was used for another raise"):
        create_raise(
            database, "all", RaiseDraft(2, None, TOMORROW, "once"), asker=asker, now=clock()
        )
    assert len(rows_of(database, BudgetRaiseRow)) == 1


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        (None, timedelta(0), "valid_to must be in the future"),
        (timedelta(hours=2), timedelta(hours=2), "valid_to must be after valid_from"),
        (timedelta(hours=-1), timedelta(hours=2), "valid_from must not be in the past"),
    ],
)
def test_a_raise_is_for_a_time_to_come(
    database: Database,
    clock: FrozenClock,
    since: timedelta | None,
    until: timedelta,
    message: str,
) -> None:
    set_budgets(database, make_budget(), now=clock())
    begin = None if since is None else clock() + since
    draft = RaiseDraft(CENT, begin, clock() + until, "too late")

    with pytest.raises(InvalidInput, match=message):
        create_raise(database, "all", draft, asker=Asker(), now=clock())


def test_only_what_is_there_can_be_raised_or_ended(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), make_budget(id="other"), now=clock())
    view = raise_by(database, 50, until=TOMORROW, now=clock())

    with pytest.raises(NotFound):
        list_budget_raises(database, "nothing")
    with pytest.raises(NotFound, match="has no raise"):
        end_raise(database, "other", view.terms.id, asker=Asker(), now=clock())


def test_a_raise_lifts_thresholds_so_that_they_may_be_crossed_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(thresholds=["0.8"]), now=clock())
    spend(ledger, 85, "2026-11-20T11:00:00Z")
    assert firing(database) == ["0.8"]

    raise_by(database, 100, until=TOMORROW, now=clock())

    assert firing(database) == []
    spend(ledger, 74, "2026-11-20T11:30:00Z")
    assert firing(database) == []
    spend(ledger, 1, "2026-11-20T11:40:00Z")
    assert firing(database) == ["0.8"]
    [latest] = [row for row in rows_of(database, AlertRow) if row["resolved_at"] is None]
    assert (latest["measured"], latest["limit_quantity"]) == (160 * CENT, 200 * CENT)


def test_a_raise_that_begins_later_resolves_alerts_when_it_does(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(thresholds=["0.8"]), now=clock())
    spend(ledger, 85, "2026-11-20T11:00:00Z")
    raise_by(database, 100, since=clock() + timedelta(hours=1), until=TOMORROW, now=clock())

    assert review(database, clock) == (0, 0)
    clock.advance(hours=1)
    assert review(database, clock) == (1, 0)

    assert firing(database) == []


@pytest.mark.parametrize("window", ["month", "rolling:3d", "operation"])
def test_the_end_of_a_raise_raises_what_is_above_the_thresholds_again(
    ledger: Ledger, database: Database, clock: FrozenClock, window: str
) -> None:
    set_budgets(database, make_budget(window=window, thresholds=["0.8"]), now=clock())
    until = clock() + timedelta(hours=1)
    raise_by(database, 100, until=until, now=clock())
    record(ledger, make_event(usage=cents(90), operation_id="op-1"))
    assert raised(database) == []

    clock.advance(hours=1)
    assert review(database, clock) == (0, 1)
    review(database, clock)

    assert firing(database) == raised(database) == ["0.8"]
    assert broken_rules(database) == []


def test_a_version_with_a_higher_limit_resolves_what_it_lifts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(on="actual"), now=clock())
    spend(ledger, 85, "2026-11-20T11:00:00Z")
    assert firing(database) == ["0.5", "0.8"]

    set_budgets(database, make_budget(on="actual", limit="1.50"), now=clock())

    assert firing(database) == ["0.5"]
    spend(ledger, 35, "2026-11-20T11:30:00Z")
    assert firing(database) == ["0.5", "0.8"]
    assert raised(database) == ["0.5", "0.8", "0.8"]


def test_a_higher_limit_resolves_alerts_on_days_that_roll_by_their_sum(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(thresholds=["0.8"]), now=clock())
    spend(ledger, 50, "2026-11-19T11:00:00Z")
    spend(ledger, 35, "2026-11-20T11:00:00Z")
    assert firing(database) == ["0.8"]

    set_budgets(database, rolling(thresholds=["0.8"], limit="1.05"), now=clock())
    assert firing(database) == ["0.8"]
    set_budgets(database, rolling(thresholds=["0.8"], limit="1.07"), now=clock())

    assert firing(database) == []


def test_of_no_limit_the_first_cent_crosses_every_threshold_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0", mode="soft"), now=clock())

    spend(ledger, 1, "2026-11-20T11:00:00Z")
    spend(ledger, 1, "2026-11-20T11:30:00Z")

    assert raised(database) == ["0.5", "0.8", "1"]

"""What is left of a window is carried into the next, once and for all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    check_work,
    hold_cents,
    make_budget,
    make_check,
    make_event,
    record_work,
    release,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.services.allowance_cases import allowed, carrying, standing_of
from tests.services.rolling_cases import raised, spend
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow

NUMBERS = count()


def carries(database: Database) -> dict[str, int | None]:
    """Give the final carry of each day in cents, None where it is not final."""
    return {
        f"{row['window_start']:%m-%d}": None if row["carry"] is None else row["carry"] // CENT
        for row in rows_of(database, CounterRow)
    }


def test_what_is_left_of_a_day_may_be_used_on_the_next(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    spend(ledger, 30, "2026-11-20T12:00:00Z")

    clock.advance(days=1)
    granted = ask(ledger, estimate="1.70")
    denied = ask(ledger, estimate="0.01")

    assert granted["decision"] == "allow"
    assert denied["decision"] == "deny"
    assert denied["binding"]["carry"] == "0.700000000"
    assert denied["binding"]["limit"] == "1.000000000"
    assert denied["binding"]["headroom"] == "0.000000000"
    assert standing_of(database, clock()) == (70, 0, 0)
    assert broken_rules(database) == []


def test_no_more_is_carried_than_the_limit_unless_more_is_said(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    generous = carrying(id="generous", rollover={"max_carry": "2.50"})
    set_budgets(database, carrying(), generous, now=clock())

    clock.advance(days=4)

    both = {each.budget.id: each.carry // CENT for each in list_standings(database, now=clock())}
    assert both == {"all": 100, "generous": 250}
    assert allowed(ledger) == (100, 0, 200)
    assert both == {
        each.budget.id: each.carry // CENT for each in list_standings(database, now=clock())
    }


def test_an_overspent_day_is_a_debt_only_if_debts_are_carried(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    indebted = carrying(id="indebted", rollover={"max_debt": "0.40"})
    set_budgets(database, carrying(), indebted, now=clock())
    spend(ledger, 175, "2026-11-20T12:00:00Z")

    clock.advance(days=1)
    denied = ask(ledger, estimate="0.61")

    assert denied["binding"]["budget"] == "indebted"
    assert denied["binding"]["carry"] == "-0.400000000"
    assert denied["binding"]["headroom"] == "0.600000000"
    assert {
        each.budget.id: each.headroom // CENT for each in list_standings(database, now=clock())
    } == {"all": 100, "indebted": 60}


def test_what_is_held_counts_as_spent_until_it_is_known(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    clock.now = datetime(2026, 11, 20, 23, 59, 50, tzinfo=UTC)
    hold_id = hold_cents(ledger, 60)
    clock.advance(seconds=20)

    assert allowed(ledger) == (40, 0, 140)
    assert standing_of(database, clock()) == (40, 0, 140)
    assert carries(database) == {"11-20": 0, "11-21": None}
    release(ledger, hold_id)
    assert allowed(ledger) == (100, 0, 200)
    assert carries(database) == {"11-20": 0, "11-21": 100}


def test_a_hold_that_settles_in_the_batch_of_a_check_is_known_to_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    clock.now = datetime(2026, 11, 20, 23, 59, 50, tzinfo=UTC)
    hold_id = hold_cents(ledger, 60)
    clock.advance(seconds=20)
    event = make_event(usage=cents(25), hold_id=hold_id, occurred_at="2026-11-20T23:59:55Z")

    _, decision = ledger.apply(
        [record_work([event], now=clock()), check_work(make_check(estimate="1.76"))]
    )

    assert isinstance(decision, dict)
    assert decision["decision"] == "deny"
    assert decision["binding"]["carry"] == "0.750000000"
    assert carries(database) == {"11-20": 0, "11-21": 75}
    assert broken_rules(database) == []


def test_usage_that_comes_too_late_no_longer_changes_what_was_carried(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    spend(ledger, 10, "2026-11-20T12:00:00Z")
    clock.advance(days=1)
    assert allowed(ledger) == (90, 0, 190)

    spend(other_ledger, 50, "2026-11-20T12:30:00Z")

    assert allowed(ledger) == (90, 0, 190)
    assert allowed(other_ledger) == (90, 0, 190)
    assert standing_of(database, clock()) == (90, 0, 190)
    assert broken_rules(database) == []


def test_days_that_nothing_counted_in_pass_on_what_they_had(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(rollover={"max_carry": "5.00"}), now=clock())
    spend(ledger, 30, "2026-11-20T12:00:00Z")

    clock.advance(days=3)

    # 70 of the first day and a dollar of each of the two days that nobody used.
    assert standing_of(database, clock()) == (270, 0, 370)
    assert allowed(ledger) == (270, 0, 370)


def test_a_split_value_that_was_never_seen_has_nothing_to_carry(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(split_by=["tenant"]), now=clock())
    spend(ledger, 30, "2026-11-20T12:00:00Z", tags={"tenant": "acme"})

    clock.advance(days=1)

    assert allowed(ledger, tags={"tenant": "acme"}) == (70, 0, 170)
    assert allowed(ledger, tags={"tenant": "newcomer"}) == (0, 0, 100)


def test_the_terms_of_the_window_that_ends_decide_what_it_leaves(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    spend(ledger, 30, "2026-11-20T12:00:00Z")
    clock.advance(days=1)

    set_budgets(database, carrying(limit="9.00"), now=clock())

    assert standing_of(database, clock()) == (70, 0, 970)
    assert allowed(ledger) == (70, 0, 970)


def test_windows_before_the_rollover_was_written_leave_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    spend(ledger, 30, "2026-11-20T12:00:00Z")
    clock.advance(days=1)

    set_budgets(database, carrying(), now=clock())
    first = allowed(ledger)
    clock.advance(days=1)

    assert first == (0, 0, 100)
    assert allowed(ledger) == (100, 0, 200)


def test_a_rollover_that_is_taken_away_leaves_the_limit(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    clock.advance(days=1)
    assert allowed(ledger) == (100, 0, 200)

    set_budgets(database, make_budget(window="day"), now=clock())

    assert allowed(ledger) == (0, 0, 100)
    assert standing_of(database, clock()) == (0, 0, 100)


def test_thresholds_stay_shares_of_the_limit(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(thresholds=["0.8"]), now=clock())
    clock.advance(days=1)

    spend(ledger, 79, "2026-11-21T11:00:00Z")
    assert raised(database) == []
    spend(ledger, 1, "2026-11-21T11:00:01Z")

    assert raised(database) == ["0.8"]


def test_usage_dated_ahead_of_the_clock_freezes_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, carrying(), now=clock())
    spend(ledger, 5, "2026-11-21T00:30:00Z")
    spend(ledger, 30, "2026-11-20T12:00:00Z")

    clock.advance(days=1)

    assert allowed(ledger) == (70, 0, 165)


@pytest.mark.parametrize("baseline", ["window", "creation"])
def test_what_was_spent_before_creation_is_left_or_spent_by_the_baseline(
    ledger: Ledger, database: Database, clock: FrozenClock, baseline: str
) -> None:
    spend(ledger, 30, "2026-11-20T11:00:00Z")
    set_budgets(database, carrying(baseline=baseline), now=clock())

    clock.advance(days=1)

    assert allowed(ledger)[0] == {"window": 70, "creation": 100}[baseline]


@given(
    days=st.lists(st.lists(st.integers(0, 150), max_size=2), min_size=1, max_size=4),
    max_carry=st.integers(0, 250),
    max_debt=st.integers(0, 120),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_carry_is_what_the_rule_says_day_by_day(
    services: Services, days: list[list[int]], max_carry: int, max_debt: int
) -> None:
    clock = FrozenClock(datetime(2026, 11, 20, 12, tzinfo=UTC))
    ledger = make_ledger(replace(services, clock=clock))
    name = f"tenant-{next(NUMBERS)}"
    tags = {"tenant": name}
    rollover = {"max_carry": f"{max_carry / 100:.2f}", "max_debt": f"{max_debt / 100:.2f}"}
    budget = carrying(id=name, rollover=rollover, selector=tags)
    set_budgets(services.database, budget, now=clock())
    carry = 0
    for spent in days:
        for place, amount in enumerate(spent):
            spend(ledger, amount, clock().isoformat(), tags=tags, operation_id=str(place))
        carry = max(-max_debt, min(max_carry, 100 + carry - sum(spent)))
        clock.advance(days=1)

    [standing] = list_standings(services.database, now=clock(), budget_id=name)
    assert standing.carry // CENT == carry
    assert allowed(ledger, tags=tags) == (carry, 0, 100 + carry)

"""What budgets would have done to calls in order of time, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.budgets import Budget, BudgetWindow, Mode, Unit
from tokenbudget.domain.periods import Period, Window
from tokenbudget.domain.replay import (
    MAX_SPLITS_TOLD,
    MAX_WINDOWS_TOLD,
    BudgetReplay,
    Call,
    Replay,
    Replayer,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
DAILY = BudgetWindow(Window.DAY, None)
GROWTH, SEARCH = 1, 2
SETS = {
    GROWTH: DimensionSet(team="growth", provider="acme", model="plain", tenant="t1"),
    SEARCH: DimensionSet(team="search", provider="acme", model="plain", tenant="t2"),
}


def make_call(minute: int, nanos: int = 10, set_id: int = GROWTH, **facts: Any) -> Call:
    """Give a call of so many nanos, so many minutes after noon."""
    return Call(NOON + timedelta(minutes=minute), set_id, nanos, **facts)


def replayed(budgets: Iterable[Budget], *calls: Call) -> Replay:
    """Give what the budgets do to the calls of November."""
    replayer = Replayer(budgets)
    replayer.learn(SETS)
    replayer.play(calls)
    return replayer.replay(NOVEMBER)


def one(budget: Budget, *calls: Call) -> BudgetReplay:
    """Give what one budget alone does to the calls."""
    [told] = replayed([budget], *calls).budgets
    return told


def test_a_denied_call_counts_nothing_and_a_smaller_one_still_fits() -> None:
    told = one(make_live_budget(), make_call(0, 60), make_call(1, 50), make_call(2, 40))

    assert (told.seen.calls, told.seen.nanos) == (3, 150)
    assert (told.refused.calls, told.refused.nanos) == (1, 50)
    assert told.refused.first_at == told.refused.last_at == NOON + timedelta(minutes=1)


def test_a_call_that_just_fits_is_let_through_and_the_next_is_denied() -> None:
    told = one(make_live_budget(), make_call(0, 100), make_call(1, 1), make_call(9, 2))

    assert (told.refused.calls, told.refused.nanos) == (2, 3)
    assert told.refused.first_at == NOON + timedelta(minutes=1)
    assert told.refused.last_at == NOON + timedelta(minutes=9)


def test_a_call_that_costs_nothing_is_denied_only_below_zero() -> None:
    replayer = Replayer([make_live_budget()])
    replayer.learn(SETS)
    replayer.seed("b", NOVEMBER, {(): 100})
    replayer.play([make_call(0, 0)])
    replayer.play([make_call(1, 10, is_fixed_cost=True), make_call(2, 0)])

    [told] = replayer.replay(NOVEMBER).budgets

    assert (told.seen.calls, told.refused.calls) == (2, 1)


def test_overdraft_is_room() -> None:
    told = one(make_live_budget(overdraft=5), make_call(0, 105), make_call(1, 1))

    assert told.refused.calls == 1


@pytest.mark.parametrize(
    ("unit", "refused"), [(Unit.MONEY, 1), (Unit.TOKENS, 2), (Unit.REQUESTS, 0)]
)
def test_a_budget_counts_in_its_unit(unit: Unit, refused: int) -> None:
    told = one(
        make_live_budget(unit=unit),
        make_call(0, 90, tokens=101, requests=98),
        make_call(1, 10, tokens=101, requests=2),
        make_call(2, 1, tokens=100, requests=0),
    )

    assert told.refused.calls == refused


def test_soft_and_shadow_budgets_let_everything_through_and_count_it() -> None:
    soft = make_live_budget(id="soft", mode=Mode.SOFT)
    shadow = make_live_budget(id="shadow", mode=Mode.SHADOW, limit=120)

    told = replayed([soft, shadow], make_call(0, 90), make_call(1, 40), make_call(2, 5))

    by_id = {each.budget.id: each for each in told.budgets}
    assert told.denied.calls == 0
    assert (by_id["soft"].refused.calls, by_id["soft"].refused.nanos) == (2, 45)
    assert (by_id["shadow"].refused.calls, by_id["shadow"].refused.nanos) == (2, 45)


def test_a_call_denied_by_one_budget_counts_for_no_other() -> None:
    narrow = make_live_budget(id="narrow", limit=50)
    wide = make_live_budget(id="wide", limit=100)
    soft = make_live_budget(id="soft", limit=55, mode=Mode.SOFT)

    told = replayed([narrow, wide, soft], make_call(0, 40), make_call(1, 90), make_call(2, 10))

    by_id = {each.budget.id: each for each in told.budgets}
    assert (told.seen.calls, told.denied.calls, told.denied.nanos) == (3, 1, 90)
    # Both have no room for it; the soft one is not asked about what never happens.
    assert (by_id["narrow"].refused.calls, by_id["wide"].refused.calls) == (1, 1)
    assert by_id["soft"].refused.calls == 0


def test_each_split_value_has_a_counter_and_the_dearest_is_told_first() -> None:
    budget = make_live_budget(split_by=("tenant",), limit=10)

    told = one(
        budget,
        make_call(0, 10),
        make_call(1, 20, SEARCH),
        make_call(2, 5),
        make_call(3, 5),
        make_call(4, 10, SEARCH),
    )

    assert [(each.split, each.refused.calls, each.refused.nanos) for each in told.splits] == [
        (("t2",), 1, 20),
        (("t1",), 2, 10),
    ]
    assert (told.split_count, told.window_count) == (2, 1)
    assert [each.counters for each in told.windows] == [2]


def test_only_so_many_splits_and_windows_are_told_and_all_are_counted() -> None:
    count = MAX_WINDOWS_TOLD + 1
    sets = {
        number: DimensionSet(team="growth", provider="acme", model="plain", tenant=f"t{number}")
        for number in range(count)
    }
    replayer = Replayer(
        [make_live_budget(split_by=("tenant",), limit=0, window=BudgetWindow(Window.HOUR, None))]
    )
    replayer.learn(sets)
    replayer.play(make_call(60 * number, 1 + number, number) for number in range(count))

    [told] = replayer.replay(NOVEMBER).budgets

    assert (told.split_count, len(told.splits)) == (count, MAX_SPLITS_TOLD)
    assert told.splits[0].refused.nanos == count
    assert (told.window_count, len(told.windows)) == (count, MAX_WINDOWS_TOLD)
    assert told.windows[0].period == Period(NOON, NOON + timedelta(hours=1))


def test_a_new_window_has_room_again() -> None:
    tomorrow = 24 * 60
    told = one(
        make_live_budget(window=DAILY),
        make_call(0, 100),
        make_call(1, 100),
        make_call(2, 100, SEARCH),
        make_call(tomorrow, 90),
        make_call(tomorrow, 20, SEARCH),
    )

    assert (told.seen.calls, told.refused.calls, told.refused.nanos) == (5, 3, 220)
    assert [(each.period.start.day, each.refused.calls) for each in told.windows] == [
        (20, 2),
        (21, 1),
    ]


def test_a_window_that_rolls_has_room_again_when_its_first_day_has_gone() -> None:
    two_days = BudgetWindow(Window.DAY, None, rolling_days=2)
    day = 24 * 60

    told = one(
        make_live_budget(window=two_days),
        make_call(0, 60),
        make_call(day, 50),
        make_call(day, 30),
        make_call(2 * day, 70),
        make_call(2 * day, 1),
        make_call(9 * day, 100),
    )

    # 60 + 50 is too much and 60 + 30 is not; the day after, only those 30 count.
    assert (told.refused.calls, told.refused.nanos) == (2, 51)
    assert [each.period.start.day for each in told.windows] == [21, 22]


def test_usage_outside_a_fixed_range_does_not_count() -> None:
    hour = Period(NOON + timedelta(hours=1), NOON + timedelta(hours=2))
    budget = make_live_budget(window=BudgetWindow(None, hour), limit=10)

    told = one(budget, make_call(0, 50), make_call(60, 50), make_call(61, 10), make_call(120, 50))

    assert (told.seen.calls, told.refused.calls, told.refused.nanos) == (2, 1, 50)


def test_a_budget_counts_before_it_is_in_force_and_decides_only_then() -> None:
    budget = make_live_budget(
        valid_from=NOON + timedelta(minutes=10), valid_to=NOON + timedelta(minutes=20)
    )

    told = one(budget, make_call(0, 90), make_call(5, 90), make_call(15, 10), make_call(20, 90))

    # 180 are counted when it comes into force; what follows its end it does not see.
    assert (told.seen.calls, told.refused.calls) == (1, 1)


def test_a_window_that_validity_does_not_touch_does_not_count() -> None:
    budget = make_live_budget(window=DAILY, valid_from=NOON + timedelta(days=1))

    told = one(budget, make_call(0, 200), make_call(36 * 60, 90), make_call(37 * 60, 90))

    assert (told.seen.calls, told.refused.calls) == (2, 1)


def test_a_call_without_a_price_is_denied_by_hard_budgets_of_money_alone() -> None:
    hard = make_live_budget(id="hard")
    tokens = make_live_budget(id="tokens", unit=Unit.TOKENS, limit=5)
    soft = make_live_budget(id="soft", mode=Mode.SOFT)

    told = replayed([hard, tokens, soft], make_call(0, 0, tokens=6, is_unpriced=True))
    alone = replayed([soft], make_call(0, 0, is_unpriced=True))

    by_id = {each.budget.id: each for each in told.budgets}
    assert told.denied.calls == 1
    assert (by_id["hard"].refused.calls, by_id["hard"].unpriced) == (1, 1)
    # It was short of room, whatever the call cost; and want of a price exhausts no window.
    assert (by_id["tokens"].refused.calls, by_id["tokens"].unpriced) == (1, 0)
    assert (by_id["hard"].window_count, by_id["tokens"].window_count) == (0, 1)
    assert (alone.denied.calls, alone.budgets[0].refused.calls) == (0, 0)


def test_a_fixed_cost_counts_and_is_no_call() -> None:
    told = replayed(
        [make_live_budget()],
        make_call(0, 95, tokens=0, requests=0, is_fixed_cost=True),
        make_call(0, 10),
    )

    assert (told.seen.calls, told.seen.nanos, told.denied.calls) == (1, 10, 1)


def test_calls_that_match_no_budget_are_seen_and_denied_by_none() -> None:
    told = replayed([make_live_budget(selector={"team": frozenset({"ads"})})], make_call(0, 500))

    assert (told.seen.calls, told.denied.calls, told.budgets[0].seen.calls) == (1, 0, 0)
    assert told.denied.first_at is None


def test_calls_out_of_turn_are_refused() -> None:
    replayer = Replayer([])
    replayer.learn(SETS)
    replayer.play([make_call(1)])

    with pytest.raises(ValueError, match="in order of time"):
        replayer.play([make_call(0)])


def test_dimension_sets_are_learned_once() -> None:
    replayer = Replayer([])
    replayer.learn({GROWTH: SETS[GROWTH]})

    assert replayer.unknown_sets([GROWTH, SEARCH]) == {SEARCH}

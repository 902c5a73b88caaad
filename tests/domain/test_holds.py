"""What budgets say of a demand, and how a hold may end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.budget_cases import NOVEMBER, make_counter, make_live_budget
from tokenbudget.domain.budgets import Mode, OtherDays, Unit
from tokenbudget.domain.holds import (
    Account,
    Demand,
    HoldState,
    Notice,
    Remainder,
    affordable_requests,
    binding_of,
    exhausted_notice,
    grant,
    judge,
    output_room,
    overage,
    settled_state,
)
from tokenbudget.domain.usage import Basis


def make_demand(nanos: int | None = 40, tokens: int = 30) -> Demand:
    """Give a demand of forty nanos and thirty tokens."""
    return Demand(nanos, tokens, Basis.RATED)


def make_account(*, settled: int = 0, held: int = 0, counter_id: int = 1, **budget: Any) -> Account:
    """Give an account with a hundred nanos of room."""
    counter = make_counter(id=counter_id, settled=settled, held=held)
    return Account(make_live_budget(**budget), counter)


@pytest.mark.parametrize(
    ("unit", "quantity"), [(Unit.MONEY, 40), (Unit.TOKENS, 30), (Unit.REQUESTS, 1)]
)
def test_a_demand_is_told_in_the_unit_of_the_budget(unit: Unit, quantity: int) -> None:
    assert make_demand().quantity(unit) == quantity


def test_what_other_days_hold_is_part_of_what_binds() -> None:
    account = make_account(settled=20, held=10)
    account.counter.other_days = OtherDays(25, 6)

    verdict = judge(make_demand(), [account])

    binding = binding_of(account)
    assert verdict.refusing == [account]
    assert (binding.settled, binding.held, binding.headroom) == (45, 16, 39)
    assert binding.resets_at == NOVEMBER.end


def test_an_unpriced_demand_asks_for_no_money() -> None:
    assert make_demand(nanos=None).quantity(Unit.MONEY) == 0


def test_a_demand_that_just_fits_is_admitted() -> None:
    verdict = judge(make_demand(), [make_account(settled=50, held=10)])

    assert verdict.refusing == []


def test_a_demand_one_nano_too_large_is_refused() -> None:
    account = make_account(settled=50, held=11)

    verdict = judge(make_demand(), [account])

    assert verdict.refusing == [account]
    assert verdict.binding is account


def test_an_overdraft_is_room_too() -> None:
    verdict = judge(make_demand(), [make_account(settled=90, overdraft=30)])

    assert verdict.refusing == []


def test_a_soft_budget_warns() -> None:
    verdict = judge(make_demand(), [make_account(settled=90, mode=Mode.SOFT)])

    assert verdict.refusing == []
    assert [warning.code for warning in verdict.warnings] == ["budget_exceeded"]


def test_a_shadow_budget_is_silent_and_never_binds() -> None:
    verdict = judge(make_demand(), [make_account(settled=90, mode=Mode.SHADOW)])

    assert (verdict.refusing, verdict.warnings, verdict.binding) == ([], [], None)


def test_without_budgets_nothing_binds() -> None:
    assert judge(make_demand(), []).binding is None


def test_the_budget_with_the_smallest_share_left_binds() -> None:
    wide = make_account(id="wide", limit=1_000, settled=900)
    narrow = make_account(id="narrow", limit=100, settled=50)

    assert judge(make_demand(), [narrow, wide]).binding is wide


def test_a_refusing_budget_binds_before_one_with_a_smaller_share_left() -> None:
    refusing = make_account(id="refusing", limit=50, settled=15)
    nearly_used_up = make_account(id="large", limit=10_000, settled=9_900)

    assert judge(make_demand(), [refusing, nearly_used_up]).binding is refusing


def test_a_grant_is_set_aside_in_every_counter() -> None:
    money = make_account(counter_id=1)
    tokens = make_account(counter_id=2, unit=Unit.TOKENS)

    grants = grant(make_demand(), [money, tokens])

    assert grants == [[1, 40, 0], [2, 30, 1]]
    assert (money.counter.held, tokens.counter.held) == (40, 30)


def test_room_for_output_is_that_of_the_tightest_hard_budgets() -> None:
    accounts = [
        make_account(settled=20),
        make_account(settled=70),
        make_account(settled=99, mode=Mode.SOFT),
        make_account(unit=Unit.TOKENS, limit=500),
    ]

    assert output_room(accounts, input_tokens=200) == (30, 300)


def test_room_for_output_is_unbounded_where_no_hard_budget_counts_the_unit() -> None:
    assert output_room([make_account(mode=Mode.SOFT)], input_tokens=200) == (None, None)


def test_a_binding_shows_the_counter_as_it_stands() -> None:
    binding = binding_of(make_account(settled=60, held=15))

    assert (binding.settled, binding.held, binding.headroom) == (60, 15, 25)
    assert binding.resets_at == NOVEMBER.end


def test_a_denial_names_the_budget() -> None:
    notice = exhausted_notice(make_account(id="growth"))

    assert notice == Notice("budget_exhausted", "budget growth has no room for this call")


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (HoldState.HELD, HoldState.SETTLED),
        (HoldState.EXPIRED, HoldState.SETTLED_LATE),
        (HoldState.SETTLED, None),
        (HoldState.SETTLED_LATE, None),
        (HoldState.RELEASED, None),
    ],
)
def test_usage_ends_a_hold_at_most_once(state: HoldState, after: HoldState | None) -> None:
    assert settled_state(state.value) is after


@given(
    limits=st.lists(st.integers(0, 200), max_size=4),
    demands=st.lists(st.integers(0, 120), max_size=8),
)
def test_what_is_admitted_never_exceeds_any_hard_limit(
    limits: list[int], demands: list[int]
) -> None:
    accounts = [make_account(counter_id=number, limit=limit) for number, limit in enumerate(limits)]

    for nanos in demands:
        demand = make_demand(nanos=nanos)
        if not judge(demand, accounts).refusing:
            grant(demand, accounts)

    assert all(0 <= account.counter.held <= account.budget.limit for account in accounts)


def test_several_requests_ask_for_that_many_times_as_much() -> None:
    assert make_demand().times(1) == make_demand()
    assert make_demand().times(3) == Demand(120, 90, Basis.RATED, requests=3)
    assert make_demand(nanos=None).times(3).nanos is None


def test_as_many_requests_are_affordable_as_every_hard_budget_has_room_for() -> None:
    wide = make_account()
    narrow = make_account(counter_id=2, unit=Unit.TOKENS, settled=15)
    silent = make_account(counter_id=3, settled=99, mode=Mode.SOFT)

    assert affordable_requests(make_demand(), [wide, silent]) == 2
    assert affordable_requests(make_demand(nanos=10), [wide, narrow, silent]) == 2
    assert affordable_requests(make_demand(), [make_account(settled=140), wide]) == 0


def test_requests_that_draw_on_no_hard_budget_are_not_counted() -> None:
    free = make_demand(nanos=0)

    assert affordable_requests(free, [make_account(), make_account(mode=Mode.SHADOW)]) is None


@given(st.lists(st.integers(0, 100)), st.integers(0, 200))
def test_pieces_never_take_more_than_is_left(pieces: list[int], granted: int) -> None:
    remainder = Remainder([granted])

    taken = sum(remainder.take([each])[0] for each in pieces)

    assert taken == min(granted, sum(pieces))
    assert remainder.give_back() == [granted - taken]
    assert remainder.left == [0]


def test_a_piece_that_takes_back_takes_nothing() -> None:
    remainder = Remainder([5, 5, 5])

    assert remainder.take([-3, 0, 9]) == [0, 0, 5]
    assert remainder.left == [5, 5, 0]


@pytest.mark.parametrize(
    ("settled", "estimate", "expected"), [(3, 5, 0), (8, 5, 3), (8, None, 8), (-2, None, 0)]
)
def test_overage_is_what_was_settled_above_the_hold(
    settled: int, estimate: int | None, expected: int
) -> None:
    assert overage(settled, estimate) == expected

"""What windows carry over, by the rule and day by day, and what raises add."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.allowances import (
    PastWindow,
    Raise,
    Rollover,
    Terms,
    carry_into,
    may_freeze,
    raised_by,
    terms_before,
)
from tokenbudget.domain.periods import Period, Window, window_at

FIRST = datetime(2026, 11, 20, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def day_at(instant: datetime) -> Period:
    """Give the UTC day."""
    return window_at(Window.DAY, instant, "UTC")


def day(number: int) -> datetime:
    """Give the start of a day, the first being 0."""
    return FIRST + timedelta(days=number)


def terms(
    since: datetime = LONG_AGO,
    limit: int = 100,
    max_carry: int | None = None,
    max_debt: int = 0,
) -> Terms:
    """Give terms of a hundred a day."""
    return Terms(since, limit, Rollover(max_carry, max_debt))


@pytest.mark.parametrize(
    ("left", "carried"), [(0, 0), (30, 30), (100, 100), (101, 100), (-1, 0), (-50, 0)]
)
def test_without_more_said_the_limit_may_be_carried_and_no_debt(left: int, carried: int) -> None:
    assert terms().carry_of(left) == carried


@pytest.mark.parametrize(("left", "carried"), [(250, 250), (251, 250), (-40, -40), (-41, -40)])
def test_a_carry_stays_within_its_bounds(left: int, carried: int) -> None:
    assert terms(max_carry=250, max_debt=40).carry_of(left) == carried


def test_nothing_is_carried_where_nothing_was_counted_or_said() -> None:
    assert carry_into(day(1), [], [terms()], day_at) == 0
    assert carry_into(day(1), [PastWindow(day(0), 30, 0)], [], day_at) == 0
    without = [Terms(LONG_AGO, 100, None)]
    assert carry_into(day(1), [PastWindow(day(0), 30, 0)], without, day_at) == 0


def test_what_is_held_counts_as_spent() -> None:
    assert carry_into(day(1), [PastWindow(day(0), 30, 25)], [terms()], day_at) == 45


def test_a_frozen_carry_is_what_the_rest_goes_by() -> None:
    past = [PastWindow(day(0), 130, 0, carry=60), PastWindow(day(1), 20, 0)]

    # 100 + 60 - 130 is 30; 100 + 30 - 20 is 110, of which 100 are carried.
    assert carry_into(day(1), past[:1], [terms()], day_at) == 30
    assert carry_into(day(2), past, [terms()], day_at) == 100


def test_days_without_a_counter_used_nothing() -> None:
    past = [PastWindow(day(0), 130, 0)]
    history = [terms(max_carry=1_000, max_debt=1_000)]

    assert carry_into(day(3), past, history, day_at) == 170


def test_each_day_goes_by_the_terms_in_force_last_before_it_ended() -> None:
    history = [terms(), terms(day(1) + timedelta(hours=5), 500, max_carry=900)]
    past = [PastWindow(day(0), 30, 0)]

    assert carry_into(day(1), past, history, day_at) == 70
    assert carry_into(day(2), past, history, day_at) == 570
    assert terms_before(history, day(1)) == history[0]
    assert terms_before(history, LONG_AGO) is None


def test_days_that_ended_before_the_terms_were_written_leave_nothing() -> None:
    past = [PastWindow(day(0), 30, 0), PastWindow(day(2), 10, 0)]
    history = [terms(day(2) + timedelta(hours=9), max_carry=1_000)]

    assert carry_into(day(2), past, history, day_at) == 0
    assert carry_into(day(3), past, history, day_at) == 90


def test_terms_that_carry_nothing_break_the_chain() -> None:
    history = [terms(), Terms(day(1), 100, None), terms(day(2))]
    past = [PastWindow(day(0), 30, 0)]

    assert carry_into(day(2), past, history, day_at) == 0
    assert carry_into(day(3), past, history, day_at) == 100


@pytest.mark.parametrize(
    ("held", "now", "is_final"),
    [(0, day(1), True), (0, day(1) - timedelta(seconds=1), False), (1, day(1), False)],
)
def test_a_carry_is_final_once_the_window_began_and_nothing_is_held(
    held: int, now: datetime, is_final: bool
) -> None:
    assert may_freeze(day(1), [PastWindow(day(0), 5, held)], now) is is_final


def test_raises_count_from_their_begin_until_their_end() -> None:
    raises = [Raise("a", 50, day(0), day(2)), Raise("b", 7, day(1), day(3))]

    sums = [raised_by(raises, day(number)) for number in range(-1, 4)]

    assert sums == [0, 50, 57, 7, 0]


@given(
    used=st.lists(st.integers(0, 300), min_size=1, max_size=12),
    limit=st.integers(0, 200),
    max_carry=st.integers(0, 400),
    max_debt=st.integers(0, 200),
    known=st.sets(st.integers(0, 11)),
    frozen=st.integers(0, 11),
)
def test_wherever_it_begins_the_chain_gives_what_the_rule_gives_day_by_day(
    used: list[int], limit: int, max_carry: int, max_debt: int, known: set[int], frozen: int
) -> None:
    # Days that are not known used nothing; from the frozen one on nothing earlier matters.
    quantities = [quantity if place in known else 0 for place, quantity in enumerate(used)]
    history = [terms(limit=limit, max_carry=max_carry, max_debt=max_debt)]
    carries = [0]
    for quantity in quantities:
        left = limit + carries[-1] - quantity
        carries.append(max(-max_debt, min(max_carry, left)))
    begin = min(frozen, len(used) - 1)
    past = [
        PastWindow(day(place), quantities[place], 0, carries[place] if place == begin else None)
        for place in range(begin, len(used))
        if place == begin or place in known
    ]

    carry = carry_into(day(len(used)), past, history, day_at)

    assert carry == carries[-1]
    assert -max_debt <= carry <= max_carry

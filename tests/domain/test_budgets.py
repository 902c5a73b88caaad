"""What a budget matches, when it is used up and where it will end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.domain.budget_cases import make_counter, make_live_budget
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.budgets import (
    LIFETIME,
    BudgetIndex,
    BudgetWindow,
    OtherDays,
    ThresholdOn,
    crossed_thresholds,
    forecast_at_end,
)
from tokenbudget.domain.periods import Period, Window

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
GROWTH = DimensionSet(
    team="growth", provider="acme", model="plain", tenant="t1", environment="prod"
)


def test_an_empty_selector_matches_everything() -> None:
    assert make_live_budget(selector={}).matches(GROWTH)


def test_every_condition_of_a_selector_has_to_hold() -> None:
    both = {"team": frozenset({"growth"}), "environment": frozenset({"prod"})}
    other = {"team": frozenset({"growth"}), "environment": frozenset({"staging"})}

    assert make_live_budget(selector=both).matches(GROWTH)
    assert not make_live_budget(selector=other).matches(GROWTH)


def test_a_condition_accepts_any_of_its_values() -> None:
    assert make_live_budget(selector={"team": frozenset({"search", "growth"})}).matches(GROWTH)


def test_a_missing_split_value_counts_under_the_empty_string() -> None:
    budget = make_live_budget(split_by=("tenant", "feature"))

    assert budget.split_values(GROWTH) == ("t1", "")


def test_a_budget_decides_from_its_first_instant_until_before_its_last() -> None:
    budget = make_live_budget(valid_from=NOVEMBER.start, valid_to=NOVEMBER.end)

    assert not budget.is_in_force(NOVEMBER.start - timedelta(microseconds=1))
    assert budget.is_in_force(NOVEMBER.start)
    assert budget.is_in_force(NOVEMBER.end - timedelta(microseconds=1))
    assert not budget.is_in_force(NOVEMBER.end)


def test_a_budget_without_an_end_stays_in_force() -> None:
    assert make_live_budget(valid_from=NOVEMBER.start, valid_to=None).is_in_force(NOW)


def test_usage_counts_in_the_calendar_window_of_the_budgets_zone() -> None:
    window = BudgetWindow(Window.DAY, None, "America/New_York")

    period = make_live_budget(window=window).period_counted_at(NOW)

    assert period == Period(
        datetime(2026, 11, 20, 5, tzinfo=UTC), datetime(2026, 11, 21, 5, tzinfo=UTC)
    )


def test_usage_outside_a_fixed_range_does_not_count() -> None:
    window = BudgetWindow(None, NOVEMBER)

    assert make_live_budget(window=window).period_counted_at(NOW) == NOVEMBER
    assert make_live_budget(window=window).period_counted_at(NOVEMBER.end) is None


def test_all_usage_counts_in_a_lifetime() -> None:
    assert make_live_budget(window=BudgetWindow(None, LIFETIME)).period_counted_at(NOW) == LIFETIME


def test_a_window_in_which_validity_begins_counts_as_a_whole() -> None:
    budget = make_live_budget(valid_from=NOW)

    assert budget.period_counted_at(NOVEMBER.start) == NOVEMBER


def test_a_window_in_which_validity_ends_counts_as_a_whole() -> None:
    budget = make_live_budget(valid_to=NOW)

    assert budget.period_counted_at(NOW + timedelta(days=1)) == NOVEMBER


def test_windows_outside_validity_do_not_count() -> None:
    assert make_live_budget(valid_from=NOVEMBER.end).period_counted_at(NOW) is None
    assert make_live_budget(valid_to=NOVEMBER.start).period_counted_at(NOW) is None


def test_a_window_that_rolls_counts_by_the_day_and_looks_at_the_last_days() -> None:
    window = BudgetWindow(Window.DAY, None, "America/New_York", rolling_days=30)

    # New York left daylight saving time within these days.
    assert window.period_at(NOW) == Period(
        datetime(2026, 11, 20, 5, tzinfo=UTC), datetime(2026, 11, 21, 5, tzinfo=UTC)
    )
    assert window.span_at(NOW) == Period(
        datetime(2026, 10, 22, 4, tzinfo=UTC), datetime(2026, 11, 21, 5, tzinfo=UTC)
    )


def test_every_other_window_looks_at_itself() -> None:
    assert BudgetWindow(Window.MONTH, None).span_at(NOW) == NOVEMBER
    assert BudgetWindow(None, NOVEMBER).span_at(NOVEMBER.end) is None


def test_a_budget_that_rolls_counts_the_days_it_looks_back_on_when_it_begins() -> None:
    window = BudgetWindow(Window.DAY, None, rolling_days=3)
    budget = make_live_budget(window=window, valid_from=NOW, valid_to=NOW + timedelta(days=1))

    counted = [
        day for day in range(16, 24) if budget.period_counted_at(NOW.replace(day=day)) is not None
    ]

    assert counted == [18, 19, 20, 21]


def test_what_other_days_hold_counts_with_today_as_it_stands_now() -> None:
    yesterday = make_counter(settled=5, held=7)
    today = make_counter(settled=60, held=15, other_days=OtherDays(2, 3, (yesterday,)))
    yesterday.settled += 4
    yesterday.held -= 7

    assert (today.all_settled, today.all_held, today.headroom(100)) == (71, 18, 11)
    assert today.measured(ThresholdOn.ACTUAL) == 71
    assert today.measured(ThresholdOn.COMMITTED) == 89


def test_headroom_is_what_is_neither_settled_nor_held() -> None:
    assert make_counter(settled=60, held=15).headroom(100) == 25


def test_headroom_is_negative_after_an_overage() -> None:
    assert make_counter(settled=130, held=0).headroom(100) == -30


def test_thresholds_look_at_what_is_spent_or_at_what_is_committed() -> None:
    counter = make_counter(settled=60, held=15)

    assert counter.measured(ThresholdOn.ACTUAL) == 60
    assert counter.measured(ThresholdOn.COMMITTED) == 75


@pytest.mark.parametrize(
    ("before", "after", "crossed"),
    [
        (0, 49, ()),
        (0, 50, (5_000,)),
        (50, 79, ()),
        (49, 100, (5_000, 8_000, 10_000)),
        (80, 99, ()),
        (100, 150, ()),
        (120, 60, ()),
    ],
)
def test_a_threshold_is_crossed_when_before_is_below_and_after_is_not(
    before: int, after: int, crossed: tuple[int, ...]
) -> None:
    budget = make_live_budget(limit=100, thresholds=(10_000, 5_000, 8_000))

    assert crossed_thresholds(budget, before, after) == crossed


def test_the_index_finds_what_every_budget_would_find() -> None:
    budgets = [
        make_live_budget(id="c", selector={}),
        make_live_budget(id="b", selector={"team": frozenset({"growth", "search"})}),
        make_live_budget(
            id="a", selector={"team": frozenset({"growth"}), "environment": frozenset({"prod"})}
        ),
        make_live_budget(id="d", selector={"team": frozenset({"search"})}),
        make_live_budget(id="e", selector={"experiment": frozenset({"b"})}),
    ]

    matches = BudgetIndex.build(budgets).match(GROWTH)

    assert [match.budget.id for match in matches] == ["a", "b", "c"]


def test_a_match_carries_the_split_values() -> None:
    [match] = BudgetIndex.build([make_live_budget(split_by=("tenant",))]).match(GROWTH)

    assert match.split == ("t1",)


def test_a_forecast_adds_the_usual_burn_of_every_hour_that_is_left() -> None:
    day = Period(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    history = {NOW - timedelta(hours=back): 10 for back in range(1, 5)}

    # Four hours of ten: the overall burn is ten an hour, and twelve hours are left.
    expected = forecast_at_end(
        committed=40,
        period=day,
        now=NOW,
        hourly_history=history,
        history_start=NOW - timedelta(hours=4),
    )

    assert expected == 40 + 12 * 10


def test_a_forecast_prefers_the_same_hour_of_the_same_weekday() -> None:
    hour = Period(NOW, NOW + timedelta(hours=1))
    history = {
        NOW - timedelta(weeks=1): 70,
        NOW - timedelta(weeks=2): 10,
        NOW - timedelta(weeks=3): 30,
    }

    expected = forecast_at_end(
        committed=5,
        period=hour,
        now=NOW,
        hourly_history=history,
        history_start=NOW - timedelta(weeks=3),
    )

    # The median of 70, 10 and 30 is 30.
    assert expected == 35


def test_a_forecast_takes_the_middle_of_an_even_number_of_weeks() -> None:
    hour = Period(NOW, NOW + timedelta(hours=1))
    history = {NOW - timedelta(weeks=1): 20, NOW - timedelta(weeks=2): 40}

    expected = forecast_at_end(
        committed=0,
        period=hour,
        now=NOW,
        hourly_history=history,
        history_start=NOW - timedelta(weeks=2),
    )

    assert expected == 30


def test_only_the_rest_of_the_hour_under_way_is_forecast() -> None:
    now = NOW + timedelta(minutes=30)
    hour = Period(NOW, NOW + timedelta(hours=1))

    expected = forecast_at_end(
        committed=7,
        period=hour,
        now=now,
        hourly_history={NOW - timedelta(weeks=1): 20},
        history_start=NOW - timedelta(weeks=1),
    )

    assert expected == 7 + 10


def test_there_is_no_forecast_without_an_hour_of_history() -> None:
    expected = forecast_at_end(
        committed=7, period=NOVEMBER, now=NOW, hourly_history={}, history_start=NOW
    )

    assert expected is None


def test_there_is_no_forecast_for_a_window_without_an_end() -> None:
    expected = forecast_at_end(
        committed=7,
        period=LIFETIME,
        now=NOW,
        hourly_history={NOW - timedelta(hours=1): 5},
        history_start=NOW - timedelta(hours=1),
    )

    assert expected is None

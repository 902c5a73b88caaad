"""The geometry of charts: bars stack without gaps, ticks are round, marks stay on the scale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.reporting import DOLLAR, make_standing
from tokenbudget.domain.breakdowns import DailySpend, DaySeries
from tokenbudget.formats.charts import (
    BUDGET_BAR_WIDTH,
    StackedChart,
    budget_bar,
    series_colours,
    sparkline,
    stacked_days,
    tick_step,
)
from tokenbudget.formats.display import cents_text, tick_text
from tokenbudget.formats.panels import series_text

MONDAY = datetime(2026, 11, 9, tzinfo=UTC)


def draw(*series: DaySeries, days: int = 1) -> StackedChart:
    """Give the chart of the series over so many days."""
    return stacked_days(
        DailySpend(tuple(MONDAY + timedelta(days=day) for day in range(days)), series),
        name_day=lambda day: f"day {day}",
        name_cents=lambda cents: cents_text(cents, "USD"),
        name_tick=lambda cents: tick_text(cents, "USD"),
        name_series=series_text,
    )


@pytest.mark.parametrize(
    ("span", "step"), [(1, 1), (4, 1), (5, 2), (21_000, 10_000), (81_000, 50_000)]
)
def test_ticks_are_one_two_or_five_times_a_power_of_ten(span: int, step: int) -> None:
    assert tick_step(span) == step


def test_parts_of_a_day_stand_on_each_other() -> None:
    chart = draw(DaySeries("a", (3_000,)), DaySeries("b", (1_000,)))

    lower, upper = chart.bars
    assert lower.y + lower.height == chart.baseline
    assert upper.y + upper.height == lower.y
    assert lower.height == 3 * upper.height
    assert lower.label == "day 0, a: $30.00"
    assert [tick.label for tick in chart.amount_ticks] == ["$0", "$10", "$20", "$30", "$40"]


def test_a_credit_hangs_from_the_zero_line() -> None:
    chart = draw(DaySeries("a", (500,)), DaySeries("b", (-500,)))

    above, below = chart.bars
    assert above.y + above.height == chart.baseline == below.y
    assert chart.amount_ticks[0].label == "−$5"


def test_a_part_too_small_to_see_has_no_bar() -> None:
    chart = draw(DaySeries("a", (1_000_100,)), DaySeries("b", (1,)))

    assert [bar.colour for bar in chart.bars] == ["series-1"]


def test_no_days_and_no_spend_still_make_a_chart() -> None:
    chart = draw(days=0)

    assert chart.bars == ()
    assert [tick.label for tick in chart.amount_ticks] == ["$0", "$0.01"]


def test_many_days_share_few_labels_and_the_last_has_one() -> None:
    chart = draw(DaySeries("a", (100,) * 90), days=90)

    assert len(chart.day_ticks) == 10
    assert chart.day_ticks[-1].label == "day 89"
    assert all(bar.width >= 1 for bar in chart.bars)


def test_colours_follow_names_and_not_ranks() -> None:
    series = [
        DaySeries("search", (9,)),
        DaySeries("unallocated", (5,)),
        DaySeries("growth", (3,)),
        DaySeries("", (1,), merged=4),
    ]

    assert series_colours(series) == ["series-2", "series-none", "series-1", "series-rest"]


def test_a_budget_bar_shows_use_hold_and_marks_on_one_scale() -> None:
    standing = make_standing("b", settled=40 * DOLLAR, held=20 * DOLLAR, limit=80 * DOLLAR)

    bar = budget_bar(standing)

    assert (bar.settled_width, bar.held_width, bar.limit_x) == (120, 60, BUDGET_BAR_WIDTH)
    assert [(tick.position, tick.label) for tick in bar.ticks] == [
        (120, "50%"),
        (192, "80%"),
        (240, "100%"),
    ]
    assert bar.forecast_x is None


def test_an_overspent_budget_moves_its_limit_to_the_left() -> None:
    standing = make_standing("b", settled=60 * DOLLAR, limit=40 * DOLLAR, forecast=80 * DOLLAR)

    bar = budget_bar(standing)

    assert (bar.settled_width, bar.limit_x, bar.forecast_x) == (180, 120, 240)


def test_a_budget_in_credit_has_an_empty_bar() -> None:
    bar = budget_bar(make_standing("b", settled=-5, limit=0, forecast=-5))

    assert (bar.settled_width, bar.held_width, bar.forecast_x) == (0, 0, 0)


def test_a_sparkline_spans_its_box() -> None:
    assert sparkline([0, 5, 10]).points == "0,19 48,10 96,1"
    assert sparkline([3]).points == ""
    assert sparkline([0, 0]).points == "0,1 96,1"

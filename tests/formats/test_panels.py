"""What the page and the report share: names and budgets in words."""

from __future__ import annotations

import pytest

from tests.reporting import DOLLAR, make_standing
from tokenbudget.domain.breakdowns import DaySeries, break_down
from tokenbudget.domain.budgets import Unit
from tokenbudget.domain.costs import CostRow, Group
from tokenbudget.formats.panels import (
    BudgetState,
    budget_panel,
    budget_state,
    budget_text,
    rest_text,
    series_text,
    unallocated_line,
    unallocated_sentences,
    unpriced_sentences,
    value_text,
)


def test_absent_values_have_a_name() -> None:
    assert value_text(None) == value_text("") == "not given"
    assert budget_text("b", ["acme", ""]) == "b · acme · not given"


def test_a_rest_says_how_many_it_stands_for() -> None:
    assert rest_text(12, "team") == "12 other teams"
    assert series_text(DaySeries("", (1,), merged=2)) == "2 other teams"
    assert series_text(DaySeries("growth", (1,))) == "growth"


@pytest.mark.parametrize(
    ("settled", "held", "forecast", "state"),
    [
        (100, 0, 50, BudgetState.SPENT),
        (90, 10, None, BudgetState.SPENT),
        (50, 0, 101, BudgetState.FORECAST),
        (79, 1, 100, BudgetState.WARNED),
        (79, 0, None, BudgetState.WITHIN),
    ],
)
def test_a_budget_is_in_the_worst_state_that_holds(
    settled: int, held: int, forecast: int | None, state: BudgetState
) -> None:
    standing = make_standing("b", settled=settled, held=held, limit=100, forecast=forecast)

    assert budget_state(standing) is state


def test_the_most_used_budgets_come_first_and_the_others_are_counted() -> None:
    standings = [
        make_standing("low", settled=1, limit=100),
        make_standing("spent", settled=120 * DOLLAR, limit=100 * DOLLAR),
        make_standing("zero-limit", settled=1, limit=0, unit=Unit.REQUESTS),
        make_standing("over-soon", settled=50, limit=100, forecast=150),
    ]

    panel = budget_panel(standings, currency="USD", limit=3)

    assert [line.name for line in panel.lines] == ["spent", "zero-limit", "over-soon"]
    assert (panel.hidden, panel.spent, panel.forecast_over) == (1, 2, 1)
    assert (panel.lines[0].settled, panel.lines[0].limit) == ("$120.00", "$100.00")
    assert (panel.lines[0].use, panel.lines[0].forecast) == ("120.0%", "")
    assert (panel.lines[1].settled, panel.lines[1].use) == ("1 requests", "–")


def test_usage_without_a_team_is_found_among_the_lines() -> None:
    rows: dict[Group, CostRow] = {
        ("unallocated",): CostRow(requests=1),
        ("growth",): CostRow(requests=1),
    }

    line = unallocated_line(break_down(rows, {}, limit=5))

    assert line is not None
    assert line.group == ("unallocated",)
    assert unallocated_line(break_down({("growth",): CostRow()}, {}, limit=5)) is None


def tell(row: CostRow) -> tuple[str, ...]:
    """Give what is said when this row alone names no team."""
    teams = break_down({("unallocated",): row}, {}, limit=5)
    return unallocated_sentences(unallocated_line(teams), "USD")


def test_usage_without_a_team_is_told_with_its_cost_or_as_unknown() -> None:
    assert tell(CostRow(requests=1, effective_nanos=DOLLAR)) == (
        "1 request names no team: $1.00, 100.0% of the spend.",
    )
    assert tell(CostRow(requests=2, unpriced_requests=2)) == (
        "2 requests name no team, at a cost that is not known yet.",
    )


def test_nothing_is_told_where_nothing_is_open() -> None:
    assert tell(CostRow()) == ()
    assert unallocated_sentences(None, "USD") == ()
    assert unpriced_sentences(0) == ()

"""What one outcome costs, and which metrics ask for it."""

from __future__ import annotations

import pytest

from tokenbudget.domain.costs import CostRow, unit_cost
from tokenbudget.domain.outcomes import cost_per_outcome, outcome_of_metric

ONE = 10**9


@pytest.mark.parametrize(
    ("nanos", "value", "cost"),
    [
        (10, 4 * ONE, 2),
        (14, 4 * ONE, 4),
        (20_000_000, 3 * ONE, 6_666_667),
        (1, ONE // 2, 2),
        (-10, 4 * ONE, -2),
        (0, ONE, 0),
        (5, 0, None),
        (5, -ONE, None),
    ],
)
def test_the_cost_of_one_outcome_is_rounded_half_to_even_and_never_infinite(
    nanos: int, value: int, cost: int | None
) -> None:
    assert cost_per_outcome(nanos, value) == cost


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("cost_per:resolved", "resolved"),
        ("cost_per:Ticket.closed-v2", "Ticket.closed-v2"),
        ("cost_per:", None),
        ("cost_per:two words", None),
        (f"cost_per:{'a' * 65}", None),
        ("cost_per_request", None),
        ("resolved", None),
    ],
)
def test_a_metric_names_the_outcome_it_divides_by(metric: str, name: str | None) -> None:
    assert outcome_of_metric(metric) == name


def test_a_row_without_the_outcome_has_no_unit_cost() -> None:
    row = CostRow(effective_nanos=10, outcomes={"resolved": 2 * ONE})

    assert unit_cost(row, "cost_per:resolved") == 5
    assert unit_cost(row, "cost_per:accepted") is None

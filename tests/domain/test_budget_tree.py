"""Children that may use more than their parent has, with both figures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.budget_tree import find_overcommitted, is_child
from tokenbudget.domain.budgets import Budget, BudgetWindow, Mode, Unit
from tokenbudget.domain.periods import Window

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def budget(budget_id: str, limit: int, **overrides: Any) -> Budget:
    """Give a budget a month; other names are conditions, of one value or several."""
    facts = {
        name: overrides.pop(name)
        for name in ("split_by", "unit", "window", "mode", "valid_to")
        if name in overrides
    }
    selector = {
        name: frozenset([values] if isinstance(values, str) else values)
        for name, values in overrides.items()
    }
    return make_live_budget(id=budget_id, limit=limit, selector=selector, **facts)


def exceeded(*budgets: Budget) -> list[tuple[str, list[str], int]]:
    """Give (parent, children, total) of every parent that its children exceed."""
    return [
        (found.parent.id, [child.id for child in found.children], found.total)
        for found in find_overcommitted(budgets, NOW)
    ]


def test_children_of_different_values_are_added_up() -> None:
    parent = budget("team", 500, team="growth")
    features = [
        budget("a", 300, team="growth", feature="a"),
        budget("b", 201, team="growth", feature="b"),
    ]

    assert exceeded(parent, *features) == [("team", ["a", "b"], 501)]
    assert exceeded(budget("team", 501, team="growth"), *features) == []


def test_one_child_may_exceed_its_parent_alone() -> None:
    parent = budget("team", 500, team="growth")

    assert exceeded(parent, budget("a", 501, team="growth", feature="a")) == [("team", ["a"], 501)]


def test_children_that_overlap_are_not_added_up() -> None:
    parent = budget("team", 500, team="growth")
    by_feature = budget("a", 300, team="growth", feature="a")
    by_tenant = budget("b", 300, team="growth", tenant="acme")
    both_features = budget("c", 400, team="growth", feature=["a", "b"])

    assert exceeded(parent, by_feature, by_tenant) == []
    assert exceeded(parent, by_feature, both_features) == []
    third = budget("d", 101, team="growth", feature="z")
    assert exceeded(parent, by_feature, both_features, third) == [("team", ["c", "d"], 501)]


def test_a_budget_of_everything_is_the_parent_of_all() -> None:
    everything = budget("all", 100)

    assert exceeded(everything, budget("a", 60, team="a"), budget("b", 60, team="b")) == [
        ("all", ["a", "b"], 120)
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"unit": Unit.TOKENS},
        {"window": BudgetWindow(Window.DAY, None)},
        {"window": BudgetWindow(Window.MONTH, None, "Asia/Kolkata")},
        {"mode": Mode.SHADOW},
        {"valid_to": NOW},
    ],
)
def test_only_living_budgets_of_one_unit_and_window_are_compared(other: dict[str, Any]) -> None:
    parent = budget("team", 500, team="growth")

    assert exceeded(parent, budget("a", 501, team="growth", feature="a", **other)) == []


@pytest.mark.parametrize(
    ("child", "is_one"),
    [
        ({"team": "growth", "feature": "a"}, True),
        ({"team": "growth"}, False),
        ({"feature": "a"}, False),
        ({"team": ["growth", "core"], "feature": "a"}, False),
    ],
)
def test_a_child_says_all_that_its_parent_says_and_more(
    child: dict[str, Any], is_one: bool
) -> None:
    assert is_child(budget("a", 1, **child), budget("p", 1, team="growth")) is is_one


def test_a_child_with_fewer_of_the_values_is_one() -> None:
    parent = budget("p", 100, team=["a", "b", "c"])

    assert exceeded(parent, budget("x", 60, team="a"), budget("y", 60, team=["b", "c"])) == [
        ("p", ["x", "y"], 120)
    ]


def test_a_parent_with_a_counter_a_value_compares_with_what_counts_in_one_of_them() -> None:
    parent = budget("p", 100, split_by=("tenant",))
    acme, zeta = budget("a", 80, tenant="acme"), budget("z", 80, tenant="zeta")

    assert exceeded(parent, acme, zeta) == []
    assert exceeded(parent, budget("f", 300, feature="a")) == []
    split = [budget(name, 60, feature=name, split_by=("tenant",)) for name in ("one", "two")]
    assert exceeded(parent, *split) == [("p", ["one", "two"], 120)]


def test_the_children_that_exceed_most_are_told() -> None:
    parent = budget("p", 100)
    features = [budget(f"f{number}", 60, feature=str(number)) for number in range(2)]
    teams = [budget(f"t{number}", 70, team=str(number)) for number in range(2)]

    assert exceeded(parent, *features, *teams) == [("p", ["t0", "t1"], 140)]

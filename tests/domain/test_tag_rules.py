"""Which rules apply to a call, in which order, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.test_allocation import INSTANTS, NAMES, NOON, OWNERS, RULES, TAGS
from tokenbudget.domain.owners import Owner, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.tag_rules import Condition, RuleList, TagRule, TagRules, is_like

LATER = NOON + timedelta(days=1)


def give(known: Mapping[str, str], *rules: TagRule, at: datetime = NOON) -> dict[str, str]:
    """Give what the rules add."""
    return RuleList.build(rules).give(known, at)


def is_value(name: str, *values: str) -> Condition:
    """Give the condition that a fact is one of these."""
    return Condition(name, frozenset(values))


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        (is_value("a", "x", "y"), ("x", "y"), ("z", "", None)),
        (Condition("a", globs=("x*", "*-y")), ("x", "xz", "b-y"), ("ax", "y", None)),
        (Condition("a", frozenset({"x"}), is_negated=True), ("y", "", None), ("x",)),
        (Condition("a", globs=("*",)), ("x", ""), (None,)),
        (Condition("a", globs=("*",), is_negated=True), (None,), ("x", "")),
    ],
)
def test_a_condition_holds_for_what_it_names(
    condition: Condition, holds: tuple[str | None, ...], fails: tuple[str | None, ...]
) -> None:
    assert all(condition.holds(value) for value in holds)
    assert not any(condition.holds(value) for value in fails)


def test_the_first_rule_to_name_a_tag_wins() -> None:
    first = TagRule("1", (is_value("tenant", "acme"),), {"team": "a"})
    second = TagRule("2", (), {"team": "b", "environment": "prod"})

    assert give({"tenant": "acme"}, first, second) == {"team": "a", "environment": "prod"}
    assert give({"tenant": "acme"}, second, first) == {"team": "b", "environment": "prod"}


def test_every_condition_must_hold() -> None:
    rule = TagRule("r", (is_value("a", "1"), is_value("b", "2")), {"team": "x"})

    assert give({"a": "1", "b": "2"}, rule) == {"team": "x"}
    assert give({"a": "1"}, rule) == {}


def test_a_later_rule_sees_what_earlier_ones_gave() -> None:
    first = TagRule("1", (is_value("tenant", "acme"),), {"feature": "search"})
    second = TagRule("2", (is_value("feature", "search"),), {"team": "find"})

    assert give({"tenant": "acme"}, first, second) == {"feature": "search", "team": "find"}
    assert give({"tenant": "acme"}, second, first) == {"feature": "search"}


def test_a_rule_applies_from_its_start_until_before_its_end() -> None:
    rule = TagRule("r", (), {"team": "x"}, NOON, LATER)
    second = timedelta(seconds=1)

    assert [bool(give({}, rule, at=at)) for at in (NOON - second, NOON, LATER - second, LATER)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_thousand_rules_of_one_provider_are_filed_apart() -> None:
    rules = [
        TagRule(str(n), (is_value("provider", "acme"), is_value("account", f"p{n}")), {"team": "x"})
        for n in range(1_000)
    ]

    filed = RuleList.build(rules)

    assert max(len(places) for places in filed.filed.values()) == 1
    assert filed.unfiled == ()


def test_between_two_turns_nothing_changes() -> None:
    moved = [
        Owner(OwnerKind.FEATURE, "f", OwnerFacts(parent="a"), EPOCH, LATER),
        Owner(OwnerKind.FEATURE, "f", OwnerFacts(), LATER),
        Owner(OwnerKind.TEAM, "a", OwnerFacts(), EPOCH),
    ]
    rules = TagRules.build([], [TagRule("r", (), {"x": "y"}, NOON)], moved)

    assert rules.turns == (EPOCH, NOON, LATER)
    assert [rules.epoch_at(at) for at in (NOON - timedelta(1), NOON, LATER)] == [1, 2, 3]
    assert [rules.team_of("f", at) for at in (NOON, LATER)] == ["a", None]
    assert rules.team_of(None, NOON) is None
    assert TagRules().epoch_at(NOON) == 0


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_a_glob_means_what_the_regular_expression_means(glob: str, text: str) -> None:
    expression = ".*".join(re.escape(part) for part in glob.split("*"))

    assert is_like(text, glob) == (re.fullmatch(expression, text, re.DOTALL) is not None)


@given(TAGS, RULES)
def test_filing_changes_nothing(known: Mapping[str, str], rules: list[TagRule]) -> None:
    seen = dict(known)
    for rule in rules:
        if rule.applies(seen, NOON):
            seen = {**rule.tags, **seen}

    assert {**known, **give(known, *rules)} == seen


@given(RULES, st.lists(INSTANTS.map(lambda instant: instant or NOON), min_size=2, max_size=6))
def test_calls_of_one_epoch_are_resolved_alike(
    rules: list[TagRule], instants: list[datetime]
) -> None:
    in_force = TagRules.build([], rules, OWNERS)

    for earlier, later in pairwise(sorted(instants)):
        if in_force.epoch_at(earlier) == in_force.epoch_at(later):
            for name in NAMES:
                known = {name: "a"}
                assert in_force.rules.give(known, earlier) == in_force.rules.give(known, later)

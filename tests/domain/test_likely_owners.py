"""Whose traffic it is likely to be that nobody reported."""

from __future__ import annotations

import pytest

from tests.domain.reconciliation_cases import FIRST, billed, metered
from tokenbudget.domain.likely_owners import (
    LikelyOwner,
    Neighbours,
    OwnerReason,
    Ref,
    map_ref,
    prefix_of,
    ref_of,
)
from tokenbudget.domain.owners import Owner, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.statements import NOBODY, Bearer
from tokenbudget.domain.tag_rules import Condition, TagRule, TagRules

ROGUE = Ref("openai", "org", "lab", "team-search-3")


def when(name: str, value: str, **tags: str) -> TagRule:
    return TagRule(f"{name} {value}", (Condition(name, frozenset({value})),), tags)


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        (Ref("p", "a", "b", "c"), "c"),
        (Ref("p", "a", "b"), "b"),
        (Ref("p", "a"), "a"),
        (Ref("p"), None),
    ],
)
def test_the_finest_name_is_key_then_project_then_account(ref: Ref, name: str | None) -> None:
    assert ref.name == name


def test_a_line_is_known_by_all_its_names() -> None:
    assert ref_of(billed("1", "key", project="lab")) == Ref("openai", "org", "lab", "key")


def test_rules_are_asked_about_the_key_then_the_project_then_the_account() -> None:
    by_project = TagRules.build([when("account", "lab", team="research")], [])
    by_rule = TagRules.build([], [when("provider", "openai", team="platform")])
    feature_owner = Owner(OwnerKind.FEATURE, "search", OwnerFacts(parent="search"), EPOCH)
    by_registry = TagRules.build([when("account", "org", feature="search")], [], [feature_owner])

    owners = [map_ref(ROGUE, "o3", FIRST, rules) for rules in (by_project, by_rule, by_registry)]

    assert owners == [
        LikelyOwner("research", OwnerReason.MAPPING),
        LikelyOwner("platform", OwnerReason.RULE),
        LikelyOwner("search", OwnerReason.REGISTRY),
    ]


def test_nobody_is_named_where_rules_say_nothing() -> None:
    assert map_ref(Ref("openai"), None, FIRST, TagRules()) is None
    assert map_ref(ROGUE, None, FIRST, TagRules()) is None


def test_whoever_reports_most_under_the_same_name_is_guessed_first() -> None:
    costs = [
        metered("3", "team-search-3", bearer=Bearer("search")),
        metered("2", "team-search-3", bearer=Bearer("growth")),
        metered("99", "team-search-3", bearer=NOBODY),
    ]

    guess = Neighbours.build(costs, []).guess(ROGUE)

    assert guess == LikelyOwner("search", OwnerReason.SAME_NAME)


def test_then_whoever_reports_most_under_other_keys_of_the_project() -> None:
    costs = [metered("1", "key-a", bearer=Bearer("a")), metered("2", "key-b", bearer=Bearer("b"))]
    lines = [billed("1", "key-a", project="lab"), billed("2", "key-b", project="lab")]

    assert Neighbours.build(costs, lines).guess(ROGUE) == LikelyOwner("b", OwnerReason.PROJECT)


def test_then_whoever_reports_most_under_names_that_begin_alike() -> None:
    costs = [
        metered("1", "team-search-1", bearer=Bearer("search")),
        metered("9", "team-growth-1", bearer=Bearer("growth")),
        metered("9", "plain", bearer=Bearer("growth")),
    ]

    guess = Neighbours.build(costs, [billed("1")]).guess(Ref("openai", "", None, "team-search-3"))

    assert guess == LikelyOwner("search", OwnerReason.PREFIX)


def test_a_tie_goes_to_the_earlier_name_and_strangers_are_guessed_nobodys() -> None:
    costs = [metered("1", "lab", bearer=Bearer(team)) for team in ("b", "a")]
    neighbours = Neighbours.build(costs, [])

    assert neighbours.guess(ROGUE) == LikelyOwner("a", OwnerReason.PROJECT)
    assert neighbours.guess(Ref("openai", "org", None, "sk_123")) is None
    assert neighbours.guess(Ref("openai")) is None


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("team-search-3", "team-search-"), ("a/b/c/d", "a/b/c/"), ("sk_1", None), ("plain", None)],
)
def test_a_prefix_says_something_from_two_parts_on(name: str, prefix: str | None) -> None:
    assert prefix_of(name) == prefix

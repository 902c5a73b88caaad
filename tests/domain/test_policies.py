"""What policies say of a call: models, owners, lifecycle, and what is said without any."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.budgets import Mode
from tokenbudget.domain.owners import Lifecycle, Owner, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.policies import (
    Action,
    KnownCall,
    ModelClass,
    Policy,
    PolicyBook,
    Rung,
    judge_call,
    ladder_of,
    least_output_of,
    lifecycle_of,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CALL = KnownCall(("acme/plain", "plain"), "growth", "summarise", owner="ana@example.com")
SMALL = ModelClass("small", ("plain-mini*", "*-nano"))
EVERYTHING = DimensionSet("growth", "acme", "plain")


def policy(policy_id: str = "p", mode: Mode = Mode.HARD, **demands: Any) -> Policy:
    """Give a hard policy for everything with these demands."""
    return Policy(policy_id, mode, **demands)


def codes(*policies: Policy, call: KnownCall = CALL) -> tuple[list[str], list[str], list[str]]:
    """Give the codes of what denies the call, what is warned of and what shadows would deny."""
    verdict = judge_call(policies, call, NOW)
    denials, warnings, shadowed = (
        [notice.code for notice in told]
        for told in (verdict.denials, verdict.warnings, verdict.shadowed)
    )
    return denials, warnings, shadowed


@pytest.mark.parametrize(
    ("demands", "is_allowed"),
    [
        ({}, True),
        ({"allowed_models": ("plain",)}, True),
        ({"allowed_models": ("acme/*",)}, True),
        ({"allowed_models": ("pla*n",)}, True),
        ({"allowed_models": ("plain-mini",)}, False),
        ({"allowed_models": ("other/plain",)}, False),
        ({"denied_models": ("plain",)}, False),
        ({"denied_models": ("plain-*",)}, True),
        ({"allowed_models": ("plain",), "denied_models": ("acme/plain",)}, False),
        ({"allowed_classes": (SMALL,)}, False),
        ({"allowed_classes": (SMALL, ModelClass("standard", ("plain",)))}, True),
        ({"allowed_classes": (SMALL,), "allowed_models": ("plain",)}, True),
    ],
)
def test_a_model_is_allowed_by_its_names(demands: dict[str, Any], is_allowed: bool) -> None:
    assert codes(policy(**demands))[0] == ([] if is_allowed else ["model_not_allowed"])


def test_a_call_that_names_no_model_is_in_no_list() -> None:
    unnamed = replace(CALL, names=())

    [notice] = judge_call([policy(allowed_models=("*",))], unnamed, NOW).denials

    assert notice.detail == "policy p does not allow a call that names no model"
    assert codes(policy(denied_models=("*",)), call=unnamed)[0] == []


def test_all_policies_apply_and_each_says_so() -> None:
    verdict = judge_call(
        [policy("b", denied_models=("plain",)), policy("a", allowed_models=("mini",)), policy("c")],
        CALL,
        NOW,
    )

    assert [notice.detail for notice in verdict.denials] == [
        "policy b does not allow acme/plain",
        "policy a does not allow acme/plain",
    ]


def test_a_soft_policy_warns_and_a_shadow_one_is_told_apart() -> None:
    denied: dict[str, Any] = {"denied_models": ("plain",)}

    assert codes(policy(mode=Mode.SOFT, **denied)) == ([], ["model_not_allowed"], [])
    assert codes(policy(mode=Mode.SHADOW, **denied)) == ([], [], ["model_not_allowed"])


def test_an_owner_is_demanded_only_where_a_policy_says_so() -> None:
    nobodys = replace(CALL, owner=None)

    assert codes(policy(), call=nobodys) == ([], [], [])
    assert codes(policy(requires_owner=True)) == ([], [], [])
    [notice] = judge_call([policy(requires_owner=True)], nobodys, NOW).denials
    assert notice.code == "owner_missing"
    assert notice.detail == (
        "policy p demands an owner, and team 'growth' has none, nor has its feature 'summarise'"
    )
    [notice] = judge_call(
        [policy(requires_owner=True)], replace(nobodys, feature=None), NOW
    ).denials
    assert notice.detail == "policy p demands an owner, and team 'growth' has none"


def test_a_retired_feature_warns_and_is_denied_if_a_policy_says_so() -> None:
    retired = replace(CALL, lifecycle=Lifecycle.RETIRED)

    assert codes(call=retired) == ([], ["feature_retired"], [])
    assert codes(policy(), call=retired) == ([], ["feature_retired"], [])
    assert codes(policy(on_retired=Action.DENY), call=retired) == (["feature_retired"], [], [])


def test_a_soft_policy_against_retired_features_warns_once() -> None:
    retired = replace(CALL, lifecycle=Lifecycle.RETIRED)

    verdict = judge_call([policy(mode=Mode.SOFT, on_retired=Action.DENY)], retired, NOW)

    assert [notice.detail for notice in verdict.warnings] == [
        "policy p denies the retired feature 'summarise'"
    ]


def test_a_deprecated_feature_warns_whatever_policies_say() -> None:
    deprecated = replace(CALL, lifecycle=Lifecycle.DEPRECATED)

    assert codes(policy(on_retired=Action.DENY), call=deprecated) == (
        [],
        ["feature_deprecated"],
        [],
    )


@pytest.mark.parametrize(
    ("sunset", "denials", "warnings"),
    [
        (NOW + timedelta(days=30, microseconds=1), [], []),
        (NOW + timedelta(days=30), [], ["model_sunset"]),
        (NOW + timedelta(microseconds=1), [], ["model_sunset"]),
        (NOW, ["model_sunset"], []),
        (NOW - timedelta(days=400), ["model_sunset"], []),
    ],
)
def test_a_model_is_warned_of_before_its_sunset_and_denied_after_it(
    sunset: datetime, denials: list[str], warnings: list[str]
) -> None:
    ending = replace(CALL, sunset=sunset)

    assert codes(policy(on_sunset=Action.DENY), call=ending) == (denials, warnings, [])
    assert codes(call=ending) == ([], [*denials, *warnings], [])


def test_a_sunset_is_told_as_it_stands() -> None:
    told = [
        judge_call([], replace(CALL, sunset=sunset), NOW).warnings[0].detail
        for sunset in (NOW, NOW + timedelta(days=1))
    ]

    assert told == [
        "acme/plain is no longer served since 2026-11-20T12:00:00Z",
        "acme/plain will no longer be served from 2026-11-21T12:00:00Z",
    ]


def test_the_first_ladder_counts_and_a_shadow_one_does_not() -> None:
    first, second = (Rung("mini"),), (Rung("nano", "acme"),)
    shadow = policy(mode=Mode.SHADOW, ladder=first, min_output_tokens=500)

    assert ladder_of([policy(), policy(ladder=second), policy(ladder=first)]) == second
    assert ladder_of([shadow]) == ()
    assert least_output_of([policy(min_output_tokens=10), policy(), shadow]) == 10
    assert least_output_of([]) == 1


def test_a_policy_applies_where_its_whole_selector_holds() -> None:
    growth = policy("g", selector={"team": frozenset({"growth", "search"})})
    prod = policy("p", selector={"team": frozenset({"growth"}), "tag:env": frozenset({"prod"})})

    book = PolicyBook([prod, growth])

    assert book.matching(EVERYTHING) == (growth,)
    assert book.matching(replace(EVERYTHING, tags={"env": "prod"})) == (prod, growth)


def test_owners_are_those_of_the_quarter_hour() -> None:
    until = NOW + timedelta(minutes=15)
    before = Owner(OwnerKind.FEATURE, "search", OwnerFacts(), EPOCH, until)
    retired = OwnerFacts(lifecycle=Lifecycle.RETIRED)
    after = Owner(OwnerKind.FEATURE, "search", retired, until)
    book = PolicyBook([], [before, after])

    stages = [
        lifecycle_of(book.owners_at(instant), "search")
        for instant in (NOW, NOW + timedelta(minutes=14), until, NOW)
    ]

    assert [stage.value for stage in stages] == ["active", "active", "retired", "active"]
    assert lifecycle_of(book.owners_at(NOW), None) is Lifecycle.ACTIVE
    assert lifecycle_of(book.owners_at(NOW), "unknown") is Lifecycle.ACTIVE

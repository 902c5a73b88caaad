"""Allocation rules from TOML and JSON: what they mean, and what is refused by name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tokenbudget.domain.allocation_rules import CommitmentRule, Driver, PoolRule, Scope
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.tag_rules import Condition
from tokenbudget.formats.allocation_rules import (
    AllocationRulesDraft,
    parse_allocation_rules,
    parse_allocation_toml,
)

DOCUMENT = """
tolerance = "0.25%"

[[pool]]
name = "support"
match = { provider = "aws*", category = ["purchase", "adjustment"], description = "*Support*" }
driver = "fixed"
shares = { growth = 60, search = "37.5", ads = 2.5 }
valid_from = "2026-01"
valid_to = "2027-01"

[[pool]]
name = "untagged"
bearer = { team = "unallocated" }
driver = "metric:resolved"
by = ["tenant"]
over = "all"
among = { cost_center = "CC-*" }
exclude = [{ team = "platform" }, { feature = ["evaluation", "tests-*"] }]

[[commitment]]
commitment = "ptu"
match = { provider = "azure*", category = ["purchase", "usage"], description = "*PTU*" }
valid_from = "2026-04"

[[commitment]]
name = "one-off"
commitment = "ptu"
match = { account = "sub-1" }
valid_to = "2026-10"

[[acceptance]]
name = "july retries"
provider = "openai"
model = "gpt-*"
account = "proj_1"
month = "2026-07"
treat = "scale"
reason = "retries were counted twice"
by = "ana@example.com"

[[acceptance]]
provider = "azure"
treat = "scale"
reason = "PTU"
by = "ben"

[[unbilled]]
provider = ["vllm", "self-*"]
reason = "our own hosts"
"""


def parse(**document: Any) -> AllocationRulesDraft:
    """Give the draft of a decoded document."""
    return parse_allocation_rules(document)


def pool(**changes: Any) -> dict[str, Any]:
    """Give one valid pool with changes; None takes a key away."""
    entry = {"name": "p", "match": {}, **changes}
    return {name: value for name, value in entry.items() if value is not None}


def acceptance(**changes: Any) -> dict[str, Any]:
    """Give one valid acceptance with changes."""
    return {"provider": "openai", "treat": "scale", "reason": "known", "by": "ana", **changes}


def payment(**changes: Any) -> dict[str, Any]:
    """Give one valid commitment rule with changes; None takes a key away."""
    entry = {"commitment": "ptu", "match": {"provider": "azure"}, **changes}
    return {name: value for name, value in entry.items() if value is not None}


def test_a_file_says_what_its_tables_say() -> None:
    rules = parse_allocation_toml(DOCUMENT, file_name="allocation.toml").rules

    support, untagged = rules.pools
    assert rules.tolerance_basis_points == 25
    assert support == PoolRule(
        name="support",
        match=(
            Condition("category", frozenset({"purchase", "adjustment"})),
            Condition("description", globs=("*support*",)),
            Condition("provider", globs=("aws*",)),
        ),
        driver=Driver.FIXED,
        shares=(("ads", 2_500_000_000), ("growth", 60_000_000_000), ("search", 37_500_000_000)),
        valid_from=202601,
        valid_to=202701,
    )
    assert untagged == PoolRule(
        name="untagged",
        bearer=(Condition("team", frozenset({"unallocated"})),),
        driver=Driver.METRIC,
        metric="resolved",
        by=("team", "tenant"),
        over=Scope.ALL,
        among=((Condition("cost_center", globs=("CC-*",)),),),
        exclude=(
            (Condition("team", frozenset({"platform"})),),
            (Condition("feature", frozenset({"evaluation"}), ("tests-*",)),),
        ),
    )
    assert rules.commitments == (
        CommitmentRule(
            name="ptu",
            commitment="ptu",
            match=(
                Condition("category", frozenset({"purchase", "usage"})),
                Condition("description", globs=("*ptu*",)),
                Condition("provider", globs=("azure*",)),
            ),
            valid_from=202604,
        ),
        CommitmentRule(
            name="one-off",
            commitment="ptu",
            match=(Condition("account", frozenset({"sub-1"})),),
            valid_to=202610,
        ),
    )
    july, second = rules.acceptances
    facts = {"provider": "openai", "model": "gpt-5.2", "account": "proj_1"}
    assert (july.name, july.month, july.accepts(facts, 202607)) == ("july retries", 202607, True)
    assert (second.name, second.month) == ("acceptance 2", None)
    assert [rules.is_unbilled(name) for name in ("vllm", "self-hosted", "openai")] == [
        True,
        True,
        False,
    ]


def test_what_is_written_is_read_again() -> None:
    draft = parse_allocation_toml(DOCUMENT, file_name="allocation.toml")

    assert parse_allocation_rules(draft.content) == draft
    assert draft.metrics == ["resolved"]
    assert draft.content["pool"][0]["shares"] == {"ads": "2.5", "growth": "60", "search": "37.5"}


def test_nothing_written_is_the_default() -> None:
    assert parse() == AllocationRulesDraft()
    assert parse().rules.tolerance_basis_points == 200


@pytest.mark.parametrize(("text", "basis_points"), [("0%", 0), ("100%", 10_000), (" 1.5 %", 150)])
def test_a_tolerance_is_a_percentage(text: str, basis_points: int) -> None:
    assert parse(tolerance=text).rules.tolerance_basis_points == basis_points


@pytest.mark.parametrize("text", ["2", "two%", "-1%", "100.01%", "0.001%", "1e-30%"])
def test_any_other_tolerance_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"tolerance '.*' must be a percentage"):
        parse(tolerance=text)


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ({"pools": []}, "unknown field `pools`"),
        ({"pool": {}}, "Expected `array`"),
        ({"pool": [pool(driverr="even")]}, r"pool 1 \(p\): .*unknown field `driverr`"),
        ({"pool": [{"match": {}}]}, "pool 1: .*missing required field `name`"),
        ({"pool": [3]}, "pool 1: "),
        ({"pool": [pool(name="a\0b")]}, "name holds a NUL"),
        ({"\ud800": 1}, "allocation rules: holds half of a surrogate pair"),
        ({"pool": [pool(name="\ud800")]}, "pool 1: holds half of a surrogate pair"),
        ({"pool": [pool(), pool()]}, "pool 2: name 'p' is used twice"),
        ({"pool": [pool(match=None)]}, "needs either 'match' or 'bearer'"),
        ({"pool": [pool(bearer={"team": "a"})]}, "needs either 'match' or 'bearer'"),
        ({"pool": [pool(match={"provder": "x"})]}, r"\(p\): match: 'provder' is not known"),
        ({"pool": [pool(match={"category": "taxes"})]}, "match.category: 'taxes' is not known"),
        ({"pool": [pool(match=None, bearer={"tag": "x"})]}, "bearer: 'tag' is not known"),
        ({"pool": [pool(among={"owner": "x"})]}, "among: 'owner' is not known"),
        ({"pool": [pool(exclude=[{"owner": "x"}])]}, "exclude: 'owner' is not known"),
        ({"pool": [pool(driver="cost")]}, "driver 'cost' is not known; there are direct_cost,"),
        ({"pool": [pool(driver="metric")]}, "driver 'metric' is not known"),
        ({"pool": [pool(driver="metric:9")]}, "metric '9' must be a letter"),
        ({"pool": [pool(by="cost_center")]}, "by: 'cost_center' is not known"),
        ({"pool": [pool(over="month")]}, "over"),
        ({"pool": [pool(valid_from="2026-13")]}, "valid_from '2026-13' is not a month"),
        (
            {"pool": [pool(valid_from="2026-09", valid_to="2026-09")]},
            "valid_to must be after valid_from",
        ),
        ({"acceptance": [acceptance(treat="ignore")]}, "acceptance 1: .*treat"),
        ({"acceptance": [{"provider": "openai", "treat": "scale", "by": "a"}]}, "`reason`"),
        ({"acceptance": [acceptance(month="july")]}, "month 'july' is not a month"),
        (
            {"acceptance": [acceptance(), acceptance(name="acceptance 1")]},
            "acceptance 2: name 'acceptance 1' is used twice",
        ),
        ({"unbilled": [{}]}, "unbilled 1: .*`provider`"),
        ({"commitment": [payment(commitment=None)]}, "commitment 1: .*field `commitment`"),
        ({"commitment": [payment(match=None)]}, "commitment 1: .*field `match`"),
        ({"commitment": [payment(match={})]}, "commitment 1: .*match"),
        ({"commitment": [payment(matches={})]}, "commitment 1: .*unknown field `matches`"),
        ({"commitment": [payment(match={"model": "x"})]}, "match: 'model' is not known"),
        (
            {"commitment": [payment(name="p", match={"category": "unused"})]},
            r"commitment 1 \(p\): match.category: 'unused' is not known; there are usage, purchase",
        ),
        ({"commitment": [payment(), payment()]}, "commitment 2: name 'ptu' is used twice"),
        ({"commitment": [payment(valid_from="soon")]}, "valid_from 'soon' is not a month"),
        (
            {"commitment": [payment(valid_from="2026-09", valid_to="2026-08")]},
            "commitment 1: valid_to must be after valid_from",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(document: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidInput, match=detail):
        parse_allocation_rules(document)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"shares": None}, "fixed needs 'shares'"),
        ({"shares": {"a": 99}}, "shares must add up to 100, not 99"),
        ({"shares": {"a": Decimal("99.5")}}, "not 99.5"),
        ({"shares": {"a": 110, "b": -10}}, "share of 'b' must not be negative"),
        ({"shares": {"a": True}}, "share of 'a' must be a number"),
        ({"shares": {"a": "all"}}, "share of 'a' 'all' is not a decimal number"),
        ({"shares": {"a": 100}, "driver": "even"}, "'shares' are for the driver fixed"),
        ({"shares": {"a": 100}, "among": {"team": "a"}}, "'among' is not for fixed"),
        ({"shares": {"a": 100}, "exclude": {"team": "a"}}, "'exclude' is not for fixed"),
        ({"shares": {"a": 100}, "by": "tenant"}, "'by' is not for fixed"),
    ],
)
def test_fixed_shares_are_whole_and_stand_alone(changes: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidInput, match=detail):
        parse(pool=[pool(**{"driver": "fixed", **changes})])


def test_a_file_that_is_no_toml_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"rules\.toml: not TOML"):
        parse_allocation_toml("[[pool", file_name="rules.toml")


def test_a_number_that_no_decimal_can_be_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_allocation_toml("tolerance = 1e99999999999999999999", file_name="rules.toml")


def test_the_documented_example_is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "allocation.md").read_text(encoding="utf-8")
    _, _, behind = text.partition("```toml\n")

    rules = parse_allocation_toml(behind.partition("```")[0], file_name="allocation.md").rules

    assert [rule.name for rule in rules.pools] == [
        "support",
        "tax",
        "enterprise plan",
        "idle capacity",
        "untagged",
    ]
    assert [rule.commitment for rule in rules.commitments] == ["azure-ptu"]

"""Which owner bears a usage, and which step said so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.allocation import (
    DERIVED_STEPS,
    STEPS,
    TAG_DIMENSIONS,
    Caller,
    CallFacts,
    DimensionSet,
    allocate,
    allocate_again,
    fact_name,
    find_missing_tag,
    kept_tags,
)
from tokenbudget.domain.owners import Owner, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.tag_rules import Condition, TagRule, TagRules

CALL = CallFacts("acme", "plain", account="proj_1")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OWNERS = [Owner(OwnerKind.FEATURE, "summarise", OwnerFacts(parent="growth"), EPOCH)]
REGISTRY = TagRules.build([], [], OWNERS)


def is_value(name: str, *values: str) -> Condition:
    """Give the condition that a fact is one of these."""
    return Condition(name, frozenset(values))


def place(
    given: Mapping[str, str], *, caller: Caller | None = None, rules: TagRules = REGISTRY
) -> DimensionSet:
    """Give the dimensions of a call with these tags; ``user`` is not rolled up."""
    return allocate(CALL, given, NOON, caller=caller or Caller(), rules=rules, unrolled=("user",))


def test_the_callers_tags_become_dimensions() -> None:
    dimensions = place({"team": "growth", "tenant": "acme"})

    assert (dimensions.team, dimensions.tenant) == ("growth", "acme")
    assert dimensions.resolved_by == {"team": "caller", "tenant": "caller"}


def test_a_tag_pinned_by_the_key_beats_the_caller() -> None:
    dimensions = place({"team": "growth"}, caller=Caller("k", {"team": "search"}))

    assert (dimensions.team, dimensions.api_key) == ("search", "k")
    assert dimensions.resolved_by == {"team": "pinned"}


def test_what_a_gateway_asserts_is_told_from_what_a_caller_gives() -> None:
    gateway = Caller("k", {"environment": "prod"}, is_gateway=True)

    dimensions = place({"team": "growth", "environment": "dev"}, caller=gateway)

    assert dimensions.environment == "prod"
    assert dimensions.resolved_by == {"environment": "pinned", "team": "gateway"}


def test_an_identity_that_is_mapped_gives_what_nobody_said() -> None:
    mapping = TagRule(
        "m",
        (is_value("provider", "acme"), is_value("account", "proj_1")),
        {"team": "growth", "tenant": "globex"},
    )

    dimensions = place({"tenant": "acme"}, rules=TagRules.build([mapping], []))

    assert (dimensions.team, dimensions.tenant) == ("growth", "acme")
    assert dimensions.resolved_by == {"team": "mapping", "tenant": "caller"}


def test_a_mapping_may_name_the_api_key_and_the_keys_of_others() -> None:
    rules = TagRules.build(
        [
            TagRule("ours", (is_value("api_key", "k"),), {"team": "growth"}),
            TagRule("theirs", (is_value("service_account", "batch"),), {"tenant": "acme"}),
        ],
        [],
    )

    dimensions = place({"service_account": "batch"}, caller=Caller("k"), rules=rules)

    assert (dimensions.team, dimensions.tenant) == ("growth", "acme")


def test_rules_follow_mappings_and_the_registry_follows_rules() -> None:
    rules = TagRules.build(
        [TagRule("m", (is_value("account", "proj_1"),), {"environment": "prod"})],
        [
            TagRule("r", (is_value("environment", "prod"),), {"feature": "summarise"}),
            TagRule("late", (is_value("account", "proj_1"),), {"environment": "dev"}),
        ],
        OWNERS,
    )

    dimensions = place({}, rules=rules)

    assert (dimensions.environment, dimensions.feature) == ("prod", "summarise")
    assert dimensions.team == "growth"
    assert dimensions.resolved_by == {
        "environment": "mapping",
        "feature": "rule",
        "team": "registry",
    }


def test_a_rule_takes_part_of_a_feature_from_its_registered_team() -> None:
    rule = TagRule("r", (is_value("tenant", "acme"),), {"team": "key accounts"})
    rules = TagRules.build([], [rule], OWNERS)

    teams = [
        place({"feature": "summarise", "tenant": tenant}, rules=rules).team
        for tenant in ("acme", "globex")
    ]

    assert teams == ["key accounts", "growth"]


def test_a_feature_without_a_team_counts_for_the_team_in_the_registry() -> None:
    dimensions = place({"feature": "summarise"})

    assert dimensions.team == "growth"
    assert dimensions.resolved_by == {"feature": "caller", "team": "registry"}


def test_the_callers_team_beats_the_registry() -> None:
    assert place({"feature": "summarise", "team": "search"}).team == "search"


def test_usage_that_nobody_owns_is_unallocated() -> None:
    dimensions = place({})

    assert dimensions.team == "unallocated"
    assert dimensions.resolved_by == {"team": "unallocated"}


def test_what_the_call_says_of_itself_is_taken_over() -> None:
    call = CallFacts("acme", "plain", "chat", "batch", "eu", "proj_1", "error", is_retry=True)

    dimensions = allocate(call, {}, NOON)

    assert dimensions.value("operation") == "chat"
    assert dimensions.value("service_tier") == "batch"
    assert dimensions.value("region") == "eu"
    assert dimensions.value("account") == "proj_1"
    assert dimensions.value("status") == "error"
    assert dimensions.is_retry


def test_a_tag_that_is_no_dimension_is_found_under_its_bare_and_its_full_name() -> None:
    dimensions = place({"experiment": "b"})

    assert dimensions.value("experiment") == "b"
    assert dimensions.value("tag:experiment") == "b"
    assert dimensions.value("tag:other") is None


def test_a_tag_with_too_many_values_stays_on_the_usage() -> None:
    tags = {"team": "growth", "user": "u-17"}

    dimensions = place(tags)

    assert kept_tags(tags, pinned={}, unrolled=("user",)) == {"user": "u-17"}
    assert dimensions.tags == {}
    assert dimensions.resolved_by == {"team": "caller"}


def test_a_tag_called_like_a_fact_of_the_call_is_told_apart_from_it() -> None:
    of_the_tag = TagRule("tag", (is_value(fact_name("tag:model"), "v2"),), {"team": "growth"})
    of_the_call = TagRule("call", (is_value(fact_name("model"), "plain"),), {"tenant": "acme"})

    dimensions = place({"model": "v2"}, rules=TagRules.build([], [of_the_tag, of_the_call]))

    assert (dimensions.team, dimensions.tenant) == ("growth", "acme")
    assert fact_name("tag:team") == "team"


def test_the_order_of_tags_makes_no_difference() -> None:
    assert place({"team": "growth", "b": "1", "a": "2"}) == place(
        {"a": "2", "b": "1", "team": "growth"}
    )


def test_a_demanded_tag_is_missing_when_no_step_gave_it() -> None:
    demanding = Caller("k", required_tags=("team", "tenant", "user"))

    def missing(tags: Mapping[str, str]) -> str:
        return find_missing_tag(place(tags), demanding, tags)

    assert missing({}) == "team"
    assert missing({"feature": "summarise"}) == "tenant"
    assert missing({"team": "a", "tenant": "b"}) == "user"
    assert missing({"team": "a", "tenant": "b", "user": "c"}) == ""


def test_only_what_was_derived_is_resolved_again() -> None:
    old = TagRules.build([], [TagRule("r", (), {"team": "growth", "environment": "prod"})])
    new = TagRules.build([], [TagRule("r", (), {"team": "search", "tenant": "acme"})])
    placed = place({"experiment": "b"}, caller=Caller("k", {"feature": "x"}), rules=old)

    again = allocate_again(placed, NOON, rules=new)

    assert (again.team, again.tenant, again.environment) == ("search", "acme", None)
    assert (again.feature, again.tags, again.api_key) == ("x", {"experiment": "b"}, "k")
    assert again.resolved_by == {
        "experiment": "caller",
        "feature": "pinned",
        "team": "rule",
        "tenant": "rule",
    }


NAMES = (*TAG_DIMENSIONS, "experiment")
TAGS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("abc"), max_size=4)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from((*NAMES, "account", "api_key")),
    st.frozensets(st.sampled_from("abc"), max_size=2),
    st.sampled_from(((), ("*",), ("a*", "*c"))),
    st.booleans(),
)
INSTANTS = st.none() | st.integers(-2, 2).map(lambda days: NOON + timedelta(days=days))
RULES = st.lists(
    st.builds(
        TagRule,
        st.just("r"),
        st.lists(CONDITIONS, max_size=2).map(tuple),
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from("abc"), min_size=1, max_size=2),
        INSTANTS,
        INSTANTS,
    ),
    max_size=8,
)


@given(TAGS, TAGS, st.booleans(), RULES, RULES)
def test_no_step_overwrites_an_earlier_one(
    given_tags: Mapping[str, str],
    pinned: Mapping[str, str],
    is_gateway: bool,
    mappings: list[TagRule],
    rules: list[TagRule],
) -> None:
    caller = Caller("k", pinned, is_gateway=is_gateway)
    in_force = TagRules.build(mappings, rules, OWNERS)

    placed = allocate(CALL, given_tags, NOON, caller=caller, rules=in_force)

    for name, value in {**given_tags, **pinned}.items():
        assert placed.value(name) == value
        assert placed.resolved_by[name] not in DERIVED_STEPS
    assert set(placed.resolved_by.values()) <= set(STEPS)
    without = allocate(CALL, given_tags, NOON, caller=caller, rules=TagRules.build(mappings, []))
    for name, step in without.resolved_by.items():
        if step == "mapping":
            assert (placed.value(name), placed.resolved_by[name]) == (without.value(name), step)


@given(TAGS, RULES, RULES)
def test_resolving_again_by_the_same_rules_changes_nothing(
    given_tags: Mapping[str, str], mappings: list[TagRule], rules: list[TagRule]
) -> None:
    in_force = TagRules.build(mappings, rules, OWNERS)
    placed = allocate(CALL, given_tags, NOON, rules=in_force)

    assert allocate_again(placed, NOON, rules=in_force) == placed

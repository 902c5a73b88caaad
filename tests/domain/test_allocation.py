"""Which owner bears a usage, and which step said so."""

from __future__ import annotations

from collections.abc import Mapping

from tokenbudget.domain.allocation import CallFacts, DimensionSet, allocate, kept_tags

CALL = CallFacts("acme", "plain")


def place(
    given: Mapping[str, str],
    *,
    pinned: Mapping[str, str] | None = None,
    feature_teams: Mapping[str, str] | None = None,
) -> DimensionSet:
    """Give the dimensions of a call with these tags; ``user`` is not rolled up."""
    return allocate(
        CALL,
        given,
        pinned=pinned or {},
        feature_teams=feature_teams or {},
        unrolled=("user",),
    )


def test_the_callers_tags_become_dimensions() -> None:
    dimensions = place({"team": "growth", "tenant": "acme"})

    assert (dimensions.team, dimensions.tenant) == ("growth", "acme")
    assert dimensions.resolved_by == {"team": "caller", "tenant": "caller"}


def test_a_tag_pinned_by_the_key_beats_the_caller() -> None:
    dimensions = place({"team": "growth"}, pinned={"team": "search"})

    assert dimensions.team == "search"
    assert dimensions.resolved_by == {"team": "pinned"}


def test_a_feature_without_a_team_counts_for_the_team_in_the_registry() -> None:
    dimensions = place({"feature": "summarise"}, feature_teams={"summarise": "growth"})

    assert dimensions.team == "growth"
    assert dimensions.resolved_by == {"feature": "caller", "team": "registry"}


def test_the_callers_team_beats_the_registry() -> None:
    dimensions = place(
        {"feature": "summarise", "team": "search"}, feature_teams={"summarise": "growth"}
    )

    assert dimensions.team == "search"


def test_usage_that_nobody_owns_is_unallocated() -> None:
    dimensions = place({})

    assert dimensions.team == "unallocated"
    assert dimensions.resolved_by == {"team": "unallocated"}


def test_what_the_call_says_of_itself_is_taken_over() -> None:
    call = CallFacts("acme", "plain", "chat", "batch", "eu", "proj_1", "error", is_retry=True)

    dimensions = allocate(call, {}, pinned={}, feature_teams={}, unrolled=())

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


def test_the_order_of_tags_makes_no_difference() -> None:
    assert place({"team": "growth", "b": "1", "a": "2"}) == place(
        {"a": "2", "b": "1", "team": "growth"}
    )

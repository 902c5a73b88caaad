"""The sample organisation owns what the replay spends, and its budgets read as any budgets do."""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tokenbudget.demo.features import (
    CHAT_ASSISTANT,
    CLIENT_MODELS,
    CODE_COMPLETION,
    DOCUMENT_CHAT,
    PAIR_PROGRAMMING,
)
from tokenbudget.demo.organisation import budgets_toml, organisation_toml
from tokenbudget.formats.budgets import parse_budgets_toml
from tokenbudget.formats.owners import parse_owners_toml

NOW = datetime(2026, 12, 1, 0, 20, tzinfo=UTC)


def owners() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = tomllib.loads(organisation_toml())["owner"]
    return tables


def budgets() -> dict[str, dict[str, Any]]:
    return {table["id"]: table for table in tomllib.loads(budgets_toml(NOW))["budget"]}


def test_there_are_six_teams_fifteen_features_and_their_cost_centres_and_tenants() -> None:
    kinds = Counter(owner["kind"] for owner in owners())

    assert kinds == {"cost_center": 3, "team": 6, "feature": 15, "tenant": 12}


def test_the_owners_are_read_by_the_same_reader_as_any_owners_file() -> None:
    entries = parse_owners_toml(organisation_toml(), file_name="organisation.toml")

    assert [entry.name for entry in entries] == [owner["name"] for owner in owners()]


def test_every_owner_has_an_address_and_a_date() -> None:
    for owner in owners():
        assert owner["email"].endswith("example.com")
        assert owner["lifecycle"] in {"active", "deprecated"}
        assert owner["valid_from"] == datetime(2024, 1, 1, tzinfo=UTC)


def test_every_parent_and_cost_center_is_named_before_it_is_used() -> None:
    seen: set[str] = set()
    for owner in owners():
        assert {owner[name] for name in ("parent", "cost_center") if name in owner} <= seen
        seen.add(owner["name"])


def test_every_feature_of_the_replay_is_owned_by_the_team_it_is_tagged_with() -> None:
    features = [CHAT_ASSISTANT, CODE_COMPLETION, DOCUMENT_CHAT, PAIR_PROGRAMMING]
    features += [feature for model in CLIENT_MODELS.values() for feature in model.features]

    owned = {owner["name"]: owner["parent"] for owner in owners() if owner["kind"] == "feature"}

    assert {feature.name: feature.team for feature in features if feature.name} == owned


def test_the_budgets_are_read_by_the_same_reader_as_any_budget_file() -> None:
    drafts = parse_budgets_toml(budgets_toml(NOW), file_name="budgets.toml", timezone="UTC")

    assert [draft.id for draft in drafts] == [
        "company-month",
        "company-day",
        "support-launch",
        "document-chat-pilot",
        "search-month",
        "reply-drafts-tenant",
        "developer-tools-week",
        "model-evaluation-lifetime",
    ]


def test_fixed_ranges_reach_two_weeks_either_side_of_the_replay() -> None:
    tables = budgets()

    assert tables["support-launch"]["window"] == "range:2026-11-17/2026-12-15"
    assert tables["document-chat-pilot"]["window"] == "range:2026-11-17/2026-12-15"


def test_one_budget_is_hard_and_one_is_split_by_tenant() -> None:
    tables = budgets()

    assert [name for name, table in tables.items() if table.get("mode") == "hard"] == [
        "search-month"
    ]
    assert tables["reply-drafts-tenant"]["split_by"] == ["tenant"]


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        budgets_toml(NOW.replace(tzinfo=None))

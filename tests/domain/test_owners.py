"""Entries of the owners registry and the tree they make."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import (
    MAX_TREE_DEPTH,
    Outcome,
    Owner,
    OwnerEntry,
    OwnerFacts,
    OwnerKind,
    OwnerTree,
    apply_entry,
    require_sound,
    tree_at,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def make_team(name: str, parent: str | None = None) -> Owner:
    """Give a team that has always been there."""
    return Owner(OwnerKind.TEAM, name, OwnerFacts(parent), datetime(1970, 1, 1, tzinfo=UTC))


def test_an_entry_begins_on_a_quarter_hour() -> None:
    with pytest.raises(InvalidInput, match="owner team 'growth': valid_from must lie on a quarter"):
        OwnerEntry(OwnerKind.TEAM, "growth", OwnerFacts(), NOW.replace(minute=7))


def test_an_entry_for_a_future_owner_begins_now_and_ends_there() -> None:
    future = Owner(OwnerKind.TEAM, "growth", OwnerFacts(), NOW.replace(year=2027))

    outcome, history = apply_entry(
        [future], OwnerEntry(OwnerKind.TEAM, "growth", OwnerFacts(email="a@b.org")), now=NOW
    )

    assert outcome is Outcome.CHANGED
    assert [(owner.valid_from, owner.valid_to) for owner in history] == [
        (NOW, future.valid_from),
        (future.valid_from, None),
    ]


def test_an_empty_tree_knows_nobody() -> None:
    tree = OwnerTree()

    assert tree.owner_of("growth", "summarise") is None
    assert tree.owner_of("growth", None) is None
    assert tree.cost_center_of(None) is None


def test_a_parent_that_is_not_yet_in_force_ends_the_way_up() -> None:
    tree = tree_at([make_team("growth", "platform")], NOW)

    assert tree.cost_center_of("growth") is None


def test_a_chain_of_teams_may_not_be_endless() -> None:
    chain = [make_team(f"t{place}", f"t{place + 1}") for place in range(MAX_TREE_DEPTH)]

    with pytest.raises(InvalidInput, match="through more than 32 teams"):
        require_sound([*chain, make_team(f"t{MAX_TREE_DEPTH}")], [])

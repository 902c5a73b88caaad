"""Rules and owners before and after they changed, and what a re-attribution is asked and told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.builders import PRICES, broken_rules, rows_of
from tests.conftest import FrozenClock
from tokenbudget.domain.documents import Applied
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.reattribution import Reattribution, UsePeriod
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.reattribution import approve_reattribution, propose_reattribution
from tokenbudget.services.tag_rules import apply_tag_rules
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, DimensionSetRow, RollupRow

ALL_TIME = UsePeriod()
TO_SEARCH = {"name": "acme goes to search", "when": {"tenant": "acme"}, "set": {"team": "search"}}


def set_rules(
    database: Database,
    clock: FrozenClock,
    *rules: Mapping[str, Any],
    mappings: list[dict[str, Any]] | None = None,
) -> Applied:
    """Put these rules and mappings in force."""
    draft = parse_tag_rules({"rule": list(rules), "mapping": mappings or []})
    return apply_tag_rules(database, draft, now=clock())


def set_teams(
    database: Database, clock: FrozenClock, feature: str, *teams: tuple[str, datetime | None]
) -> None:
    """Let a feature belong to these teams, each since an instant."""
    known = [OwnerEntry(OwnerKind.TEAM, team, OwnerFacts()) for team, _ in teams]
    owned = [
        OwnerEntry(OwnerKind.FEATURE, feature, OwnerFacts(parent=team), since)
        for team, since in teams
    ]
    apply_owners(database, [*known, *owned], now=clock())


def propose(database: Database, clock: FrozenClock, period: UsePeriod = ALL_TIME) -> Reattribution:
    """Ask what would move."""
    return propose_reattribution(database, period, now=clock())


def approve(database: Database, clock: FrozenClock, proposed: Reattribution) -> Reattribution:
    """Apply what was proposed."""
    return approve_reattribution(database, PRICES, proposed.reattribution_id, now=clock())


def reattribute(
    database: Database, clock: FrozenClock, period: UsePeriod = ALL_TIME
) -> Reattribution:
    """Propose and approve, and give what was applied."""
    return approve(database, clock, propose(database, clock, period))


def spent_by(database: Database, dimension: str = "team") -> dict[str | None, int]:
    """Give the effective nanos of the daily rollups by a dimension, where they are not zero.

    Every invariant was found to hold, and charges to have the same sum.
    """
    assert broken_rules(database) == []
    values = {row["id"]: row[dimension] for row in rows_of(database, DimensionSetRow)}
    sums: dict[str | None, int] = {}
    for row in rows_of(database, RollupRow):
        if row["grain_seconds"] > 900:
            value = values[row["dimension_set_id"]]
            sums[value] = sums.get(value, 0) + row["effective_nanos"]
    charged = sum(row["effective_nanos"] or 0 for row in rows_of(database, ChargeRow))
    assert sum(sums.values()) == charged
    return {value: nanos for value, nanos in sums.items() if nanos}

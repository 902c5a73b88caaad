"""The dated registry of owners.

It owns applying and listing entries; it refuses to delete what once held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.owners import (
    Outcome,
    Owner,
    OwnerEntry,
    OwnerKey,
    apply_entry,
    require_sound,
)
from tokenbudget.store.budgets import change_rules
from tokenbudget.store.db import Database
from tokenbudget.store.owners import list_owner_history, list_owners_at, write_owners

MAX_LISTED: Final = 1_000


@dataclass(frozen=True, slots=True)
class OwnersApplied:
    """How many entries began a history, changed one and said nothing new; and each of them."""

    created: int
    changed: int
    unchanged: int
    outcomes: tuple[tuple[OwnerEntry, Outcome], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What applying entries does: ``written`` are the stretches that differ from ``stored``."""

    stored: list[Owner]
    written: list[Owner]
    applied: OwnersApplied


def apply_owners(
    database: Database, entries: Sequence[OwnerEntry], *, now: datetime
) -> OwnersApplied:
    """Give what became of the entries; all of them are applied, or none.

    A change closes what held at its ``valid_from`` and keeps it; owners that no entry names stay as
    they are. Applying the same entries again changes nothing. Raises InvalidInput naming the entry
    and the rule.
    """
    with database.transaction() as session:
        plan = _plan(session, entries, now)
        if not plan.written:
            return plan.applied
        change_rules(session)
        # While this one waited for the rules, another may have changed the owners.
        return write_entries(session, entries, now=now)


def write_entries(
    session: Session, entries: Sequence[OwnerEntry], *, now: datetime
) -> OwnersApplied:
    """Give what became of the entries, applied in a transaction that has changed the rules."""
    plan = _plan(session, entries, now)
    write_owners(session, plan.written, stored=plan.stored, now=now)
    return plan.applied


def list_owners(
    database: Database, at: datetime, *, after: OwnerKey | None = None, limit: int = MAX_LISTED
) -> list[Owner]:
    """Give at most ``limit`` owners in force at the instant, by kind and name, behind ``after``."""
    with database.reading() as session:
        return list_owners_at(session, at, after=after, limit=limit)


def _plan(session: Session, entries: Sequence[OwnerEntry], now: datetime) -> _Plan:
    stored = list_owner_history(session)
    histories: dict[OwnerKey, list[Owner]] = {}
    for owner in stored:
        histories.setdefault(owner.key, []).append(owner)
    outcomes: list[tuple[OwnerEntry, Outcome]] = []
    for entry in entries:
        outcome, history = apply_entry(histories.get(entry.key, []), entry, now=now)
        outcomes.append((entry, outcome))
        histories[entry.key] = history
    counts = Counter(outcome for _, outcome in outcomes)
    owners = [owner for history in histories.values() for owner in history]
    require_sound(owners, entries)
    unchanged = set(stored)
    return _Plan(
        stored,
        [owner for owner in owners if owner not in unchanged],
        OwnersApplied(
            counts[Outcome.CREATED],
            counts[Outcome.CHANGED],
            counts[Outcome.UNCHANGED],
            tuple(outcomes),
        ),
    )

"""Allocation rules: applied whole, each time as a new version.

It owns what an apply changes. It refuses to divide invoices (``allocation.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.documents import DocumentVersion, compare_entries
from tokenbudget.formats.allocation_rules import (
    KINDS,
    AllocationRulesDraft,
    parse_allocation_rules,
)
from tokenbudget.services.documents import DocumentShelf
from tokenbudget.store.bill_tables import AllocationRulesRow
from tokenbudget.store.db import Database
from tokenbudget.store.documents import find_document


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What became of one entry: ``added``, ``removed``, ``changed`` or ``moved``.

    ``kind`` is tolerance, pool, commitment, acceptance or unbilled.
    """

    kind: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class RulesApplied:
    """The version in force afterwards, and what makes it another than the one before."""

    version: int
    is_changed: bool
    changes: tuple[RuleChange, ...]


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The rules of a version; version 0 is that there are none yet."""

    version: int
    draft: AllocationRulesDraft


SHELF: Final = DocumentShelf(AllocationRulesRow, AllocationRulesDraft().content)


def apply_allocation_rules(
    database: Database,
    draft: AllocationRulesDraft,
    *,
    now: datetime,
    by: str | None = None,
    dry_run: bool = False,
) -> RulesApplied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version.
    Statements that are closed stay as they are.
    """
    replaced = SHELF.replace(database, draft.content, now=now, by=by, dry_run=dry_run)
    if replaced.before is None:
        return RulesApplied(replaced.version, is_changed=False, changes=())
    changes = _compare(replaced.before, draft.content)
    return RulesApplied(replaced.version, is_changed=True, changes=tuple(changes))


def get_allocation_rules(database: Database) -> DocumentVersion:
    """Give the version in force."""
    return SHELF.present(database)


def list_versions(database: Database, *, limit: int) -> list[DocumentVersion]:
    """Give the latest versions, newest first."""
    return SHELF.latest(database, limit=limit)


def load_allocation_rules(session: Session) -> RulesInForce:
    """Give the rules in force."""
    row = find_document(session, AllocationRulesRow)
    if row is None:
        return RulesInForce(0, AllocationRulesDraft())
    draft = parse_allocation_rules(row.content, where="stored allocation rules")
    return RulesInForce(row.version, draft)


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[RuleChange]:
    """Give what became of every entry, those of a kind that are gone last."""
    if before["tolerance"] != after["tolerance"]:
        yield RuleChange("tolerance", after["tolerance"], "changed")
    names = {"unbilled": "provider"}
    for kind in KINDS:
        name = names.get(kind, "name")
        actions = compare_entries(_by(name, before[kind]), _by(name, after[kind]))
        for entry, action in actions.items():
            yield RuleChange(kind, entry, action)


def _by(name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    named = [(entry[name], entry) for entry in entries]
    return {value if isinstance(value, str) else ", ".join(value): entry for value, entry in named}

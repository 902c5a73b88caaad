"""Allocation rules: applied whole, each time as a new version.

It owns what an apply changes. It refuses to divide invoices (``allocation.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.documents import (
    Applied,
    DocumentVersion,
    EntryChange,
    compare_entries,
)
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
) -> Applied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version.
    Statements that are closed stay as they are.
    """
    return SHELF.apply(database, draft.content, _compare, now=now, by=by, dry_run=dry_run)


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


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[EntryChange]:
    """Give what became of every entry, those of a kind that are gone last."""
    if before["tolerance"] != after["tolerance"]:
        yield EntryChange("tolerance", after["tolerance"], "changed")
    names = {"unbilled": "provider"}
    for kind in KINDS:
        name = names.get(kind, "name")
        actions = compare_entries(_by(name, before[kind]), _by(name, after[kind]))
        for entry, action in actions.items():
            yield EntryChange(kind, entry, action)


def _by(name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    named = [(entry[name], entry) for entry in entries]
    return {value if isinstance(value, str) else ", ".join(value): entry for value, entry in named}

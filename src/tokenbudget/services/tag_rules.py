"""Mappings and tag rules: applied whole, each time as a new version.

It owns what an apply changes; it refuses to touch usage that is recorded (``reattribution.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tokenbudget.domain.documents import (
    Applied,
    DocumentVersion,
    EntryChange,
    compare_entries,
)
from tokenbudget.formats.tag_rules import TagRulesDraft
from tokenbudget.services.documents import DocumentShelf
from tokenbudget.store.db import Database
from tokenbudget.store.tables import TagRulesRow

KINDS: Final = ("mapping", "rule")
SHELF: Final = DocumentShelf(TagRulesRow, {kind: [] for kind in KINDS})


def apply_tag_rules(
    database: Database,
    draft: TagRulesDraft,
    *,
    now: datetime,
    by: str | None = None,
    dry_run: bool = False,
) -> Applied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version. Usage
    that is recorded stays where it counts.
    """
    return SHELF.apply(database, draft.content, _changes, now=now, by=by, dry_run=dry_run)


def get_tag_rules(database: Database) -> DocumentVersion:
    """Give the version in force."""
    return SHELF.present(database)


def list_versions(database: Database, *, limit: int) -> list[DocumentVersion]:
    """Give the latest versions, newest first."""
    return SHELF.latest(database, limit=limit)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[EntryChange]:
    return [change for kind in KINDS for change in _compare(kind, before, after)]


def _compare(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[EntryChange]:
    """Give what became of each entry of a list, in the order of what stands there afterwards."""
    old, new = _by_name(kind, before[kind]), _by_name(kind, after[kind])
    places = {name: place for entries in (old, new) for place, name in enumerate(entries, start=1)}
    return [
        EntryChange(kind, name, action, places[name])
        for name, action in compare_entries(old, new).items()
    ]


def _by_name(kind: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Give the entries by what they are known by: a rule's name, what a mapping matches and when.

    Of mappings that match the same at the same time only the first is ever asked.
    """
    named: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        named.setdefault(entry["name"] if kind == "rule" else _identity(entry), entry)
    return named


def _identity(entry: Mapping[str, Any]) -> str:
    match = ", ".join(f"{name}={_text(entry['match'][name])}" for name in sorted(entry["match"]))
    return f"{match} from {entry['valid_from']}" if entry["valid_from"] else match


def _text(accepted: str | list[str]) -> str:
    return accepted if isinstance(accepted, str) else "|".join(accepted)

"""Mappings and tag rules: applied whole, each time as a new version.

It owns what an apply changes; it refuses to touch usage that is recorded (``reattribution.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tokenbudget.formats.tag_rules import TagRulesDraft
from tokenbudget.store.budgets import change_rules
from tokenbudget.store.db import Database
from tokenbudget.store.tables import TagRulesRow
from tokenbudget.store.tag_rules import add_tag_rules, find_tag_rules, list_tag_rules

KINDS: Final = ("mapping", "rule")
NOTHING: Final[Mapping[str, Any]] = {kind: [] for kind in KINDS}


@dataclass(frozen=True, slots=True)
class EntryChange:
    """What became of one mapping or rule: ``added``, ``removed``, ``changed`` or ``moved``.

    ``position`` is its place in the list, from 1, before for what is removed, else afterwards.
    """

    kind: str
    name: str
    action: str
    position: int


@dataclass(frozen=True, slots=True)
class TagRulesApplied:
    """The version in force afterwards, and what makes it another than the one before."""

    version: int
    is_changed: bool
    changes: tuple[EntryChange, ...]


@dataclass(frozen=True, slots=True)
class TagRulesVersion:
    """One version as it was written; version 0 is that there is none yet."""

    version: int
    content: Mapping[str, Any]
    recorded_at: datetime | None = None
    recorded_by: str | None = None


def apply_tag_rules(
    database: Database,
    draft: TagRulesDraft,
    *,
    now: datetime,
    by: str | None = None,
    dry_run: bool = False,
) -> TagRulesApplied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version. Usage
    that is recorded stays where it counts.
    """
    with database.transaction(is_kept=not dry_run) as session:
        present = _view(find_tag_rules(session))
        if present.content == draft.content:
            return TagRulesApplied(present.version, is_changed=False, changes=())
        change_rules(session)
        # While this one waited for the rules, another may have written a version.
        present = _view(find_tag_rules(session))
        version = present.version + 1
        add_tag_rules(session, version, draft.content, by=by, now=now)
    changes = [
        change for kind in KINDS for change in _compare(kind, present.content, draft.content)
    ]
    return TagRulesApplied(version, is_changed=True, changes=tuple(changes))


def get_tag_rules(database: Database) -> TagRulesVersion:
    """Give the version in force."""
    with database.reading() as session:
        return _view(find_tag_rules(session))


def list_versions(database: Database, *, limit: int) -> list[TagRulesVersion]:
    """Give the latest versions, newest first."""
    with database.reading() as session:
        return [_view(row) for row in list_tag_rules(session, limit=limit)]


def _view(row: TagRulesRow | None) -> TagRulesVersion:
    if row is None:
        return TagRulesVersion(0, NOTHING)
    return TagRulesVersion(row.version, row.content, row.recorded_at, row.recorded_by)


def _compare(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[EntryChange]:
    """Give what became of each entry of a list, in the order of what stands there afterwards."""
    old, new = _by_name(kind, before[kind]), _by_name(kind, after[kind])
    kept_before = [name for name in old if name in new]
    kept_after = [name for name in new if name in old]
    moved = {late for early, late in zip(kept_before, kept_after, strict=True) if early != late}
    changes = []
    for position, (name, entry) in enumerate(new.items(), start=1):
        action = "moved" if name in moved else None
        if name not in old:
            action = "added"
        elif old[name] != entry:
            action = "changed"
        if action is not None:
            changes.append(EntryChange(kind, name, action, position))
    gone = (
        EntryChange(kind, name, "removed", position)
        for position, name in enumerate(old, start=1)
        if name not in new
    )
    return [*changes, *gone]


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

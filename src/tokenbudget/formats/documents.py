"""Versions of documents that are applied whole, as the API tells of them."""

from __future__ import annotations

from typing import Any

from tokenbudget.domain.documents import Applied, DocumentVersion, EntryChange
from tokenbudget.domain.periods import format_instant


def describe_version(version: DocumentVersion) -> dict[str, Any]:
    """Give which version it is and who wrote it when, without its content."""
    recorded_at = version.recorded_at
    return {
        "version": version.version,
        "recorded_at": None if recorded_at is None else format_instant(recorded_at),
        "recorded_by": version.recorded_by,
    }


def describe_change(change: EntryChange) -> dict[str, Any]:
    """Give what became of an entry, with its position where that matters."""
    position = {} if change.position is None else {"position": change.position}
    return {"kind": change.kind, **position, "name": change.name, "action": change.action}


def describe_applied(applied: Applied) -> dict[str, Any]:
    """Give the version in force and what makes it another than the one before."""
    return {
        "version": applied.version,
        "is_changed": applied.is_changed,
        "changes": [describe_change(change) for change in applied.changes],
    }

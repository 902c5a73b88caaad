"""Documents that are applied whole, each time as a new version: tag rules, policies.

It owns what a version is and what became of its entries; it refuses to know what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version as it was written; version 0 is that there is none yet."""

    version: int
    content: Mapping[str, Any]
    recorded_at: datetime | None = None
    recorded_by: str | None = None


@dataclass(frozen=True, slots=True)
class EntryChange:
    """What became of one entry: ``added``, ``removed``, ``changed`` or ``moved``.

    ``position`` counts from 1 where the order of entries matters: that of what is in force
    afterwards, or of what was for a removed one.
    """

    kind: str
    name: str
    action: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The version in force afterwards, and what makes it another than the one before."""

    version: int
    is_changed: bool
    changes: tuple[EntryChange, ...]


def compare_entries(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, str]:
    """Give what became of each entry by its name: added, changed, moved or removed.

    They come in the order of what stands there afterwards, those that are gone last; what is as it
    was is left out.
    """
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    moved = {late for early, late in zip(kept_before, kept_after, strict=True) if early != late}
    actions: dict[str, str] = {}
    for name, entry in after.items():
        if name not in before:
            actions[name] = "added"
        elif before[name] != entry:
            actions[name] = "changed"
        elif name in moved:
            actions[name] = "moved"
    return actions | {name: "removed" for name in before if name not in after}

"""Policies: applied whole, each time as a new version, and read into the rules in force.

It owns what an apply changes. It refuses to judge calls (``screening.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.documents import DocumentVersion, compare_entries
from tokenbudget.domain.owners import Owner
from tokenbudget.domain.policies import PolicyBook
from tokenbudget.formats.policies import PoliciesDraft, parse_policies
from tokenbudget.services.documents import DocumentShelf
from tokenbudget.store.db import Database
from tokenbudget.store.documents import find_document
from tokenbudget.store.policy_tables import PoliciesRow


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What became of one class or policy: ``added``, ``removed``, ``changed`` or ``moved``."""

    kind: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class PoliciesApplied:
    """The version in force afterwards, and what makes it another than the one before."""

    version: int
    is_changed: bool
    changes: tuple[PolicyChange, ...]


SHELF: Final = DocumentShelf(PoliciesRow, PoliciesDraft().content)


def apply_policies(
    database: Database,
    draft: PoliciesDraft,
    *,
    now: datetime,
    by: str | None = None,
    dry_run: bool = False,
) -> PoliciesApplied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version. Holds
    that were granted stay.
    """
    replaced = SHELF.replace(database, draft.content, now=now, by=by, dry_run=dry_run)
    if replaced.before is None:
        return PoliciesApplied(replaced.version, is_changed=False, changes=())
    changes = _compare(replaced.before, draft.content)
    return PoliciesApplied(replaced.version, is_changed=True, changes=changes)


def get_policies(database: Database) -> DocumentVersion:
    """Give the version in force."""
    return SHELF.present(database)


def list_versions(database: Database, *, limit: int) -> list[DocumentVersion]:
    """Give the latest versions, newest first."""
    return SHELF.latest(database, limit=limit)


def load_policies(session: Session, owners: Sequence[Owner]) -> PolicyBook:
    """Give the policies in force, with the history of owners that they ask about."""
    row = find_document(session, PoliciesRow)
    draft = PoliciesDraft() if row is None else parse_policies(row.content, where="stored policies")
    return PolicyBook(draft.policies, owners)


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[PolicyChange, ...]:
    """Give what became of every class and policy, those that are gone last."""
    classes = compare_entries(before["classes"], after["classes"])
    policies = compare_entries(_by_id(before["policy"]), _by_id(after["policy"]))
    return tuple(
        PolicyChange(kind, name, action)
        for kind, actions in (("class", classes), ("policy", policies))
        for name, action in actions.items()
    )


def _by_id(policies: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {policy["id"]: policy for policy in policies}

"""Policies: applied whole, each time as a new version, and read into the rules in force.

It owns what an apply changes. It refuses to judge calls (``screening.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.documents import (
    Applied,
    DocumentVersion,
    EntryChange,
    compare_entries,
)
from tokenbudget.domain.owners import Owner
from tokenbudget.domain.policies import PolicyBook
from tokenbudget.formats.policies import PoliciesDraft, parse_policies
from tokenbudget.services.documents import DocumentShelf
from tokenbudget.store.db import Database
from tokenbudget.store.documents import find_document
from tokenbudget.store.policy_tables import PoliciesRow

SHELF: Final = DocumentShelf(PoliciesRow, PoliciesDraft().content)


def apply_policies(
    database: Database,
    draft: PoliciesDraft,
    *,
    now: datetime,
    by: str | None = None,
    dry_run: bool = False,
) -> Applied:
    """Give what changes, having put the draft in place of all that was in force.

    ``by`` is the id of the API key that asks. What is in force already makes no new version. Holds
    that were granted stay.
    """
    return SHELF.apply(database, draft.content, _compare, now=now, by=by, dry_run=dry_run)


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


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[EntryChange, ...]:
    """Give what became of every class and policy, those that are gone last."""
    classes = compare_entries(before["classes"], after["classes"])
    policies = compare_entries(_by_id(before["policy"]), _by_id(after["policy"]))
    return tuple(
        EntryChange(kind, name, action)
        for kind, actions in (("class", classes), ("policy", policies))
        for name, action in actions.items()
    )


def _by_id(policies: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {policy["id"]: policy for policy in policies}

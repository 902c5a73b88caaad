"""Policies: applied whole, each time as a new version, and read into the rules in force.

It owns what an apply changes. It refuses to judge calls (``screening.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from tokenbudget.domain.owners import Owner
from tokenbudget.domain.policies import PolicyBook
from tokenbudget.formats.policies import PoliciesDraft, parse_policies
from tokenbudget.store.budgets import change_rules
from tokenbudget.store.db import Database
from tokenbudget.store.policies import add_policies, find_policies, list_policies
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


@dataclass(frozen=True, slots=True)
class PoliciesVersion:
    """One version as it was written; version 0 is that there is none yet."""

    version: int
    content: Mapping[str, Any]
    recorded_at: datetime | None = None
    recorded_by: str | None = None


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
    with database.transaction(is_kept=not dry_run) as session:
        present = _view(find_policies(session))
        if present.content == draft.content:
            return PoliciesApplied(present.version, is_changed=False, changes=())
        change_rules(session)
        # While this one waited for the rules, another may have written a version.
        present = _view(find_policies(session))
        version = present.version + 1
        add_policies(session, version, draft.content, by=by, now=now)
    return PoliciesApplied(version, is_changed=True, changes=_compare(present.content, draft))


def get_policies(database: Database) -> PoliciesVersion:
    """Give the version in force."""
    with database.reading() as session:
        return _view(find_policies(session))


def list_versions(database: Database, *, limit: int) -> list[PoliciesVersion]:
    """Give the latest versions, newest first."""
    with database.reading() as session:
        return [_view(row) for row in list_policies(session, limit=limit)]


def load_policies(session: Session, owners: Sequence[Owner]) -> PolicyBook:
    """Give the policies in force, with the history of owners that they ask about."""
    row = find_policies(session)
    draft = PoliciesDraft() if row is None else parse_policies(row.content, where="stored policies")
    return PolicyBook(draft.policies, owners)


def _view(row: PoliciesRow | None) -> PoliciesVersion:
    if row is None:
        return PoliciesVersion(0, PoliciesDraft().content)
    return PoliciesVersion(row.version, row.content, row.recorded_at, row.recorded_by)


def _compare(before: Mapping[str, Any], draft: PoliciesDraft) -> tuple[PolicyChange, ...]:
    """Give what became of every class and policy, those that are gone last."""
    after = draft.content
    classes = before["classes"], after["classes"]
    policies = _by_id(before["policy"]), _by_id(after["policy"])
    return (*_changes("class", *classes), *_changes("policy", *policies))


def _changes(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[PolicyChange]:
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    moved = {late for early, late in zip(kept_before, kept_after, strict=True) if early != late}
    actions: dict[str, str] = {}
    for name, content in after.items():
        if name not in before:
            actions[name] = "added"
        elif before[name] != content:
            actions[name] = "changed"
        elif name in moved:
            actions[name] = "moved"
    actions.update({name: "removed" for name in before if name not in after})
    return [PolicyChange(kind, name, action) for name, action in actions.items()]


def _by_id(policies: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {policy["id"]: policy for policy in policies}

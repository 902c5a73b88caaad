"""Versions of the policies in SQL. It refuses to read what they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from tokenbudget.store.policy_tables import PoliciesRow


def find_policies(session: Session) -> PoliciesRow | None:
    """Give the version in force, or None before the first."""
    return session.exec(select(PoliciesRow).order_by(col(PoliciesRow.version).desc())).first()


def list_policies(session: Session, *, limit: int) -> list[PoliciesRow]:
    """Give the latest versions, newest first."""
    newest = col(PoliciesRow.version).desc()
    return list(session.exec(select(PoliciesRow).order_by(newest).limit(limit)))


def add_policies(
    session: Session, version: int, content: Mapping[str, Any], *, by: str | None, now: datetime
) -> None:
    """Add a version."""
    row = PoliciesRow(version=version, content=dict(content), recorded_at=now, recorded_by=by)
    session.add(row)
    session.flush()

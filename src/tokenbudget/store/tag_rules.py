"""Versions of the tag rules in SQL. It refuses to read what they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from tokenbudget.store.tables import TagRulesRow


def find_tag_rules(session: Session) -> TagRulesRow | None:
    """Give the version in force, or None before the first."""
    return session.exec(select(TagRulesRow).order_by(col(TagRulesRow.version).desc())).first()


def list_tag_rules(session: Session, *, limit: int) -> list[TagRulesRow]:
    """Give the latest versions, newest first."""
    newest = col(TagRulesRow.version).desc()
    return list(session.exec(select(TagRulesRow).order_by(newest).limit(limit)))


def add_tag_rules(
    session: Session, version: int, content: Mapping[str, Any], *, by: str | None, now: datetime
) -> None:
    """Add a version."""
    session.add(
        TagRulesRow(version=version, content=dict(content), recorded_at=now, recorded_by=by)
    )
    session.flush()

"""Records set aside, in SQL: added once, listed, and marked when usage was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import insert_new_rows, table_of
from tokenbudget.store.tables import SetAsideRow


def add_set_aside(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add the records that were not set aside before and give how many those were."""
    return insert_new_rows(session, SetAsideRow, rows)


def list_set_aside(
    session: Session, *, is_waiting: bool, before: int | None, limit: int
) -> list[SetAsideRow]:
    """Give records with an id below ``before``, newest first: those waiting, or those recorded."""
    recorded_at = col(SetAsideRow.recorded_at)
    statement = select(SetAsideRow).where(
        recorded_at.is_(None) if is_waiting else recorded_at.is_not(None)
    )
    if before is not None:
        statement = statement.where(col(SetAsideRow.id) < before)
    return list(session.exec(statement.order_by(col(SetAsideRow.id).desc()).limit(limit)))


def find_set_aside(session: Session, set_aside_id: int) -> SetAsideRow | None:
    """Give the record with this id, or None."""
    return session.get(SetAsideRow, set_aside_id)


def note_recorded(session: Session, set_aside_id: int, *, now: datetime) -> None:
    """Mark a record of which usage has been made."""
    _update(session, set_aside_id, recorded_at=now)


def note_reason(session: Session, set_aside_id: int, *, reason: str, detail: str) -> None:
    """Replace why a record is no usage."""
    _update(session, set_aside_id, reason=reason, detail=detail)


def _update(session: Session, set_aside_id: int, **changes: object) -> None:
    table = table_of(SetAsideRow)
    session.connection().execute(
        sa.update(table).where(table.c.id == set_aside_id).values(**changes)
    )

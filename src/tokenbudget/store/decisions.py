"""Decisions that are kept, in SQL: added with the batch that made them, listed, let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import add_to_rows, insert_rows, table_of
from tokenbudget.store.tables import DecisionRow, OmittedDenialRow

DECISIONS: Final = table_of(DecisionRow)
OMITTED: Final = table_of(OmittedDenialRow)


@dataclass(frozen=True, slots=True)
class DecisionConditions:
    """Which decisions to list; ``before`` is when the last one listed was made, and its id."""

    outcome: str | None = None
    budget_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    before: tuple[datetime, str] | None = None


def add_decisions(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add decisions."""
    insert_rows(session, DecisionRow, rows)


def add_omitted_denials(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count denials that are not kept, in order of key."""
    names = [column.key for column in OMITTED.primary_key.columns]
    ordered = sorted(rows, key=lambda row: [row[name] for name in names])
    add_to_rows(session, OmittedDenialRow, ordered, added=("denials",))


def list_decisions(
    session: Session, conditions: DecisionConditions, *, limit: int
) -> list[DecisionRow]:
    """Give decisions that meet the conditions, newest first."""
    table, given = DECISIONS, _within(DECISIONS.c.decided_at, conditions)
    if conditions.outcome is not None:
        given.append(table.c.decision == conditions.outcome)
    if conditions.budget_id is not None:
        given.append(table.c.budget_id == conditions.budget_id)
    if conditions.before is not None:
        decided_at, decision_id = conditions.before
        is_same = (table.c.decided_at == decided_at) & (table.c.id < decision_id)
        given.append((table.c.decided_at < decided_at) | is_same)
    statement = (
        select(DecisionRow)
        .where(*given)
        .order_by(col(DecisionRow.decided_at).desc(), col(DecisionRow.id).desc())
        .limit(limit)
    )
    return list(session.exec(statement))


def count_omitted(session: Session, conditions: DecisionConditions) -> int:
    """Give how many denials that meet the conditions were not kept, by whole minutes."""
    if conditions.outcome not in (None, "deny"):
        return 0
    given = _within(OMITTED.c.minute, conditions)
    if conditions.budget_id is not None:
        given.append(OMITTED.c.budget_id == conditions.budget_id)
    statement = sa.select(sa.func.coalesce(sa.func.sum(OMITTED.c.denials), 0)).where(*given)
    return int(session.connection().execute(statement).scalar_one())


def forget_decisions(session: Session, *, before: datetime, limit: int) -> int:
    """Let go of the oldest decisions made before the instant, so many at most; give how many."""
    oldest = (
        sa.select(DECISIONS.c.id)
        .where(DECISIONS.c.decided_at < before)
        .order_by(DECISIONS.c.decided_at)
        .limit(limit)
    )
    statement = sa.delete(DECISIONS).where(DECISIONS.c.id.in_(oldest))
    return session.connection().execute(statement).rowcount


def forget_omitted(session: Session, *, before: datetime) -> None:
    """Let go of the counts of minutes before the instant."""
    session.connection().execute(sa.delete(OMITTED).where(OMITTED.c.minute < before))


def _within(column: sa.Column[Any], conditions: DecisionConditions) -> list[sa.ColumnElement[bool]]:
    given: list[sa.ColumnElement[bool]] = []
    if conditions.start is not None:
        given.append(column >= conditions.start)
    if conditions.end is not None:
        given.append(column < conditions.end)
    return given

"""What was proposed, approved and applied of re-attributions.

It refuses to touch charges (``standing_charges.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.rerating import PartState, RerateState
from tokenbudget.store.db import insert_rows, table_of
from tokenbudget.store.tables import (
    ReattributionDeltaRow,
    ReattributionPartRow,
    ReattributionRow,
)

Row: TypeAlias = Mapping[str, Any]


def add_reattribution(
    session: Session, row: Row, parts: Sequence[Row], deltas: Sequence[Row]
) -> int:
    """Add a proposal with its parts and differences, in the order given; give its id."""
    table = table_of(ReattributionRow)
    statement = sa.insert(table).returning(table.c.id)
    reattribution_id: int = session.connection().execute(statement, row).scalar_one()
    for model, number, rows in (
        (ReattributionPartRow, "part", parts),
        (ReattributionDeltaRow, "position", deltas),
    ):
        numbered = [
            {**each, "reattribution_id": reattribution_id, number: place}
            for place, each in enumerate(rows)
        ]
        insert_rows(session, model, numbered)
    return reattribution_id


def find_reattribution(session: Session, reattribution_id: int) -> ReattributionRow | None:
    """Give a re-attribution, or None."""
    return session.get(ReattributionRow, reattribution_id)


def find_proposal(session: Session, digest: str) -> ReattributionRow | None:
    """Give the proposal that saw just this and waits for approval, or None."""
    statement = select(ReattributionRow).where(
        ReattributionRow.digest == digest, ReattributionRow.state == RerateState.PROPOSED.value
    )
    return session.exec(statement.order_by(col(ReattributionRow.id))).first()


def list_reattributions(session: Session, *, limit: int) -> list[ReattributionRow]:
    """Give the latest re-attributions, newest first."""
    newest = col(ReattributionRow.id).desc()
    return list(session.exec(select(ReattributionRow).order_by(newest).limit(limit)))


def list_deltas(session: Session, reattribution_id: int) -> list[ReattributionDeltaRow]:
    """Give the differences of a re-attribution in their order."""
    statement = select(ReattributionDeltaRow).where(
        ReattributionDeltaRow.reattribution_id == reattribution_id
    )
    return list(session.exec(statement.order_by(col(ReattributionDeltaRow.position))))


def list_parts(
    session: Session, reattribution_id: int, *, state: PartState | None = None
) -> list[ReattributionPartRow]:
    """Give the parts of a re-attribution in order, only those in a state when it is named."""
    statement = select(ReattributionPartRow).where(
        ReattributionPartRow.reattribution_id == reattribution_id
    )
    if state is not None:
        statement = statement.where(ReattributionPartRow.state == state.value)
    return list(session.exec(statement.order_by(col(ReattributionPartRow.part))))


def is_waiting(session: Session, reattribution_id: int, part: int) -> bool:
    """Tell whether nobody has applied this part yet."""
    table = table_of(ReattributionPartRow)
    statement = sa.select(table.c.state).where(
        table.c.reattribution_id == reattribution_id, table.c.part == part
    )
    return session.connection().execute(statement).scalar() == PartState.WAITING.value


def set_part_state(session: Session, reattribution_id: int, part: int, state: PartState) -> None:
    """Note what became of a part."""
    table = table_of(ReattributionPartRow)
    statement = (
        sa.update(table)
        .where(table.c.reattribution_id == reattribution_id, table.c.part == part)
        .values(state=state.value)
    )
    session.connection().execute(statement)


def mark_approved(
    session: Session, reattribution_id: int, *, by: str | None, now: datetime
) -> None:
    """Note that a proposal is being applied; what was approved before stays as it is."""
    facts = {"approved_at": now, "approved_by": by}
    _move_on(session, reattribution_id, RerateState.PROPOSED, RerateState.APPROVED, facts)


def mark_applied(session: Session, reattribution_id: int, *, now: datetime) -> None:
    """Note that all of it has been applied; what was applied before stays as it is."""
    facts = {"applied_at": now}
    _move_on(session, reattribution_id, RerateState.APPROVED, RerateState.APPLIED, facts)


def _move_on(
    session: Session, reattribution_id: int, before: RerateState, after: RerateState, facts: Row
) -> None:
    table = table_of(ReattributionRow)
    statement = (
        sa.update(table)
        .where(table.c.id == reattribution_id, table.c.state == before.value)
        .values(state=after.value, **facts)
    )
    session.connection().execute(statement)

"""What was proposed, approved and applied of re-ratings, and how far each price list has come.

It refuses to touch charges (``rerate_charges.py``).
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
    PeriodCloseRow,
    PriceListRow,
    RerateDeltaRow,
    ReratePartRow,
    RerateRow,
)

Row: TypeAlias = Mapping[str, Any]


def add_rerate(session: Session, row: Row, parts: Sequence[Row], deltas: Sequence[Row]) -> int:
    """Add a proposal with its parts and differences, in the order given; give its id."""
    statement = sa.insert(table_of(RerateRow)).returning(table_of(RerateRow).c.id)
    rerate_id: int = session.connection().execute(statement, row).scalar_one()
    for model, number, rows in (
        (ReratePartRow, "part", parts),
        (RerateDeltaRow, "position", deltas),
    ):
        numbered = [
            {**each, "rerate_id": rerate_id, number: place} for place, each in enumerate(rows)
        ]
        insert_rows(session, model, numbered)
    return rerate_id


def get_price_list_version(session: Session, price_list_id: int) -> str:
    """Give the sha256 of a price list that is known to exist."""
    table = table_of(PriceListRow)
    statement = sa.select(table.c.sha256).where(table.c.id == price_list_id)
    return str(session.connection().execute(statement).scalar_one())


def find_rerate(session: Session, rerate_id: int) -> RerateRow | None:
    """Give a re-rating, or None."""
    return session.get(RerateRow, rerate_id)


def find_proposal(session: Session, digest: str) -> RerateRow | None:
    """Give the proposal that saw just this and waits for approval, or None."""
    statement = select(RerateRow).where(RerateRow.digest == digest, RerateRow.state == "proposed")
    return session.exec(statement.order_by(col(RerateRow.id))).first()


def list_rerates(session: Session, *, limit: int) -> list[RerateRow]:
    """Give the latest re-ratings, newest first."""
    return list(session.exec(select(RerateRow).order_by(col(RerateRow.id).desc()).limit(limit)))


def list_unfinished(session: Session, *, limit: int) -> list[RerateRow]:
    """Give automatic re-ratings that a crash left unfinished, oldest first."""
    statement = (
        select(RerateRow)
        .where(col(RerateRow.is_automatic).is_(True), RerateRow.state != "applied")
        .order_by(col(RerateRow.id))
        .limit(limit)
    )
    return list(session.exec(statement))


def list_deltas(session: Session, rerate_id: int) -> list[RerateDeltaRow]:
    """Give the differences of a re-rating in their order."""
    statement = select(RerateDeltaRow).where(RerateDeltaRow.rerate_id == rerate_id)
    return list(session.exec(statement.order_by(col(RerateDeltaRow.position))))


def list_parts(
    session: Session, rerate_id: int, *, state: PartState | None = None
) -> list[ReratePartRow]:
    """Give the parts of a re-rating in their order, only those in a state when it is named."""
    statement = select(ReratePartRow).where(ReratePartRow.rerate_id == rerate_id)
    if state is not None:
        statement = statement.where(ReratePartRow.state == state.value)
    return list(session.exec(statement.order_by(col(ReratePartRow.part))))


def is_waiting(session: Session, rerate_id: int, part: int) -> bool:
    """Tell whether nobody has applied this part yet."""
    table = table_of(ReratePartRow)
    statement = sa.select(table.c.state).where(table.c.rerate_id == rerate_id, table.c.part == part)
    return session.connection().execute(statement).scalar() == PartState.WAITING.value


def set_part_state(session: Session, rerate_id: int, part: int, state: PartState) -> None:
    """Note what became of a part."""
    table = table_of(ReratePartRow)
    statement = (
        sa.update(table)
        .where(table.c.rerate_id == rerate_id, table.c.part == part)
        .values(state=state.value)
    )
    session.connection().execute(statement)


def mark_approved(session: Session, rerate_id: int, *, now: datetime) -> None:
    """Note that a proposal is being applied; what was approved before stays as it is."""
    _move_on(session, rerate_id, RerateState.PROPOSED, RerateState.APPROVED, {"approved_at": now})


def mark_applied(session: Session, rerate_id: int, *, now: datetime) -> None:
    """Note that all of it has been applied; what was applied before stays as it is."""
    _move_on(session, rerate_id, RerateState.APPROVED, RerateState.APPLIED, {"applied_at": now})


def _move_on(
    session: Session, rerate_id: int, before: RerateState, after: RerateState, facts: Row
) -> None:
    table = table_of(RerateRow)
    statement = (
        sa.update(table)
        .where(table.c.id == rerate_id, table.c.state == before.value)
        .values(state=after.value, **facts)
    )
    session.connection().execute(statement)


def find_closed_before(session: Session) -> int | None:
    """Give the period (year * 100 + month) before which accounts are closed, None when none is."""
    statement = sa.select(sa.func.max(table_of(PeriodCloseRow).c.closed_before))
    return session.connection().execute(statement).scalar()


def unpriced_checked_to(session: Session, sha256: str) -> int:
    """Give up to which usage id this price list has rated what it can, 0 when it is new."""
    table = table_of(PriceListRow)
    statement = sa.select(table.c.unpriced_checked_to).where(table.c.sha256 == sha256)
    return session.connection().execute(statement).scalar() or 0


def mark_unpriced_checked(session: Session, price_list_id: int, usage_id: int) -> None:
    """Note that this price list has rated what it can up to the usage id."""
    table = table_of(PriceListRow)
    statement = (
        sa.update(table).where(table.c.id == price_list_id).values(unpriced_checked_to=usage_id)
    )
    session.connection().execute(statement)

"""Taking an import back: its rows out of force, and those it had superseded to whom they fall.

It owns these queries; it refuses to decide whether an import may be withdrawn. Of the imports in
force that came after a row and restate it, the first supersedes it: so a row that was superseded by
the withdrawn import falls to the next of them, and without one it stands in force again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from tokenbudget.domain.periods import Period
from tokenbudget.store.bills import Restated, within
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import BillImportRow, BillRestatementRow


@dataclass(frozen=True, slots=True)
class Place:
    """A part of what an import restates, and where that stands in the order of importing."""

    order: int
    import_id: str
    source: str
    restated: Restated


@dataclass(frozen=True, slots=True)
class Successor:
    """A later import that restates some of the same, and whose rows it leaves in force."""

    place: Place
    spared: Collection[str]


def list_places(session: Session, import_id: str) -> Sequence[Place]:
    """Give what an import restates, in the order of storing."""
    table = table_of(BillRestatementRow)
    statement = sa.select(table).where(table.c.import_id == import_id).order_by(table.c.id)
    return [_place_of(row) for row in session.connection().execute(statement)]


def iterate_successors(session: Session, place: Place) -> Iterator[Successor]:
    """Give the later imports in force that may restate rows of this place, in their order.

    They may be of another billing month: what was used has none.
    """
    table, bill = table_of(BillRestatementRow), table_of(BillImportRow)
    restated = place.restated
    conditions = [
        table.c.source == place.source,
        table.c.account == restated.account,
        table.c.id > place.order,
        table.c.import_id != place.import_id,
        bill.c.withdrawn_at.is_(None),
    ]
    if restated.period is not None:
        overlaps = sa.and_(
            table.c.period_start < restated.period.end, table.c.period_end > restated.period.start
        )
        conditions.append(sa.or_(table.c.period_start.is_(None), overlaps))
    statement = (
        sa.select(table, bill.c.part_of)
        .join_from(table, bill, table.c.import_id == bill.c.id)
        .where(*conditions)
        .order_by(table.c.id)
    )
    for row in session.connection().execute(statement):
        yield Successor(_place_of(row), frozenset(row.part_of or ()))


def note_withdrawal(
    session: Session, import_id: str, *, now: datetime, by: str | None, reason: str
) -> None:
    """Note when, by whom and why an import was withdrawn."""
    bill = table_of(BillImportRow)
    statement = (
        sa.update(bill)
        .where(bill.c.id == import_id)
        .values(withdrawn_at=now, withdrawn_by=by, withdrawal_reason=reason)
    )
    session.connection().execute(statement)


def take_out_of_force(session: Session, model: type[SQLModel], place: Place) -> int:
    """Mark the import's own rows with itself and give how many were in force."""
    table = table_of(model)
    own = [*_rows_of(table, place), table.c.import_id == place.import_id]
    statement = sa.update(table).values(superseded_by=place.import_id)
    connection = session.connection()
    in_force = connection.execute(statement.where(*own, table.c.superseded_by.is_(None))).rowcount
    connection.execute(statement.where(*own, table.c.superseded_by != place.import_id))
    return in_force


def count_superseded(session: Session, model: type[SQLModel], place: Place) -> int:
    """Give how many rows of other imports the import has superseded there."""
    table = table_of(model)
    statement = sa.select(sa.func.count()).select_from(table).where(*_superseded(table, place))
    return session.connection().execute(statement).scalar_one()


def pass_on(session: Session, model: type[SQLModel], place: Place, successor: Successor) -> int:
    """Mark what the import had superseded, and its successor restates, with that one.

    It gives how many rows there were.
    """
    table = table_of(model)
    statement = (
        sa.update(table)
        .where(
            *_superseded(table, place),
            *within(table, successor.place.restated),
            table.c.import_id.not_in(sorted(successor.spared)),
        )
        .values(superseded_by=successor.place.import_id)
    )
    return session.connection().execute(statement).rowcount


def bring_back(session: Session, model: type[SQLModel], place: Place) -> int:
    """Put in force again what the import still supersedes there and give how many rows it was."""
    table = table_of(model)
    statement = sa.update(table).where(*_superseded(table, place)).values(superseded_by=None)
    return session.connection().execute(statement).rowcount


def _rows_of(table: sa.Table, place: Place) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.source == place.source,
        table.c.account == place.restated.account,
        *within(table, place.restated),
    ]


def _superseded(table: sa.Table, place: Place) -> list[sa.ColumnElement[bool]]:
    return [
        *_rows_of(table, place),
        table.c.superseded_by == place.import_id,
        table.c.import_id != place.import_id,
    ]


def _place_of(row: sa.Row[tuple[object, ...]]) -> Place:
    period = None if row.period_start is None else Period(row.period_start, row.period_end)
    restated = Restated(row.account, row.billing_month, period)
    return Place(row.id, row.import_id, row.source, restated)

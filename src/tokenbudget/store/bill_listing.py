"""Reading bill imports and their lines a page at a time.

It owns those queries; it refuses to write (``bills.py``) and to compare (``reconciliation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import table_of
from tokenbudget.store.tables import BillImportRow, BillLineRow, ProviderUsageRow


def list_imports(
    session: Session, *, before: tuple[datetime, str] | None, limit: int
) -> Sequence[BillImportRow]:
    """Give imports, newest first, that come after the one with this time and id."""
    order = (col(BillImportRow.imported_at), col(BillImportRow.id))
    statement = select(BillImportRow)
    if before is not None:
        instant, import_id = before
        is_earlier = order[0] < instant
        is_behind = sa.and_(order[0] == instant, order[1] < import_id)
        statement = statement.where(sa.or_(is_earlier, is_behind))
    descending = [column.desc() for column in order]
    return session.exec(statement.order_by(*descending).limit(limit)).all()


def get_import(session: Session, import_id: str) -> BillImportRow | None:
    """Give one import, None when there is none of that id."""
    return session.get(BillImportRow, import_id)


def count_superseded(session: Session, import_ids: Sequence[str]) -> dict[str, int]:
    """Give how many rows of each import a later one has superseded; those with none are left out.

    It looks at every row of these imports.
    """
    counts: dict[str, int] = {}
    for model in (BillLineRow, ProviderUsageRow):
        table = table_of(model)
        statement = (
            sa.select(table.c.import_id, sa.func.count())
            .where(table.c.import_id.in_(import_ids), table.c.superseded_by.is_not(None))
            .group_by(table.c.import_id)
        )
        for import_id, count in session.connection().execute(statement):
            counts[import_id] = counts.get(import_id, 0) + count
    return counts


def list_lines(
    session: Session, import_id: str, *, after_id: int, limit: int
) -> Sequence[BillLineRow]:
    """Give the bill lines of an import in the order of storing, from after the one of this id."""
    statement = (
        select(BillLineRow)
        .where(col(BillLineRow.import_id) == import_id, col(BillLineRow.id) > after_id)
        .order_by(col(BillLineRow.id))
        .limit(limit)
    )
    return session.exec(statement).all()

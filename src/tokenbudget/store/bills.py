"""Bill imports, bill lines and what providers say was used.

It owns their writing; it refuses to decide which file counts, to compare (``reconciliation``) and
to take an import back (``bill_withdrawals``). A line is never edited or deleted, only marked with
the import that superseded it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, SQLModel, col, select

from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.store.columns import Columns, append_columns
from tokenbudget.store.db import insert_rows, is_sqlite, table_of
from tokenbudget.store.tables import (
    BillImportRow,
    BillLineRow,
    BillRestatementRow,
    ProviderUsageRow,
)


@dataclass(frozen=True, slots=True, order=True)
class Restated:
    """What an import puts in the place of earlier ones of its source.

    ``period`` is a UTC day, with all that lies in it, or exactly a longer period. Without it, it is
    all of the billing month. Without ``billing_month`` it is the period in every month.
    """

    account: str
    billing_month: int | None
    period: Period | None


def lock_imports(session: Session) -> None:
    """Let one import run at a time, so that two never both count the same day; reading goes on."""
    # A writing transaction of SQLite is alone already.
    if not is_sqlite(session):
        session.connection().exec_driver_sql("LOCK TABLE bill_imports IN SHARE ROW EXCLUSIVE MODE")


def find_import(session: Session, *, sha256: str) -> BillImportRow | None:
    """Give the import of a file with this digest that was not withdrawn, None without one."""
    statement = select(BillImportRow).where(
        BillImportRow.sha256 == sha256, col(BillImportRow.withdrawn_at).is_(None)
    )
    return session.exec(statement).first()


def count_withdrawn(session: Session, *, sha256: str) -> int:
    """Give how often a file with this digest was imported and withdrawn."""
    bill = table_of(BillImportRow)
    statement = (
        sa.select(sa.func.count())
        .select_from(bill)
        .where(bill.c.sha256 == sha256, bill.c.withdrawn_at.is_not(None))
    )
    return session.connection().execute(statement).scalar_one()


def append_import(session: Session, row: Mapping[str, object]) -> None:
    """Store one import."""
    insert_rows(session, BillImportRow, [row])


def append_restatements(
    session: Session, restated: Sequence[Restated], *, source: str, import_id: str
) -> None:
    """Keep what an import restates; imports are told apart by the order in which this is done."""
    rows = [
        {
            "import_id": import_id,
            "source": source,
            "account": each.account,
            "billing_month": each.billing_month,
            "period_start": None if each.period is None else each.period.start,
            "period_end": None if each.period is None else each.period.end,
        }
        for each in restated
    ]
    insert_rows(session, BillRestatementRow, rows)


def append_lines(session: Session, columns: Columns) -> None:
    """Store bill lines, by the column, in the order given."""
    append_columns(session, table_of(BillLineRow), columns)


def append_usage(session: Session, columns: Columns) -> None:
    """Store what providers say was used, by the column, in the order given."""
    append_columns(session, table_of(ProviderUsageRow), columns)


def tables_with(session: Session, *, source: str) -> list[type[SQLModel]]:
    """Give the tables that hold anything of a source: bill lines, provider usage, or both."""
    held: list[type[SQLModel]] = []
    for model in (BillLineRow, ProviderUsageRow):
        table = table_of(model)
        statement = sa.select(sa.literal(1)).where(table.c.source == source).limit(1)
        if session.connection().scalar(statement):
            held.append(model)
    return held


def supersede(
    session: Session,
    model: type[SQLModel],
    restated: Restated,
    *,
    source: str,
    import_id: str,
    spared: Collection[str],
) -> int:
    """Mark the rows in force that an import restates and give how many there were.

    Those are rows of that source and account from imports that are not ``spared``.
    """
    table = table_of(model)
    statement = (
        sa.update(table)
        .where(
            table.c.source == source,
            table.c.account == restated.account,
            table.c.superseded_by.is_(None),
            table.c.import_id.not_in(sorted(spared)),
            *within(table, restated),
        )
        .values(superseded_by=import_id)
    )
    return session.connection().execute(statement).rowcount


def within(table: sa.Table, restated: Restated) -> list[sa.ColumnElement[bool]]:
    """Give the conditions that tell the rows of an account that are restated."""
    conditions: list[sa.ColumnElement[bool]] = []
    # What was used has no invoice.
    if restated.billing_month is not None and table.name == BillLineRow.__tablename__:
        conditions.append(table.c.billing_month == restated.billing_month)
    period = restated.period
    if period is None:
        return conditions
    if _is_day(period.start, period.end):
        # The first two let the index find the day.
        return [
            *conditions,
            table.c.period_start >= period.start,
            table.c.period_start < period.end,
            table.c.period_end <= period.end,
        ]
    return [*conditions, table.c.period_start == period.start, table.c.period_end == period.end]


def _is_day(start: datetime, end: datetime) -> bool:
    return window_at(Window.DAY, start, "UTC") == Period(start, end)

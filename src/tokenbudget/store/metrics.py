"""Totals that metrics told, by series and window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from tokenbudget.store.db import is_sqlite, table_of
from tokenbudget.store.metric_tables import MetricTotalRow


def keep_totals(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep these totals; one that was told before is kept once, a later one of a bucket instead."""
    table = table_of(MetricTotalRow)
    insert = sqlite.insert if is_sqlite(session) else postgresql.insert
    statement = insert(table)
    later = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={"amount": statement.excluded.amount, "ended_at": statement.excluded.ended_at},
        where=statement.excluded.ended_at > table.c.ended_at,
    )
    for row in sorted(rows, key=lambda each: (each["series_ref"], each["bucket"])):
        session.connection().execute(later, row)


def list_totals(session: Session, *, start: datetime, end: datetime) -> list[MetricTotalRow]:
    """Give the totals whose bucket begins in the half-open range, by series and time."""
    statement = (
        select(MetricTotalRow)
        .where(col(MetricTotalRow.bucket) >= start, col(MetricTotalRow.bucket) < end)
        .order_by(
            col(MetricTotalRow.series_ref),
            col(MetricTotalRow.started_at),
            col(MetricTotalRow.bucket),
        )
    )
    return list(session.exec(statement))


def list_last_totals(
    session: Session, series_refs: Sequence[str], *, before: datetime
) -> list[MetricTotalRow]:
    """Give the last total of each cumulative series whose bucket begins before the instant."""
    table = table_of(MetricTotalRow)
    last = (
        sa.select(table.c.series_ref, table.c.started_at, sa.func.max(table.c.bucket).label("last"))
        .where(table.c.series_ref.in_(series_refs), table.c.bucket < before, table.c.is_cumulative)
        .group_by(table.c.series_ref, table.c.started_at)
        .subquery()
    )
    statement = select(MetricTotalRow).join(
        last,
        sa.and_(
            col(MetricTotalRow.series_ref) == last.c.series_ref,
            col(MetricTotalRow.started_at) == last.c.started_at,
            col(MetricTotalRow.bucket) == last.c.last,
        ),
    )
    return list(session.exec(statement))

"""Spans seen lately, by trace and in the order of their arrival."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.columns import Columns, append_columns
from tokenbudget.store.db import MANY_ROWS, insert_rows, is_sqlite, table_of
from tokenbudget.store.prepared import among
from tokenbudget.store.trace_tables import TraceSpanRow

TRACE_LOCKS: Final = 0x7B5
"""The first half of the keys of advisory locks on traces."""
LOCKED_TRACES: Final = 4_096

SpanRow: TypeAlias = sa.Row[*tuple[Any, ...]]
"""A remembered span, with the columns of TraceSpanRow."""


def lock_traces(session: Session, trace_refs: Collection[str]) -> None:
    """Let no other writer join spans of these traces until the transaction ends.

    Two requests may bring two spans of one trace to two workers, and neither would see the other's.
    SQLite has one writer at a time.
    """
    if is_sqlite(session):
        return
    keys = sorted({int(trace_ref[-8:], 16) % LOCKED_TRACES for trace_ref in trace_refs})
    key = sa.func.unnest(sa.cast(keys, sa.ARRAY(sa.Integer))).column_valued("key")
    session.connection().execute(sa.select(sa.func.pg_advisory_xact_lock(TRACE_LOCKS, key)))


def list_trace_spans(session: Session, trace_refs: Collection[str]) -> Sequence[SpanRow]:
    """Give the remembered spans of these traces, in the order of their arrival."""
    table, connection = table_of(TraceSpanRow), session.connection()
    statement = sa.select(table).where(among(table.c.trace_ref, "refs", connection.dialect.name))
    ordered = statement.order_by(table.c.id)
    return connection.execute(ordered, {"refs": sorted(trace_refs)}).all()


def add_trace_spans(session: Session, columns: Columns) -> None:
    """Remember spans in this order, at least one.

    Their traces are locked and none of them is remembered yet.
    """
    if len(columns["trace_ref"]) >= MANY_ROWS:
        append_columns(session, table_of(TraceSpanRow), columns)
    else:
        rows = zip(*columns.values(), strict=True)
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        insert_rows(session, TraceSpanRow, named)


def forget_trace_spans(session: Session, *, before: datetime) -> int:
    """Forget the spans that were seen before the instant and give how many there were."""
    table = table_of(TraceSpanRow)
    return session.connection().execute(sa.delete(table).where(table.c.seen_at < before)).rowcount

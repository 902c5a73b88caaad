"""Where usage that occurred at some time is found: the blocks of ids it was recorded in.

It owns the size of a block; it refuses to read usage. Every path that appends usage notes its
stretches in the same transaction, so that nothing recorded is ever missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.periods import QUARTER_HOUR, Period, from_micros, to_micros
from tokenbudget.domain.rollups import QUARTER_HOUR_SECONDS
from tokenbudget.store.db import insert_new_rows, table_of
from tokenbudget.store.event_tables import UsageStretchRow
from tokenbudget.store.tables import UsageRow

IDS_PER_BLOCK: Final = 4_096
QUARTER_HOUR_MICROS: Final = QUARTER_HOUR_SECONDS * 1_000_000

IdRange = tuple[int, int]
STRETCHES: Final = table_of(UsageStretchRow)


def note_stretches(session: Session, usages: Iterable[tuple[int, datetime]]) -> None:
    """Note in which blocks usage (id, when it occurred) lies; what is noted already stays."""
    noted = {
        (to_micros(occurred_at) // QUARTER_HOUR_MICROS, usage_id // IDS_PER_BLOCK)
        for usage_id, occurred_at in usages
    }
    rows = [
        {"starts_at": from_micros(quarter * QUARTER_HOUR_MICROS), "block": block}
        for quarter, block in sorted(noted)
    ]
    insert_new_rows(session, UsageStretchRow, rows)


def list_quarter_hours(session: Session, period: Period, *, limit: int) -> list[datetime]:
    """Give the latest quarter-hours that touch the period and hold usage, latest first."""
    table = table_of(UsageStretchRow)
    statement = (
        sa.select(table.c.starts_at)
        .where(table.c.starts_at > period.start - QUARTER_HOUR, table.c.starts_at < period.end)
        .distinct()
        .order_by(table.c.starts_at.desc())
        .limit(limit)
    )
    return list(session.connection().execute(statement).scalars())


def list_id_ranges(session: Session, quarter_hours: Sequence[datetime]) -> list[IdRange]:
    """Give the ranges of ids (from, before) that hold the usage of these quarter-hours, merged."""
    return _list_ranges(session, STRETCHES.c.starts_at.in_(quarter_hours))


def list_id_ranges_of(session: Session, period: Period) -> list[IdRange]:
    """Give the ranges of ids (from, before) that hold the usage of a period, merged, in order."""
    return _list_ranges(
        session,
        STRETCHES.c.starts_at > period.start - QUARTER_HOUR,
        STRETCHES.c.starts_at < period.end,
    )


def _list_ranges(session: Session, *conditions: sa.ColumnElement[bool]) -> list[IdRange]:
    statement = (
        sa.select(STRETCHES.c.block).where(*conditions).distinct().order_by(STRETCHES.c.block)
    )
    ranges: list[IdRange] = []
    for block in session.connection().execute(statement).scalars():
        first, behind = block * IDS_PER_BLOCK, (block + 1) * IDS_PER_BLOCK
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], behind)
        else:
            ranges.append((first, behind))
    return ranges


def list_unnoted(session: Session, *, limit: int) -> list[int]:
    """Give usage that is not found by when it occurred; there should be none. This scans usage."""
    usage, stretch = table_of(UsageRow), table_of(UsageStretchRow)
    occurred = sa.type_coerce(usage.c.occurred_at, sa.BigInteger)
    quarter = occurred // QUARTER_HOUR_MICROS * QUARTER_HOUR_MICROS
    is_noted = sa.exists().where(
        sa.type_coerce(stretch.c.starts_at, sa.BigInteger) == quarter,
        stretch.c.block == usage.c.id // IDS_PER_BLOCK,
    )
    statement = sa.select(usage.c.id).where(~is_noted).order_by(usage.c.id).limit(limit)
    return list(session.connection().execute(statement).scalars())

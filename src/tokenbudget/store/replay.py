"""Calls in bulk, a stretch of time at a time: what each cost and used, and where it counts.

It owns how they are found without looking at all of the ledger: rollups say when there was usage,
stretches say in which blocks of ids it was recorded. It refuses every write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.periods import Period
from tokenbudget.domain.replay import NO_USAGE
from tokenbudget.domain.rollups import QUARTER_HOUR_SECONDS
from tokenbudget.store.db import table_of
from tokenbudget.store.rerate_charges import stands
from tokenbudget.store.stretches import IdRange, list_id_ranges_of
from tokenbudget.store.tables import ChargeRow, CommitmentShareRow, RollupRow, UsageRow

RANGES_PER_STATEMENT: Final = 100
ROWS_PER_FETCH: Final = 20_000

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
ROLLUPS: Final = table_of(RollupRow)
SHARES: Final = table_of(CommitmentShareRow)


def list_used_quarter_hours(session: Session, period: Period) -> list[tuple[datetime, int]]:
    """Give the quarter-hours of a period that hold usage, in order, with their requests.

    The period begins and ends on quarter-hours.
    """
    requests = sa.cast(sa.func.sum(ROLLUPS.c.requests), sa.BigInteger)
    statement = (
        sa.select(ROLLUPS.c.starts_at, requests)
        .where(
            ROLLUPS.c.grain_seconds == QUARTER_HOUR_SECONDS,
            ROLLUPS.c.starts_at >= period.start,
            ROLLUPS.c.starts_at < period.end,
        )
        .group_by(ROLLUPS.c.starts_at)
        .order_by(ROLLUPS.c.starts_at)
    )
    return [(start, count) for start, count in session.connection().execute(statement)]


def list_calls(
    session: Session, period: Period, *, limit: int | None
) -> Iterator[Sequence[Sequence[Any]]]:
    """Give what stands for the usage that occurred in a period, in no order, list by list.

    At most ``limit`` rows are given. The columns are those of ``CALL_SCHEMA`` in frames/replay.
    """
    left = limit
    ranges = list_id_ranges_of(session, period)
    for start in range(0, len(ranges), RANGES_PER_STATEMENT):
        statement = _calls_in(ranges[start : start + RANGES_PER_STATEMENT], period)
        # As the driver gives them: an object a row would cost more than the query does.
        result = session.connection().execute(statement.limit(left))
        while rows := result.cursor.fetchmany(ROWS_PER_FETCH):
            left = None if left is None else left - len(rows)
            yield rows
        result.close()
        if left is not None and left <= 0:
            return


def list_fixed_costs(session: Session, period: Period) -> Sequence[Sequence[Any]]:
    """Give the shares of commitments that count in a period, as rows like those of calls."""
    statement = (
        sa.select(
            sa.literal(NO_USAGE),
            sa.type_coerce(SHARES.c.starts_at, sa.BigInteger),
            SHARES.c.dimension_set_id,
            sa.cast(sa.func.sum(SHARES.c.nanos), sa.BigInteger),
            sa.literal(0),
            sa.literal(0),
            sa.null(),
        )
        .where(SHARES.c.starts_at >= period.start, SHARES.c.starts_at < period.end)
        .group_by(SHARES.c.starts_at, SHARES.c.dimension_set_id)
    )
    return [tuple(row) for row in session.connection().execute(statement)]


def _calls_in(ranges: Sequence[IdRange], period: Period) -> sa.Select[Any]:
    in_ranges = sa.or_(*(sa.and_(USAGE.c.id >= low, USAGE.c.id < high) for low, high in ranges))
    return (
        sa.select(
            USAGE.c.id,
            sa.type_coerce(USAGE.c.occurred_at, sa.BigInteger),
            sa.func.coalesce(CHARGES.c.dimension_set_id, USAGE.c.dimension_set_id),
            CHARGES.c.effective_nanos,
            USAGE.c.input_tokens,
            USAGE.c.output_tokens,
            sa.cast(USAGE.c.other_units, sa.Text),
        )
        .join(CHARGES, CHARGES.c.usage_id == USAGE.c.id)
        .where(
            in_ranges,
            # Said of both tables, so that both are narrowed to the same blocks.
            CHARGES.c.usage_id >= ranges[0][0],
            CHARGES.c.usage_id < ranges[-1][1],
            USAGE.c.occurred_at >= period.start,
            USAGE.c.occurred_at < period.end,
            *stands(),
        )
    )

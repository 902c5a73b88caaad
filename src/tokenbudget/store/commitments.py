"""Shares of commitments in SQL: what was covered, and what has been posted of its fixed cost.

It owns the sums and the lock; it refuses to work out a share and to move rollups (``ledger.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.commitments import CoveredUsage
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import QUARTER_HOUR_SECONDS
from tokenbudget.store.db import add_to_rows, is_sqlite, table_of
from tokenbudget.store.tables import CommitmentShareRow, PriceRow, RollupRow

SHARES_LOCK: Final = 0x70B2


class ShareKey(NamedTuple):
    """Where a share stands: the start of a quarter-hour, who bears it, and what kind it is."""

    starts_at: datetime
    dimension_set_id: int
    kind: str


def lock_shares(session: Session) -> None:
    """Wait until nobody else shares, and keep others from it until this transaction ends."""
    if not is_sqlite(session):
        session.connection().execute(sa.select(sa.func.pg_advisory_xact_lock(SHARES_LOCK)))


def list_covered(session: Session, commitment_id: str, period: Period) -> list[CoveredUsage]:
    """Give what a commitment covered in the period, by quarter-hour and dimension set."""
    rollups, prices = table_of(RollupRow), table_of(PriceRow)
    tokens = rollups.c.input_tokens + rollups.c.output_tokens
    sums = (tokens, rollups.c.list_nanos, rollups.c.contracted_nanos)
    statement = (
        sa.select(
            rollups.c.starts_at,
            rollups.c.dimension_set_id,
            # The sum of BIGINT is NUMERIC on PostgreSQL: the cast keeps integers or refuses.
            *(sa.cast(sa.func.sum(column), sa.BigInteger) for column in sums),
        )
        .join(prices, prices.c.id == rollups.c.price_row_id)
        .where(
            rollups.c.grain_seconds == QUARTER_HOUR_SECONDS,
            rollups.c.starts_at >= period.start,
            rollups.c.starts_at < period.end,
            prices.c.commitment == commitment_id,
        )
        .group_by(rollups.c.starts_at, rollups.c.dimension_set_id)
        .having(sa.func.sum(rollups.c.requests) != 0)
        .order_by(rollups.c.starts_at, rollups.c.dimension_set_id)
    )
    return [CoveredUsage(*row) for row in session.connection().execute(statement)]


def list_shares(session: Session, commitment_id: str, period: Period) -> dict[ShareKey, int]:
    """Give what has been posted of a commitment in the period."""
    table = table_of(CommitmentShareRow)
    statement = sa.select(
        table.c.starts_at, table.c.dimension_set_id, table.c.kind, table.c.nanos
    ).where(
        table.c.commitment_id == commitment_id,
        table.c.starts_at >= period.start,
        table.c.starts_at < period.end,
    )
    rows = session.connection().execute(statement)
    return {ShareKey(*key): nanos for *key, nanos in rows}


def last_shared_at(session: Session, commitment_id: str) -> datetime | None:
    """Give the latest quarter-hour that has a share of a commitment, None when none has."""
    table = table_of(CommitmentShareRow)
    latest = sa.select(sa.func.max(table.c.starts_at)).where(table.c.commitment_id == commitment_id)
    return session.connection().execute(latest).scalar()


def add_shares(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add amounts to what has been posted, in key order."""
    ordered = sorted(rows, key=lambda row: (row["starts_at"], row["dimension_set_id"], row["kind"]))
    add_to_rows(session, CommitmentShareRow, ordered, added=("nanos",))

"""Calls and holds of which nobody knows how they ended, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.unsettled import OpenCall
from tokenbudget.store.db import insert_new_rows, table_of
from tokenbudget.store.prepared import Prepared, among
from tokenbudget.store.tables import DimensionSetRow, HoldRow, UnsettledRow

HOLD: Final = table_of(HoldRow)
UNSETTLED: Final = table_of(UnsettledRow)

HELD_INPUTS = Prepared(
    lambda dialect_name: sa.select(HOLD.c.id, HOLD.c.input_tokens).where(
        among(HOLD.c.id, "ids", dialect_name), HOLD.c.input_tokens.is_not(None)
    )
)
EVIDENCED = Prepared(
    lambda _: sa.delete(UNSETTLED).where(UNSETTLED.c.usage_id == sa.bindparam("evidenced_id"))
)
COUNTED = sa.select(
    sa.select(sa.func.count()).select_from(UNSETTLED).scalar_subquery(),
    sa.select(sa.func.coalesce(sa.func.sum(UNSETTLED.c.provisional_nanos), 0)).scalar_subquery(),
    # As a literal: SQLite takes the index of expired holds for no parameter.
    sa.select(sa.func.count())
    .select_from(HOLD)
    .where(HOLD.c.state == sa.literal_column("'expired'"))
    .scalar_subquery(),
)


def find_held_inputs(session: Session, hold_ids: Collection[str]) -> dict[str, int]:
    """Give the input tokens of one request that these holds were asked for, where they are known.

    Nothing is locked: a hold never changes in this.
    """
    if not hold_ids:
        return {}
    rows: Sequence[Sequence[Any]] = HELD_INPUTS.run(session, {"ids": sorted(hold_ids)}).all()
    return {row[0]: row[1] for row in rows}


def remove_unsettled(session: Session, usage_ids: Collection[int]) -> None:
    """Take from the list what is no longer charged provisionally; others are left alone."""
    if usage_ids:
        EVIDENCED.run_many(session, [{"evidenced_id": usage_id} for usage_id in sorted(usage_ids)])


def add_unsettled(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put calls on the list, in order of usage; what is there stays."""
    insert_new_rows(session, UnsettledRow, sorted(rows, key=itemgetter("usage_id")))


def list_unsettled_calls(
    session: Session, before: tuple[datetime, int] | None, *, limit: int
) -> list[OpenCall]:
    """Give calls on the list that come after (occurred at, usage id), newest first."""
    table, dimensions = UNSETTLED, table_of(DimensionSetRow)
    statement = (
        sa.select(
            table.c.occurred_at,
            table.c.usage_id,
            table.c.hold_id,
            dimensions.c.team,
            dimensions.c.feature,
            dimensions.c.provider,
            dimensions.c.model,
            sa.func.coalesce(HOLD.c.requests, 1),
            HOLD.c.estimate_nanos,
            table.c.provisional_nanos,
        )
        .join(dimensions, dimensions.c.id == table.c.dimension_set_id)
        .join(HOLD, HOLD.c.id == table.c.hold_id, isouter=True)
        .order_by(table.c.occurred_at.desc(), table.c.usage_id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(_is_after(table.c.occurred_at, table.c.usage_id, before))
    return [OpenCall._make(row) for row in session.connection().execute(statement)]


def list_expired_holds(
    session: Session, before: tuple[datetime, str] | None, *, limit: int
) -> list[OpenCall]:
    """Give expired holds that no usage has named, after (expired at, id), newest first."""
    statement = (
        sa.select(
            HOLD.c.expires_at,
            sa.null(),
            HOLD.c.id,
            HOLD.c.team,
            HOLD.c.feature,
            HOLD.c.provider,
            HOLD.c.model,
            HOLD.c.requests,
            HOLD.c.estimate_nanos,
            sa.null(),
        )
        # As a literal: SQLite takes the index of expired holds for no parameter.
        .where(HOLD.c.state == sa.literal_column("'expired'"))
        .order_by(HOLD.c.expires_at.desc(), HOLD.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(_is_after(HOLD.c.expires_at, HOLD.c.id, before))
    return [OpenCall._make(row) for row in session.connection().execute(statement)]


def count_unsettled(session: Session) -> tuple[int, int, int]:
    """Give how many calls are on the list, their provisional nanos, and how many expired holds."""
    calls, nanos, holds = session.connection().execute(COUNTED).one()
    return int(calls), int(nanos), int(holds)


def _is_after(
    instant: sa.Column[Any], key: sa.Column[Any], before: tuple[datetime, int | str]
) -> sa.ColumnElement[bool]:
    at, ref = before
    return (instant < at) | ((instant == at) & (key < ref))

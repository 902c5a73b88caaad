"""Holds, how they are taken by pieces and how they end, and answers to be repeated, in SQL.

A hold changes only while the caller's transaction has it locked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import ROWS_PER_STATEMENT, insert_rows, table_of
from tokenbudget.store.prepared import Prepared
from tokenbudget.store.tables import CheckAnswerRow, HoldPieceRow, HoldResolutionRow, HoldRow

EXPIRED_HOLDS_PER_BATCH: Final = 1_000

HOLD: Final = table_of(HoldRow)
PIECE: Final = table_of(HoldPieceRow)
# The state is spelt out, since an index of open holds only serves a query that says so.
EXPIRED_HOLDS = Prepared(
    lambda _: (
        sa.select(HOLD.c.id)
        .where(HOLD.c.state == sa.literal_column("'held'"))
        .where(HOLD.c.expires_at < sa.bindparam("before"))
        .order_by(HOLD.c.expires_at)
        .limit(EXPIRED_HOLDS_PER_BATCH)
        .with_for_update(skip_locked=True)
    )
)
# What is left of a hold that settles by pieces follows from these.
WRITTEN_REMAINDER = Prepared(
    lambda _: (
        sa.update(HOLD)
        .where(HOLD.c.id == sa.bindparam("hold_id"))
        .values(
            remaining_nanos=sa.bindparam("nanos"),
            remaining_tokens=sa.bindparam("tokens"),
            remaining_requests=sa.bindparam("requests_left"),
            pieces_settled=sa.bindparam("pieces"),
            settled_nanos=sa.bindparam("settled"),
        )
    )
)


def add_holds(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add holds."""
    insert_rows(session, HoldRow, rows)


def lock_holds(session: Session, hold_ids: Collection[str]) -> dict[str, HoldRow]:
    """Give these holds by id, locked in order of id; those that do not exist are missing."""
    if not hold_ids:
        return {}
    statement = (
        select(HoldRow).where(col(HoldRow.id).in_(sorted(hold_ids))).order_by(col(HoldRow.id))
    )
    return {hold.id: hold for hold in session.exec(statement.with_for_update())}


def find_hold(session: Session, hold_id: str) -> HoldRow | None:
    """Give a hold, or None."""
    return session.get(HoldRow, hold_id)


def extend_holds(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let locked holds expire later."""
    if not rows:
        return
    table = table_of(HoldRow)
    statement = (
        sa.update(table)
        .where(table.c.id == sa.bindparam("extended_id"))
        .values(expires_at=sa.bindparam("new_expires_at"))
    )
    session.connection().execute(statement, rows)


def lock_expired_holds(session: Session, before: datetime) -> list[HoldRow]:
    """Give open holds that ran out before the instant, locked.

    Those another worker is resolving are passed over.
    """
    ids = [hold_id for (hold_id,) in EXPIRED_HOLDS.run(session, {"before": before})]
    return list(lock_holds(session, ids).values())


def resolve_holds(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add resolutions and let the state of each hold follow."""
    if not rows:
        return
    insert_rows(session, HoldResolutionRow, rows)
    table = table_of(HoldRow)
    statement = (
        sa.update(table)
        .where(table.c.id == sa.bindparam("resolved_id"))
        .values(state=sa.bindparam("new_state"))
    )
    states = [{"resolved_id": row["hold_id"], "new_state": row["kind"]} for row in rows]
    session.connection().execute(statement, states)


def find_answers(
    session: Session, keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], CheckAnswerRow]:
    """Give the answers already given under these (API key id, idempotency key) pairs."""
    if not keys:
        return {}
    wanted = sa.tuple_(col(CheckAnswerRow.key_id), col(CheckAnswerRow.idempotency_key))
    statement = select(CheckAnswerRow).where(wanted.in_(sorted(keys)))
    return {(row.key_id, row.idempotency_key): row for row in session.exec(statement)}


def add_answers(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add answers given under an idempotency key."""
    insert_rows(session, CheckAnswerRow, rows)


def add_pieces(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add what calls took out of locked holds."""
    insert_rows(session, HoldPieceRow, rows)


def write_remainders(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let what is left of locked holds follow from their pieces."""
    if rows:
        WRITTEN_REMAINDER.run_many(session, rows)


def find_pieces(session: Session, calls: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Give those of the (hold id, call id) that have taken their piece already."""
    ordered = sorted(calls)
    found: set[tuple[str, int]] = set()
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        asked = sa.tuple_(PIECE.c.hold_id, PIECE.c.call_id).in_(
            ordered[start : start + ROWS_PER_STATEMENT]
        )
        statement = sa.select(PIECE.c.hold_id, PIECE.c.call_id).where(asked)
        found |= {(row[0], row[1]) for row in session.connection().execute(statement)}
    return found


def find_resolutions(session: Session, hold_id: str) -> list[HoldResolutionRow]:
    """Give how a hold ended, at first and then."""
    statement = select(HoldResolutionRow).where(HoldResolutionRow.hold_id == hold_id)
    return list(session.exec(statement.order_by(col(HoldResolutionRow.resolved_at))))

"""Alerts, the outbox that carries them out of the process, and the lease that says who delivers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import insert_new_rows, insert_rows, table_of
from tokenbudget.store.tables import AlertRow, LeaseRow, OutboxRow


def add_alerts(session: Session, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Add crossings that do not fire already and give the ids of those that are new."""
    new_ids = []
    for row in rows:
        if insert_new_rows(session, AlertRow, [row]) == 1:
            new_ids.append(str(row["id"]))
    return new_ids


def list_alerts(session: Session, *, limit: int) -> list[AlertRow]:
    """Give the latest alerts, newest first."""
    statement = (
        select(AlertRow)
        .order_by(col(AlertRow.raised_at).desc(), col(AlertRow.id).desc())
        .limit(limit)
    )
    return list(session.exec(statement))


def list_firing(session: Session, budget_ids: Collection[str], at: datetime) -> list[AlertRow]:
    """Give what fires of these budgets in windows that hold the instant, oldest first."""
    statement = (
        select(AlertRow)
        .where(col(AlertRow.resolved_at).is_(None))
        .where(col(AlertRow.window_start) <= at, col(AlertRow.window_end) > at)
        .where(col(AlertRow.budget_id).in_(sorted(budget_ids)))
        .order_by(col(AlertRow.id))
    )
    return list(session.exec(statement))


def resolve_alerts(session: Session, alert_ids: Collection[str], *, now: datetime) -> None:
    """Say that these alerts fire no longer."""
    table = table_of(AlertRow)
    statement = sa.update(table).where(table.c.id.in_(sorted(alert_ids))).values(resolved_at=now)
    if alert_ids:
        session.connection().execute(statement)


def add_messages(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add messages to be delivered."""
    insert_rows(session, OutboxRow, rows)


def list_due(session: Session, *, now: datetime, limit: int) -> list[OutboxRow]:
    """Give waiting messages whose time has come, oldest first."""
    statement = (
        select(OutboxRow)
        # As a literal: SQLite takes the index of waiting messages for no parameter.
        .where(col(OutboxRow.state) == sa.literal_column("'waiting'"), col(OutboxRow.due_at) <= now)
        .order_by(col(OutboxRow.due_at), col(OutboxRow.id))
        .limit(limit)
    )
    return list(session.exec(statement))


def note_delivered(session: Session, message_id: str, *, now: datetime) -> None:
    """Mark a message as delivered."""
    _update(session, message_id, state="delivered", resolved_at=now)


def note_unrouted(session: Session, message_id: str, *, now: datetime) -> None:
    """Mark a message that nobody asked to receive."""
    _update(session, message_id, state="unrouted", resolved_at=now)


def note_failed(session: Session, message_id: str, *, error: str, due_at: datetime) -> None:
    """Count a failed attempt and say when to try again."""
    attempts = table_of(OutboxRow).c.attempts + 1
    _update(session, message_id, attempts=attempts, last_error=error, due_at=due_at)


def note_dead(session: Session, message_id: str, *, error: str, now: datetime) -> None:
    """Give a message up; it stays in the table as dead."""
    attempts = table_of(OutboxRow).c.attempts + 1
    _update(session, message_id, state="dead", attempts=attempts, last_error=error, resolved_at=now)


def _update(session: Session, message_id: str, **values: object) -> None:
    table = table_of(OutboxRow)
    statement = sa.update(table).where(table.c.id == message_id).values(**values)
    session.connection().execute(statement)


def take_lease(
    session: Session, name: str, holder: str, *, now: datetime, lease_seconds: int
) -> bool:
    """Take or renew the lease and tell whether the holder has it.

    Another's lease is taken only when it ran out.
    """
    expires_at = now + timedelta(seconds=lease_seconds)
    row = {"name": name, "holder": holder, "expires_at": expires_at}
    if insert_new_rows(session, LeaseRow, [row]) == 1:
        return True
    table = table_of(LeaseRow)
    statement = (
        sa.update(table)
        .where(table.c.name == name)
        .where(sa.or_(table.c.holder == holder, table.c.expires_at <= now))
        .values(holder=holder, expires_at=expires_at)
    )
    return session.connection().execute(statement).rowcount == 1


def give_up_lease(session: Session, name: str, holder: str) -> None:
    """End the holder's lease, so that another worker may take over at once."""
    table = table_of(LeaseRow)
    statement = sa.delete(table).where(table.c.name == name, table.c.holder == holder)
    session.connection().execute(statement)

"""The dated registry of owners in SQL.

It owns reading and writing stretches of history; it refuses to decide them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.owners import Lifecycle, Owner, OwnerFacts, OwnerKey, OwnerKind
from tokenbudget.store.db import insert_rows, table_of
from tokenbudget.store.tables import OwnerRow


def list_owner_history(session: Session) -> list[Owner]:
    """Give every stretch of every owner's history, by kind, name and time."""
    statement = select(OwnerRow).order_by(OwnerRow.kind, OwnerRow.name, col(OwnerRow.valid_from))
    return [_owner_of(row) for row in session.exec(statement)]


def list_owners_at(
    session: Session, instant: datetime, *, after: OwnerKey | None, limit: int
) -> list[Owner]:
    """Give the owners in force at the instant, by kind and name, beginning behind ``after``."""
    statement = (
        select(OwnerRow)
        .where(
            col(OwnerRow.valid_from) <= instant,
            sa.or_(col(OwnerRow.valid_to).is_(None), col(OwnerRow.valid_to) > instant),
        )
        .order_by(OwnerRow.kind, OwnerRow.name)
        .limit(limit)
    )
    if after is not None:
        kind, name = after
        key = sa.tuple_(col(OwnerRow.kind), col(OwnerRow.name))
        statement = statement.where(key > sa.tuple_(sa.literal(kind.value), sa.literal(name)))
    return [_owner_of(row) for row in session.exec(statement)]


def write_owners(
    session: Session, owners: Sequence[Owner], *, stored: Collection[Owner], now: datetime
) -> None:
    """Write stretches: over the one in ``stored`` that begins at the same instant, else anew."""
    known = {(owner.key, owner.valid_from) for owner in stored}
    added = [owner for owner in owners if (owner.key, owner.valid_from) not in known]
    insert_rows(session, OwnerRow, [_values_of(owner, now) for owner in added])
    table = table_of(OwnerRow)
    for owner in owners:
        if (owner.key, owner.valid_from) in known:
            statement = sa.update(table).where(
                table.c.kind == owner.kind.value,
                table.c.name == owner.name,
                table.c.valid_from == owner.valid_from,
            )
            session.connection().execute(statement.values(_values_of(owner, now)))


def _owner_of(row: OwnerRow) -> Owner:
    facts = OwnerFacts(row.parent, row.cost_center, row.email, Lifecycle(row.lifecycle))
    return Owner(OwnerKind(row.kind), row.name, facts, row.valid_from, row.valid_to)


def _values_of(owner: Owner, now: datetime) -> dict[str, Any]:
    return {
        "kind": owner.kind.value,
        "name": owner.name,
        "parent": owner.facts.parent,
        "cost_center": owner.facts.cost_center,
        "email": owner.facts.email,
        "lifecycle": owner.facts.lifecycle.value,
        "valid_from": owner.valid_from,
        "valid_to": owner.valid_to,
        "recorded_at": now,
    }

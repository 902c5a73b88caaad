"""Calls and who tells of them: usage with the same first usage, and what was charged for it.

A call is known by the usage that told of it first. It owns the reading and locking of calls, and
which call a usage belongs to. It refuses to say which of the witnesses counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.allocation import DIMENSIONS, DimensionSet
from tokenbudget.domain.usage import COMMON_UNITS
from tokenbudget.store.db import ROWS_PER_STATEMENT, is_sqlite, table_of
from tokenbudget.store.tables import ChargeRow, DimensionSetRow, EventKeyRow, UsageRow

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
MEMBER_COLUMNS: Final = (
    "id",
    "call_id",
    "source_id",
    "event_ref",
    "revision",
    "occurred_at",
    "dimension_set_id",
    "other_units",
    "witness",
    "response_ref",
    "cache_hit",
    "hold_id",
    "flags",
    "operation_ref",
    *COMMON_UNITS,
)
IDS_OF_A_DAY: Final = 1 << 40
"""Witnesses have higher ids than the first one, but for those of other workers at that moment.

PostgreSQL keeps usage in a partition a day, by id: whatever lies a day before need not be read.
"""
DEADLOCK_DETECTED: Final = "40P01"

Stored: TypeAlias = sa.Row[*tuple[Any, ...]]


def find_calls(session: Session, usage_ids: Collection[int]) -> dict[int, int]:
    """Give the first usage of the call that each of these usages tells of."""
    call_id = sa.func.coalesce(USAGE.c.call_id, USAGE.c.id)
    found: dict[int, int] = {}
    for chunk in _chunks(usage_ids):
        statement = sa.select(USAGE.c.id, call_id).where(USAGE.c.id.in_(chunk))
        found.update((row[0], row[1]) for row in session.connection().execute(statement))
    return found


def lock_calls(session: Session, call_ids: Collection[int]) -> bool:
    """Lock these calls in order until the transaction ends and tell whether they are calls still.

    They are not when another transaction has just found two of them to be one. On SQLite the
    transaction's write lock has done so already.
    """
    if is_sqlite(session):
        return True
    are_calls = True
    for chunk in _chunks(call_ids):
        statement = (
            sa.select(USAGE.c.call_id)
            .where(USAGE.c.id.in_(chunk))
            .order_by(USAGE.c.id)
            .with_for_update(key_share=True)
        )
        joined = session.connection().execute(statement).scalars()
        are_calls = all(call_id is None for call_id in joined.all()) and are_calls
    return are_calls


def list_members(session: Session, call_ids: Collection[int]) -> list[Stored]:
    """Give the usage of these calls (MEMBER_COLUMNS) by id; revisions are usage of their own."""
    columns = [USAGE.c[name] for name in MEMBER_COLUMNS]
    found: list[Stored] = []
    for chunk in _chunks(call_ids):
        first = sa.select(*columns).where(USAGE.c.id.in_(chunk))
        others = sa.select(*columns).where(
            USAGE.c.call_id.in_(chunk), USAGE.c.id > chunk[0] - IDS_OF_A_DAY
        )
        found.extend(session.connection().execute(first))
        found.extend(session.connection().execute(others))
    return sorted(found, key=lambda row: row.id)


def list_charges(session: Session, usage_ids: Collection[int]) -> list[Stored]:
    """Give every charge of these usages by usage id and sequence."""
    found: list[Stored] = []
    for chunk in _chunks(usage_ids):
        statement = (
            sa.select(CHARGES)
            .where(CHARGES.c.usage_id.in_(chunk))
            .order_by(CHARGES.c.usage_id, CHARGES.c.sequence)
        )
        found.extend(session.connection().execute(statement))
    return found


def join_calls(session: Session, call_id: int, others: Sequence[int]) -> None:
    """Let what told of other calls tell of this one; all of them are locked."""
    statement = (
        sa.update(USAGE)
        .where(sa.or_(USAGE.c.id.in_(others), USAGE.c.call_id.in_(others)))
        .values(call_id=call_id)
    )
    session.connection().execute(statement)


def release_keys(session: Session, keys: Collection[bytes]) -> None:
    """Free keys that this transaction claimed for usage it does not keep."""
    table = table_of(EventKeyRow)
    session.connection().execute(sa.delete(table).where(table.c.key.in_(sorted(keys))))


def find_resolved_dimension_sets(session: Session, ids: Collection[int]) -> dict[int, DimensionSet]:
    """Give these dimension sets by id, with the steps that resolved them."""
    table = table_of(DimensionSetRow)
    names = (*DIMENSIONS, "is_retry", "api_key", "tags", "resolved_by")
    columns = [table.c[name] for name in names]
    found: dict[int, DimensionSet] = {}
    for chunk in _chunks(ids):
        statement = sa.select(table.c.id, *columns).where(table.c.id.in_(chunk))
        for set_id, *values in session.connection().execute(statement):
            found[set_id] = DimensionSet(**dict(zip(names, values, strict=True)))
    return found


def is_deadlock(error: Exception) -> bool:
    """Tell whether the database gave this transaction up to let another one pass."""
    origin = getattr(error.__cause__, "orig", None)
    return getattr(origin, "sqlstate", None) == DEADLOCK_DETECTED


def _chunks(ids: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        yield ordered[start : start + ROWS_PER_STATEMENT]

"""Charges that stand, in bulk, with where they count; and the pairs that move them elsewhere.

It owns whatever a re-attribution reads and writes by the million, as plain rows. It refuses to
resolve tags.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.allocation import DIMENSIONS, DimensionSet
from tokenbudget.domain.reattribution import UsePeriod
from tokenbudget.domain.usage import COMMON_UNITS
from tokenbudget.store.db import ROWS_PER_STATEMENT, is_sqlite, table_of
from tokenbudget.store.rerate_charges import stands
from tokenbudget.store.tables import ChargeRow, CounterTransferRow, DimensionSetRow, UsageRow

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
DIMENSION_SETS: Final = table_of(DimensionSetRow)
TRANSFERS: Final = table_of(CounterTransferRow)
COUNTS_UNDER: Final = sa.func.coalesce(CHARGES.c.dimension_set_id, USAGE.c.dimension_set_id)
MOVED_COLUMNS: Final = (
    "usage_id",
    "sequence",
    "basis",
    "price_row_id",
    "price_list_id",
    "list_nanos",
    "contracted_nanos",
    "effective_nanos",
    "accounting_period",
    "reverses_usage_id",
    "dimension_set_id",
    "reattribution_id",
    "flags",
)


@dataclass(frozen=True, slots=True)
class StandingTransfer:
    """What of a usage still counts in ``to_counter_id`` instead of ``from_counter_id``."""

    usage_id: int
    from_counter_id: int | None
    to_counter_id: int
    quantity: int


def list_seen(
    session: Session, period: UsePeriod, *, under: Collection[int] | None, after: int, limit: int
) -> Sequence[Sequence[Any]]:
    """Give what tells the standing charges of usage in a period, by usage id, at most ``limit``.

    Only usage with an id above ``after`` is looked at. ``under`` names the dimension sets it may
    count under, None for all. The columns are those of ``SEEN_SCHEMA`` in frames/reattribution.
    """
    statement = _standing(_seen_columns(), period, under).where(CHARGES.c.usage_id > after)
    return _fetch(session, statement.limit(limit))


def list_standing(
    session: Session, period: UsePeriod, *, under: Collection[int] | None, first: int, last: int
) -> Sequence[Sequence[Any]]:
    """Give the standing charges of usage in a period whose id is from ``first`` to ``last``.

    Both ends are included. The columns are those of ``STANDING_SCHEMA`` in frames/reattribution.
    """
    statement = _standing([*_seen_columns(), *_other_columns()], period, under)
    bounds = (CHARGES.c.usage_id >= first, CHARGES.c.usage_id <= last)
    return _fetch(session, statement.where(*bounds))


def _standing(
    columns: Sequence[sa.ColumnElement[Any]], period: UsePeriod, under: Collection[int] | None
) -> sa.Select[Any]:
    conditions = stands()
    if period.start is not None:
        conditions.append(USAGE.c.occurred_at >= period.start)
    if period.end is not None:
        conditions.append(USAGE.c.occurred_at < period.end)
    if under is not None:
        conditions.append(COUNTS_UNDER.in_(sorted(under)))
    joined = sa.select(*columns).join(USAGE, USAGE.c.id == CHARGES.c.usage_id)
    return joined.where(*conditions).order_by(CHARGES.c.usage_id)


def _fetch(session: Session, statement: sa.Select[Any]) -> Sequence[Sequence[Any]]:
    """Give the rows as the driver does: an object a row would cost more than the query."""
    result = session.connection().execute(statement)
    rows: Sequence[Sequence[Any]] = result.cursor.fetchall()
    result.close()
    return rows


def _seen_columns() -> list[sa.ColumnElement[Any]]:
    return [
        CHARGES.c.usage_id,
        sa.type_coerce(USAGE.c.occurred_at, sa.BigInteger),
        COUNTS_UNDER,
        CHARGES.c.sequence,
        CHARGES.c.list_nanos,
        CHARGES.c.contracted_nanos,
        CHARGES.c.effective_nanos,
        CHARGES.c.accounting_period,
    ]


def _other_columns() -> list[sa.ColumnElement[Any]]:
    return [
        CHARGES.c.basis,
        CHARGES.c.price_row_id,
        CHARGES.c.price_list_id,
        CHARGES.c.flags,
        *(USAGE.c[unit] for unit in COMMON_UNITS),
        sa.cast(USAGE.c.other_units, sa.Text),
    ]


def append_moved_charges(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add charges in the order given; each row holds the columns of MOVED_COLUMNS."""
    if not rows:
        return
    mark = "?" if is_sqlite(session) else "%s"
    marks = ", ".join(mark for _ in MOVED_COLUMNS)
    text = f"INSERT INTO {CHARGES.name} ({', '.join(MOVED_COLUMNS)}) VALUES ({marks})"
    session.connection().exec_driver_sql(text, list(rows))


def list_dimension_set_ids(session: Session) -> list[int]:
    """Give the id of every dimension set."""
    return list(session.connection().execute(sa.select(DIMENSION_SETS.c.id)).scalars())


def find_resolved_sets(session: Session, ids: Collection[int]) -> dict[int, DimensionSet]:
    """Give these dimension sets by id, with the steps that resolved them."""
    names = (*DIMENSIONS, "is_retry", "api_key", "tags", "resolved_by")
    columns = [DIMENSION_SETS.c[name] for name in names]
    ordered = sorted(ids)
    found: dict[int, DimensionSet] = {}
    for first in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[first : first + ROWS_PER_STATEMENT]
        statement = sa.select(DIMENSION_SETS.c.id, *columns).where(DIMENSION_SETS.c.id.in_(chunk))
        for set_id, *values in session.connection().execute(statement):
            found[set_id] = DimensionSet(**dict(zip(names, values, strict=True)))
    return found


def list_standing_transfers(session: Session, *, first: int, last: int) -> list[StandingTransfer]:
    """Give what of the usage in this range of ids counts in another counter than its own."""
    quantity = sa.cast(sa.func.sum(TRANSFERS.c.quantity), sa.BigInteger)
    keys = (TRANSFERS.c.usage_id, TRANSFERS.c.from_counter_id, TRANSFERS.c.to_counter_id)
    statement = (
        sa.select(*keys, quantity)
        .where(TRANSFERS.c.usage_id >= first, TRANSFERS.c.usage_id <= last)
        .group_by(*keys)
        .having(quantity > 0)
        .order_by(TRANSFERS.c.usage_id, TRANSFERS.c.to_counter_id)
    )
    return [StandingTransfer(*row) for row in session.connection().execute(statement)]

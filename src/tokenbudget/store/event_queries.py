"""Reading single usages with their charges. It owns how they are found; it refuses every write.

Usage is found by when it occurred (rollups and stretches say in which quarter-hours and blocks of
ids to look), by a key, by its call or by its operation. Nothing here reads more than it was bounded
to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlmodel import Session, SQLModel, col, select

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.event_queries import PriceRef
from tokenbudget.domain.periods import Period
from tokenbudget.domain.usage import Basis
from tokenbudget.store.coding import ReferenceBucket, bucket_of
from tokenbudget.store.db import ROWS_PER_STATEMENT, is_sqlite, table_of
from tokenbudget.store.stretches import IdRange
from tokenbudget.store.tables import (
    ChargeRow,
    DimensionSetRow,
    HoldPieceRow,
    HoldResolutionRow,
    PriceListRow,
    PriceRow,
    RollupRow,
    SourceRow,
    UsageRow,
)

RANGES_PER_STATEMENT: Final = 100
SETS_PER_STATEMENT: Final = 5_000

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
ROLLUPS: Final = table_of(RollupRow)

RowT = TypeVar("RowT", bound=SQLModel)
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class UsageConditions:
    """What the database can tell of usage: bounds of what is looked at, not the whole question.

    ``before`` is (occurred at, id) of the last usage looked at. With ``is_charged`` the usage has a
    charge, under one of ``dimension_set_ids`` if they are given and of ``basis`` if it is.
    """

    period: Period
    before: tuple[datetime, int] | None = None
    source_id: int | None = None
    trace_ref: str | None = None
    flag: str | None = None
    is_charged: bool = True
    dimension_set_ids: Collection[int] | None = None
    basis: Basis | None = None


def list_usage_in(
    session: Session, ranges: Sequence[IdRange], conditions: UsageConditions, *, limit: int
) -> list[UsageRow]:
    """Give the newest usage in these ranges of ids that meets the conditions, newest first."""
    found: list[UsageRow] = []
    for chunk in _chunks(ranges, RANGES_PER_STATEMENT):
        in_ranges = sa.or_(*(sa.and_(USAGE.c.id >= low, USAGE.c.id < high) for low, high in chunk))
        statement = (
            select(UsageRow)
            .where(in_ranges, *_usage_conditions(conditions))
            .order_by(col(UsageRow.occurred_at).desc(), col(UsageRow.id).desc())
            .limit(limit)
        )
        found += session.exec(statement).all()
    found.sort(key=lambda row: (row.occurred_at, row.id or 0), reverse=True)
    return found[:limit]


def _usage_conditions(conditions: UsageConditions) -> list[sa.ColumnElement[bool]]:
    given = [
        USAGE.c.occurred_at >= conditions.period.start,
        USAGE.c.occurred_at < conditions.period.end,
    ]
    if conditions.before is not None:
        occurred_at, usage_id = conditions.before
        is_older = USAGE.c.occurred_at < occurred_at
        is_same = (USAGE.c.occurred_at == occurred_at) & (USAGE.c.id < usage_id)
        given.append(is_older | is_same)
    if conditions.source_id is not None:
        given.append(USAGE.c.source_id == conditions.source_id)
    if conditions.trace_ref is not None:
        given.append(USAGE.c.trace_ref == conditions.trace_ref)
    if conditions.flag is not None:
        flagged = sa.exists().where(
            CHARGES.c.usage_id == USAGE.c.id,
            CHARGES.c.flags.contains(conditions.flag, autoescape=True),
        )
        given.append(USAGE.c.flags.contains(conditions.flag, autoescape=True) | flagged)
    if conditions.is_charged:
        given.append(sa.exists().where(*_charge_conditions(conditions)))
    return given


def _charge_conditions(conditions: UsageConditions) -> list[sa.ColumnElement[bool]]:
    given = [CHARGES.c.usage_id == USAGE.c.id, CHARGES.c.reverses_usage_id.is_(None)]
    if conditions.basis is not None:
        given.append(CHARGES.c.basis == conditions.basis.value)
    set_ids = conditions.dimension_set_ids
    if set_ids is not None and len(set_ids) <= SETS_PER_STATEMENT:
        counted_under = sa.func.coalesce(CHARGES.c.dimension_set_id, USAGE.c.dimension_set_id)
        given.append(counted_under.in_(sorted(set_ids)))
    return given


def list_rolled_up(
    session: Session, period: Period, *, grain_seconds: int, is_unpriced: bool
) -> list[tuple[datetime, int]]:
    """Give (start, dimension set) of the rollups that touch the period, latest first.

    With ``is_unpriced`` only those that hold usage without a price.
    """
    table = ROLLUPS
    grain = timedelta(seconds=grain_seconds)
    statement = (
        sa.select(table.c.starts_at, table.c.dimension_set_id)
        .where(
            table.c.grain_seconds == grain_seconds,
            table.c.starts_at > period.start - grain,
            table.c.starts_at < period.end,
        )
        .distinct()
        .order_by(table.c.starts_at.desc(), table.c.dimension_set_id)
    )
    if is_unpriced:
        statement = statement.where(table.c.unpriced_requests != 0)
    return [(starts_at, set_id) for starts_at, set_id in session.connection().execute(statement)]


def are_of_operations(session: Session, operation_refs: Collection[str]) -> sa.ColumnElement[bool]:
    """Give the condition that usage is of one of these operations, as its index answers it."""
    column = USAGE.c.operation_ref
    is_one = column.in_(sorted(operation_refs))
    if is_sqlite(session):
        return is_one
    buckets = sorted({bucket_of(operation_ref) for operation_ref in operation_refs})
    return sa.and_(ReferenceBucket(column).in_(buckets), is_one)


def list_operation_usage(session: Session, operation_ref: str, *, limit: int) -> list[UsageRow]:
    """Give usage of one user operation, newest first."""
    statement = (
        select(UsageRow)
        .where(are_of_operations(session, [operation_ref]))
        # The sum is not what the primary key is ordered by: PostgreSQL, which plans this for any
        # limit, would else go through all usage from the newest on.
        .order_by((col(UsageRow.id) + 0).desc())
        .limit(limit)
    )
    return list(session.exec(statement))


def list_usage(session: Session, usage_ids: Collection[int]) -> list[UsageRow]:
    """Give these usages, in order of id; those that do not exist are left out."""
    return _rows_among(session, UsageRow, col(UsageRow.id), usage_ids)


def list_call_usage(session: Session, call_ids: Collection[int], *, limit: int) -> list[UsageRow]:
    """Give usage that tells of these calls, in order of id: the first witness and all further."""
    first = list_usage(session, call_ids)
    further = _rows_among(session, UsageRow, col(UsageRow.call_id), call_ids, limit=limit)
    return first + [row for row in further if row.id not in {each.id for each in first}]


def find_hold_usage(session: Session, hold_id: str, *, limit: int) -> list[int]:
    """Give the usages that settled a hold, or that first told of the calls that did by pieces."""
    whole = select(HoldResolutionRow.usage_id).where(HoldResolutionRow.hold_id == hold_id)
    pieces = select(HoldPieceRow.call_id).where(HoldPieceRow.hold_id == hold_id)
    settling = [usage_id for usage_id in session.exec(whole) if usage_id is not None]
    return settling + list(session.exec(pieces.order_by(col(HoldPieceRow.call_id)).limit(limit)))


def list_charges_of(session: Session, usage_ids: Collection[int]) -> list[ChargeRow]:
    """Give the charges of these usages and those that take them back, in order of key."""
    own = _rows_among(session, ChargeRow, col(ChargeRow.usage_id), usage_ids)
    reverses = col(ChargeRow.reverses_usage_id)
    # The second condition is that of the partial index.
    by_others = reverses != col(ChargeRow.usage_id)
    others = _rows_among(session, ChargeRow, reverses, usage_ids, only=by_others)
    listed = {(row.usage_id, row.sequence): row for row in (*own, *others)}
    return [listed[key] for key in sorted(listed)]


def find_source_id(session: Session, name: str) -> int | None:
    """Give the id of a source; None when nothing ever came from it."""
    return session.exec(select(SourceRow.id).where(SourceRow.name == name)).first()


def find_source_names(session: Session, ids: Collection[int]) -> dict[int, str]:
    """Give the names of sources by id."""
    rows = _rows_among(session, SourceRow, col(SourceRow.id), ids)
    return {row.id: row.name for row in rows if row.id is not None}


def find_resolved_sets(session: Session, ids: Collection[int]) -> dict[int, DimensionSet]:
    """Give these dimension sets by id, with the steps that resolved their tags."""
    names = [each.name for each in fields(DimensionSet)]
    rows = _rows_among(session, DimensionSetRow, col(DimensionSetRow.id), ids)
    return {
        row.id: DimensionSet(**{name: getattr(row, name) for name in names})
        for row in rows
        if row.id is not None
    }


def list_providers(session: Session) -> list[str]:
    """Give every provider that usage was ever recorded of, in order."""
    table = table_of(DimensionSetRow)
    statement = sa.select(table.c.provider).distinct().order_by(table.c.provider)
    return list(session.connection().execute(statement).scalars())


def find_price_refs(session: Session, row_ids: Collection[int]) -> dict[int, PriceRef]:
    """Give what tells these price rows, by id."""
    rows = _rows_among(session, PriceRow, col(PriceRow.id), row_ids)
    return {
        row.id: PriceRef(row.id, row.provider, row.model, row.origin, row.valid_from, row.valid_to)
        for row in rows
        if row.id is not None
    }


def find_list_versions(session: Session, ids: Collection[int]) -> dict[int, str]:
    """Give the version of each price list by id."""
    rows = _rows_among(session, PriceListRow, col(PriceListRow.id), ids)
    return {row.id: row.sha256 for row in rows if row.id is not None}


def _rows_among(
    session: Session,
    model: type[RowT],
    column: Any,
    values: Collection[int],
    *,
    only: Any = None,
    limit: int | None = None,
) -> list[RowT]:
    """Give the rows whose column is among the values, in order of the values."""
    rows: list[RowT] = []
    for chunk in _chunks(sorted(set(values)), ROWS_PER_STATEMENT):
        statement = select(model).where(column.in_(chunk)).order_by(column)
        if only is not None:
            statement = statement.where(only)
        if limit is not None:
            statement = statement.limit(limit)
        rows += session.exec(statement)
    return rows


def _chunks(values: Sequence[ValueT], size: int) -> Iterator[Sequence[ValueT]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]

"""What a FOCUS export reads: daily rollups, price rows, and bill lines that no usage stands for.

It owns the queries; it refuses every write. Usage is read from rollups, in the order of their key,
never from usage: what is read grows with days and combinations of dimensions, not with events.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.focus import DaySums
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES
from tokenbudget.store.db import ROWS_PER_STATEMENT, table_of
from tokenbudget.store.tables import BillLineRow, DimensionSetRow, PriceRow, RollupRow

ROLLUP = table_of(RollupRow)
LINE = table_of(BillLineRow)
# Usage that was revised or moved away leaves rollups of nothing behind.
TELLING = [ROLLUP.c[name] for name in MEASURES]


class MonthWeight(NamedTuple):
    """What was metered of a bearer and model in a month, and in how many rollups of a day."""

    team: str
    feature: str | None
    tenant: str | None
    provider: str
    model: str
    effective_nanos: int
    rollups: int


class InvoiceName(NamedTuple):
    """An account that bill lines in force of a month name, and their invoice where they do."""

    billing_month: int
    provider: str
    account: str
    invoice_ref: str | None


def iterate_days(session: Session, period: Period) -> Generator[DaySums, None, None]:
    """Give the daily rollups that start in the period, by day, dimension set and price row."""
    columns = [ROLLUP.c[name] for name in DaySums._fields]
    statement = (
        sa.select(*columns)
        .where(*_days_of(period))
        .order_by(ROLLUP.c.starts_at, ROLLUP.c.dimension_set_id, ROLLUP.c.price_row_id)
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    # A cursor of the server is closed here, whoever stops reading and why.
    with session.connection().execute(statement) as result:
        for row in result:
            yield DaySums(*row)


def list_weights(session: Session, period: Period) -> list[MonthWeight]:
    """Give what was metered in the days of the period by bearer, provider and model."""
    dimensions = table_of(DimensionSetRow)
    keys = [dimensions.c[name] for name in MonthWeight._fields[:5]]
    # The sum of BIGINT is NUMERIC on PostgreSQL: the cast keeps integers or refuses.
    nanos = sa.cast(sa.func.sum(ROLLUP.c.effective_nanos), sa.BigInteger)
    statement = (
        sa.select(*keys, nanos, sa.func.count())
        .select_from(ROLLUP.join(dimensions, ROLLUP.c.dimension_set_id == dimensions.c.id))
        .where(*_days_of(period))
        .group_by(*keys)
    )
    rows = session.connection().execute(statement)
    return [MonthWeight._make(row) for row in rows]


def find_price_rows(session: Session, ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Give price rows by id, as the ledger keeps them."""
    table = table_of(PriceRow)
    ordered = sorted(ids)
    found: dict[int, dict[str, Any]] = {}
    for first in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[first : first + ROWS_PER_STATEMENT]
        statement = sa.select(table).where(table.c.id.in_(chunk))
        for row in session.connection().execute(statement).mappings():
            found[row["id"]] = dict(row)
    return found


def iterate_lines_without_usage(
    session: Session, months: Collection[int]
) -> Iterator[sa.RowMapping]:
    """Give the lines in force on invoices of these months that no usage stands for, by id.

    Those are tax, credits, purchases and adjustments, and whatever corrects an earlier invoice.
    """
    statement = (
        sa.select(LINE)
        .where(
            *_in_force(months),
            (LINE.c.category != ChargeCategory.USAGE.value) | LINE.c.is_correction,
        )
        .order_by(LINE.c.id)
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    with session.connection().execute(statement) as result:
        yield from result.mappings()


def list_invoice_names(session: Session, months: Collection[int]) -> list[InvoiceName]:
    """Give the accounts and invoices that lines in force of these months name, in order."""
    columns = [LINE.c[name] for name in InvoiceName._fields]
    statement = sa.select(*columns).where(*_in_force(months)).distinct()
    named = (InvoiceName(*row) for row in session.connection().execute(statement))
    return sorted(named, key=lambda name: (*name[:3], name.invoice_ref or ""))


def _days_of(period: Period) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ROLLUP.c.grain_seconds == DAY_SECONDS,
        ROLLUP.c.starts_at >= period.start,
        ROLLUP.c.starts_at < period.end,
        sa.or_(*(column != 0 for column in TELLING)),
    )


def _in_force(months: Collection[int]) -> tuple[sa.ColumnElement[bool], ...]:
    return LINE.c.superseded_by.is_(None), LINE.c.billing_month.in_(months)

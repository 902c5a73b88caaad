"""Bill imports and bill lines, and the metered sums they are compared with.

It owns their queries; it refuses to decide which file counts. A line is never edited or deleted,
only marked with the import that superseded it. Metered cost is read from the daily rollups, never
from usage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Session, select

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.reconciliation import InvoicedCost, MeteredCost
from tokenbudget.domain.rollups import DAY_SECONDS, ONE_DAY
from tokenbudget.store.db import ROWS_PER_STATEMENT, insert_rows, is_sqlite, table_of
from tokenbudget.store.tables import BillImportRow, BillLineRow, DimensionSetRow, RollupRow


def lock_imports(session: Session) -> None:
    """Let one import run at a time, so that two never both count the same day; reading goes on."""
    # A writing transaction of SQLite is alone already.
    if not is_sqlite(session):
        session.connection().exec_driver_sql("LOCK TABLE bill_imports IN SHARE ROW EXCLUSIVE MODE")


def find_import(session: Session, *, sha256: str) -> BillImportRow | None:
    """Give the import of a file with this digest, None when there was none."""
    return session.exec(select(BillImportRow).where(BillImportRow.sha256 == sha256)).first()


def append_import(session: Session, row: Mapping[str, object]) -> None:
    """Store one import."""
    insert_rows(session, BillImportRow, [row])


def set_line_count(session: Session, *, import_id: str, line_count: int) -> None:
    """Complete an import with the number of its lines, known when the file has been read."""
    table = table_of(BillImportRow)
    session.connection().execute(
        sa.update(table).where(table.c.id == import_id).values(line_count=line_count)
    )


def append_lines(session: Session, rows: Sequence[Mapping[str, object]]) -> None:
    """Store bill lines in the order given."""
    insert_rows(session, BillLineRow, rows)


def supersede_lines(
    session: Session, *, source: str, account: str, period: Period, import_id: str
) -> int:
    """Mark the lines in force that an import restates and give how many there were.

    Those are other imports' lines of that source and account: all that lie in ``period`` when it is
    a UTC day, else those of just that period.
    """
    line = table_of(BillLineRow)
    is_day = period == window_at(Window.DAY, period.start, "UTC")
    in_period = (
        (line.c.period_start >= period.start) & (line.c.period_end <= period.end)
        if is_day
        else (line.c.period_start == period.start) & (line.c.period_end == period.end)
    )
    statement = (
        sa.update(line)
        .where(
            line.c.source == source,
            line.c.account == account,
            line.c.superseded_by.is_(None),
            line.c.import_id != import_id,
            line.c.period_start < period.end,
            in_period,
        )
        .values(superseded_by=import_id)
    )
    return session.connection().execute(statement).rowcount


def iterate_lines_in_force(session: Session, *, period: Period) -> Iterator[InvoicedCost]:
    """Give the lines in force whose billed time begins in the period, in any currency."""
    line = table_of(BillLineRow)
    columns = (
        line.c.provider,
        line.c.period_start,
        line.c.period_end,
        line.c.category,
        line.c.billed_amount,
        line.c.currency,
        line.c.model,
        line.c.description,
    )
    statement = sa.select(*columns).where(
        line.c.superseded_by.is_(None),
        line.c.period_start >= period.start,
        line.c.period_start < period.end,
    )
    streamed = statement.execution_options(yield_per=ROWS_PER_STATEMENT)
    for provider, start, end, category, amount, *rest in session.connection().execute(streamed):
        yield InvoicedCost(
            provider, Period(start, end), ChargeCategory(category), Decimal(amount), *rest
        )


def iterate_daily_metered(session: Session, *, period: Period) -> Iterator[MeteredCost]:
    """Give what was metered by provider, model and UTC day, for days beginning in the period."""
    rollup, dimensions = table_of(RollupRow), table_of(DimensionSetRow)
    # PostgreSQL sums BIGINT to NUMERIC; the cast keeps integers and refuses what does not fit.
    nanos, unpriced = (
        sa.cast(sa.func.sum(column), sa.BigInteger)
        for column in (rollup.c.effective_nanos, rollup.c.unpriced_requests)
    )
    keys = (dimensions.c.provider, dimensions.c.model, rollup.c.starts_at)
    statement = (
        sa.select(*keys, nanos, unpriced)
        .select_from(rollup.join(dimensions, rollup.c.dimension_set_id == dimensions.c.id))
        .where(
            rollup.c.grain_seconds == DAY_SECONDS,
            rollup.c.starts_at >= period.start,
            rollup.c.starts_at < period.end,
        )
        .group_by(*keys)
        # Usage that was revised away leaves rollups of nothing behind.
        .having(sa.or_(sa.func.sum(rollup.c.requests) != 0, nanos != 0))
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    for provider, model, starts_at, *sums in session.connection().execute(statement):
        yield MeteredCost(provider, model, Period(starts_at, starts_at + ONE_DAY), *sums)

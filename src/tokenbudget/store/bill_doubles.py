"""What of a source stands in force on the same days under several accounts.

It owns these queries; it refuses to say which of them is meant twice (``services/bill_doubles``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.months import month_period
from tokenbudget.domain.periods import Period, from_micros
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import (
    BillImportRow,
    BillLineRow,
    BillPullRow,
    BillRestatementRow,
    ProviderUsageRow,
)

DAY_MICROS: Final = timedelta(days=1) // timedelta(microseconds=1)
NANOS: Final = 10**9


@dataclass(frozen=True, slots=True)
class HeldDay:
    """What one import has in force on a UTC day under an account, in one currency.

    ``nanos`` adds up amounts of ``line_count`` lines, each rounded; usage has no currency.
    """

    account: str
    import_id: str
    day: date
    currency: str | None = None
    nanos: int = 0
    line_count: int = 0


def find_restated_period(session: Session, import_id: str) -> Period | None:
    """Give the period that holds everything an import restates, None when that is nothing."""
    table = table_of(BillRestatementRow)
    month = table.c.billing_month
    is_month = table.c.period_start.is_(None)
    statement = sa.select(
        sa.func.min(table.c.period_start),
        sa.func.max(table.c.period_end),
        sa.func.min(sa.case((is_month, month))),
        sa.func.max(sa.case((is_month, month))),
    ).where(table.c.import_id == import_id)
    start, end, first, last = session.connection().execute(statement).one()
    periods = [month_period(each) for each in (first, last) if each is not None]
    if start is not None:
        periods.append(Period(start, end))
    if not periods:
        return None
    return Period(min(each.start for each in periods), max(each.end for each in periods))


def list_accounts(session: Session, *, source: str, period: Period) -> set[str]:
    """Give the accounts that imports not withdrawn have told of within the period, or nearby."""
    table, bill = table_of(BillRestatementRow), table_of(BillImportRow)
    overlaps = sa.and_(table.c.period_start < period.end, table.c.period_end > period.start)
    statement = (
        sa.select(table.c.account)
        .distinct()
        .join_from(table, bill, table.c.import_id == bill.c.id)
        .where(
            table.c.source == source,
            sa.or_(table.c.period_start.is_(None), overlaps),
            bill.c.withdrawn_at.is_(None),
        )
    )
    return set(session.connection().execute(statement).scalars())


def list_pulled_accounts(session: Session, *, source: str) -> set[str]:
    """Give the accounts under which a source is pulled."""
    pull = table_of(BillPullRow)
    statement = sa.select(pull.c.account).where(pull.c.source == source)
    return set(session.connection().execute(statement).scalars())


def list_held_lines(session: Session, *, source: str, period: Period) -> Sequence[HeldDay]:
    """Give what bill lines in force that begin within the period come to."""
    line = table_of(BillLineRow)
    keys = (line.c.account, line.c.import_id, _day_of(line), line.c.currency)
    # Whole units and the rest apart: SQLite would rather fail than add up beyond 64 bits.
    statement = (
        sa.select(
            *keys,
            sa.func.sum(line.c.billed_nanos // NANOS),
            sa.func.sum(line.c.billed_nanos % NANOS),
            sa.func.count(),
        )
        .where(*_in_force(line, source, period))
        .group_by(*keys)
    )
    return [
        HeldDay(account, import_id, _date_of(day), currency, int(whole) * NANOS + int(rest), count)
        for account, import_id, day, currency, whole, rest, count in session.connection().execute(
            statement
        )
    ]


def list_held_usage(session: Session, *, source: str, period: Period) -> Sequence[HeldDay]:
    """Give whose usage is in force that begins within the period."""
    usage = table_of(ProviderUsageRow)
    keys = (usage.c.account, usage.c.import_id, _day_of(usage))
    statement = sa.select(*keys).distinct().where(*_in_force(usage, source, period))
    return [
        HeldDay(account, import_id, _date_of(day))
        for account, import_id, day in session.connection().execute(statement)
    ]


def _in_force(table: sa.Table, source: str, period: Period) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.source == source,
        table.c.superseded_by.is_(None),
        table.c.period_start >= period.start,
        table.c.period_start < period.end,
    ]


def _day_of(table: sa.Table) -> sa.ColumnElement[int]:
    # Without a bound parameter, so that PostgreSQL takes it for the same when grouping by it.
    micros = sa.type_coerce(table.c.period_start, sa.BigInteger)
    return micros.op("/", return_type=sa.BigInteger())(sa.literal_column(str(DAY_MICROS)))


def _date_of(day: int) -> date:
    return from_micros(day * DAY_MICROS).date()

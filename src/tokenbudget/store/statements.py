"""Statements in SQL: headers, frozen rows, and up to which month accounts are closed.

It owns reading and writing them; it refuses to decide what is stated. Of a header only the state
and the facts of closing and approving are written again; the rows of a draft are replaced whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.domain.statements import (
    Invoice,
    LineKey,
    Method,
    Origin,
    Refusal,
    StatedInvoice,
    StatementHeader,
    StatementLine,
    StatementState,
)
from tokenbudget.store.db import insert_new_rows, insert_rows, is_sqlite, table_of
from tokenbudget.store.statement_tables import StatementLineRow, StatementRow
from tokenbudget.store.tables import BillLineRow, PeriodCloseRow, RollupRow

STATEMENT: Final = table_of(StatementRow)
LINE: Final = table_of(StatementLineRow)
ROLLUP: Final = table_of(RollupRow)
KEY_LENGTH: Final = len(LineKey._fields)
MEASURES: Final = ("amount_nanos", "metered_nanos", "requests", "tokens", "corrects")
LINE_COLUMNS: Final = tuple(LINE.c[name] for name in (*LineKey._fields, *MEASURES))
MIXED_BY: Final = 1_000_003
"""A prime: what is summed of a million rows stays within 64 bits."""


def lock_statements(session: Session) -> None:
    """Let nobody else write statements before this transaction ends.

    On SQLite the transaction's write lock has done so already.
    """
    if not is_sqlite(session):
        session.connection().execute(sa.text("LOCK TABLE statements IN SHARE ROW EXCLUSIVE MODE"))


def find_statement(session: Session, statement_id: str) -> StatementHeader | None:
    """Give a statement's header, or None."""
    return _first(session, STATEMENT.c.id == statement_id)


def find_in_state(session: Session, month: int, state: StatementState) -> StatementHeader | None:
    """Give the latest version of a month that is in the state, or None."""
    return _first(session, STATEMENT.c.month == month, STATEMENT.c.state == state.value)


def list_in_state(session: Session, state: StatementState) -> list[StatementHeader]:
    """Give every statement in the state, by month and version."""
    statement = sa.select(STATEMENT).where(STATEMENT.c.state == state.value)
    ordered = statement.order_by(STATEMENT.c.month, STATEMENT.c.version)
    return [header_of(row) for row in session.connection().execute(ordered)]


def list_headers(
    session: Session, *, month: int | None, after: tuple[int, int] | None, limit: int
) -> list[StatementHeader]:
    """Give statements, latest month and version first, beginning behind ``after``."""
    statement = sa.select(STATEMENT)
    if month is not None:
        statement = statement.where(STATEMENT.c.month == month)
    if after is not None:
        position = sa.tuple_(STATEMENT.c.month, STATEMENT.c.version)
        statement = statement.where(position < sa.tuple_(*map(sa.literal, after)))
    ordered = statement.order_by(STATEMENT.c.month.desc(), STATEMENT.c.version.desc()).limit(limit)
    return [header_of(row) for row in session.connection().execute(ordered)]


def last_version(session: Session, month: int) -> int:
    """Give the highest version there is of a month, 0 without any."""
    statement = sa.select(sa.func.max(STATEMENT.c.version)).where(STATEMENT.c.month == month)
    return session.connection().execute(statement).scalar() or 0


def add_statement(
    session: Session, header: StatementHeader, lines: Sequence[StatementLine]
) -> None:
    """Add a version with its rows, numbered in the order given."""
    row = {
        **_changing_columns(header),
        "id": header.statement_id,
        "month": header.month,
        "version": header.version,
        "currency": header.currency,
        "recorded_at": header.recorded_at,
        "recorded_by": header.recorded_by,
        "grace_ends_at": header.grace_ends_at,
        "reason": header.reason,
    }
    insert_rows(session, StatementRow, [row])
    _insert_lines(session, header.statement_id, lines)


def replace_draft(
    session: Session, header: StatementHeader, lines: Sequence[StatementLine]
) -> None:
    """Write a draft that was worked out again, with its rows in place of those there were."""
    session.connection().execute(sa.delete(LINE).where(LINE.c.statement_id == header.statement_id))
    _update(session, header.statement_id, _changing_columns(header))
    _insert_lines(session, header.statement_id, lines)


def set_state(
    session: Session, statement_id: str, state: StatementState, **facts: datetime | str | None
) -> None:
    """Move a statement on, with the facts of it: ``closed_at`` and ``approved_by``."""
    _update(session, statement_id, {"state": state.value, **facts})


def set_notes(session: Session, statement_id: str, notes: Sequence[Refusal]) -> None:
    """Note why a draft could not be closed."""
    _update(session, statement_id, {"notes": [_note_cells(note) for note in notes]})


def add_period_close(session: Session, closed_before: int, *, now: datetime) -> None:
    """Close accounts before a month; closing them again changes nothing."""
    row = {"closed_before": closed_before, "recorded_at": now}
    insert_new_rows(session, PeriodCloseRow, [row])


def list_lines(
    session: Session, statement_id: str, *, after: int = 0, limit: int | None = None
) -> list[tuple[int, StatementLine]]:
    """Give rows of a statement with their numbers, in order, beginning behind ``after``."""
    statement = (
        sa.select(LINE.c.row_number, *LINE_COLUMNS)
        .where(LINE.c.statement_id == statement_id, LINE.c.row_number > after)
        .order_by(LINE.c.row_number)
        .limit(limit)
    )
    return [(number, _line_of(cells)) for number, *cells in session.connection().execute(statement)]


def list_stated_lines(
    session: Session, service_month: int, *, besides: Collection[str] = ()
) -> list[tuple[str, StatementLine]]:
    """Give what closed statements in force state of a month, each row with its statement's id.

    ``besides`` are the ids of statements that are left out.
    """
    statement = (
        sa.select(LINE.c.statement_id, *LINE_COLUMNS)
        .join_from(LINE, STATEMENT, LINE.c.statement_id == STATEMENT.c.id)
        .where(
            LINE.c.service_month == service_month,
            STATEMENT.c.state == StatementState.CLOSED.value,
            STATEMENT.c.id.not_in(besides),
        )
        .order_by(STATEMENT.c.month, LINE.c.row_number)
    )
    return [(id_, _line_of(cells)) for id_, *cells in session.connection().execute(statement)]


def sum_stated_lines(
    session: Session, *, first: int, last: int, by_statement: bool, dimensions: Sequence[str]
) -> Iterator[sa.Row[Any]]:
    """Give sums of rows in force from the month ``first`` to ``last``, both included.

    ``by_statement`` counts them in the month of their statement, else in that of their use. Each
    row has ``month``, ``service_month``, the dimensions and amount, metered, requests and tokens.
    """
    month = STATEMENT.c.month if by_statement else LINE.c.service_month
    keys = [LINE.c[name] for name in dimensions]
    sums = (LINE.c.amount_nanos, LINE.c.metered_nanos, LINE.c.requests, LINE.c.tokens)
    statement = (
        sa.select(
            month.label("month"),
            LINE.c.service_month,
            *keys,
            *(
                sa.cast(sa.func.sum(sa.func.coalesce(each, 0)), sa.BigInteger).label(f"{each.name}")
                for each in sums
            ),
        )
        .join_from(LINE, STATEMENT, LINE.c.statement_id == STATEMENT.c.id)
        .where(STATEMENT.c.state == StatementState.CLOSED.value, month >= first, month <= last)
        .group_by(month, LINE.c.service_month, *keys)
    )
    yield from session.connection().execute(statement)


def list_months_billed(session: Session, *, before: int, limit: int) -> list[int]:
    """Give the months before one that bill lines in force are invoiced in, latest first."""
    table = table_of(BillLineRow)
    statement = (
        sa.select(table.c.billing_month)
        .where(table.c.billing_month < before, table.c.superseded_by.is_(None))
        .distinct()
        .order_by(table.c.billing_month.desc())
        .limit(limit)
    )
    return list(session.connection().execute(statement).scalars())


def sign_of_usage(session: Session, period: Period) -> tuple[int, ...]:
    """Give figures that change when the daily rollups of the period do, for whole UTC days."""
    place = (ROLLUP.c.dimension_set_id * 7_919 + ROLLUP.c.price_row_id * 613 + 1) % MIXED_BY
    figures = (
        sa.func.count(),
        *(
            sa.func.sum(ROLLUP.c[name])
            for name in ("effective_nanos", "requests", "input_tokens", "output_tokens")
        ),
        sa.func.sum(place * (ROLLUP.c.effective_nanos % MIXED_BY)),
        sa.func.sum(place * (ROLLUP.c.requests % MIXED_BY)),
    )
    statement = sa.select(*figures).where(
        ROLLUP.c.grain_seconds == DAY_SECONDS,
        ROLLUP.c.starts_at >= period.start,
        ROLLUP.c.starts_at < period.end,
    )
    return tuple(int(each or 0) for each in session.connection().execute(statement).one())


def header_of(row: sa.Row[Any]) -> StatementHeader:
    """Give the header that a row of ``statements`` holds."""
    return StatementHeader(
        statement_id=row.id,
        month=row.month,
        version=row.version,
        state=StatementState(row.state),
        currency=row.currency,
        known_at=row.known_at,
        recorded_at=row.recorded_at,
        recorded_by=row.recorded_by,
        grace_ends_at=row.grace_ends_at,
        closed_at=row.closed_at,
        approved_by=row.approved_by,
        reason=row.reason,
        rules_version=row.rules_version,
        total_nanos=row.total_nanos,
        invoices=tuple(_invoice_of(cells) for cells in row.invoices),
        notes=tuple(Refusal(**cells) for cells in row.notes),
        digest=row.digest,
    )


def _line_of(cells: Sequence[Any]) -> StatementLine:
    """Give the row of a statement that ``LINE_COLUMNS`` hold."""
    *names, origin, method, rule = cells[:KEY_LENGTH]
    key = LineKey._make((*names, Origin(origin), Method(method), rule))
    return StatementLine(key, *cells[KEY_LENGTH:])


def _first(session: Session, *conditions: sa.ColumnElement[bool]) -> StatementHeader | None:
    statement = sa.select(STATEMENT).where(*conditions).order_by(STATEMENT.c.version.desc())
    row = session.connection().execute(statement.limit(1)).one_or_none()
    return None if row is None else header_of(row)


def _changing_columns(header: StatementHeader) -> dict[str, Any]:
    return {
        "state": header.state.value,
        "known_at": header.known_at,
        "closed_at": header.closed_at,
        "approved_by": header.approved_by,
        "rules_version": header.rules_version,
        "total_nanos": header.total_nanos,
        "invoices": [_invoice_cells(each) for each in header.invoices],
        "notes": [_note_cells(note) for note in header.notes],
        "digest": header.digest,
    }


def _insert_lines(session: Session, statement_id: str, lines: Sequence[StatementLine]) -> None:
    rows = [
        {
            "statement_id": statement_id,
            "row_number": number,
            **line.key._asdict(),
            "origin": line.key.origin.value,
            "method": line.key.method.value,
            **{name: getattr(line, name) for name in MEASURES},
        }
        for number, line in enumerate(lines, start=1)
    ]
    insert_rows(session, StatementLineRow, rows)


def _update(session: Session, statement_id: str, columns: Mapping[str, Any]) -> None:
    statement = sa.update(STATEMENT).where(STATEMENT.c.id == statement_id)
    session.connection().execute(statement.values(**columns))


def _invoice_cells(stated: StatedInvoice) -> dict[str, Any]:
    return {
        "service_month": stated.service_month,
        "provider": stated.invoice.provider,
        "account": stated.invoice.account,
        "amount_nanos": stated.invoice.amount_nanos,
        "is_billed": stated.invoice.is_billed,
    }


def _invoice_of(cells: Mapping[str, Any]) -> StatedInvoice:
    facts = {name: value for name, value in cells.items() if name != "service_month"}
    return StatedInvoice(cells["service_month"], Invoice(**facts))


def _note_cells(note: Refusal) -> dict[str, Any]:
    return {"code": note.code, "detail": note.detail, "amount_nanos": note.amount_nanos}

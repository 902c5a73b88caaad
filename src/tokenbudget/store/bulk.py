"""Whole tables into the ledger: rows whose values are as they are stored, by the hundred thousand.

It owns the quickest way of each engine: rows handed to SQLite as they are, COPY of text to
PostgreSQL. It refuses to convert instants and money; columns are named like those of the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session

from tokenbudget.domain.periods import from_micros
from tokenbudget.domain.rollups import MEASURES
from tokenbudget.store.coding import Reference, stored_reference
from tokenbudget.store.copying import errors_of_the_driver
from tokenbudget.store.db import is_sqlite, table_of
from tokenbudget.store.prepared import KEEP_ROW_COUNT
from tokenbudget.store.stretches import IDS_PER_BLOCK, QUARTER_HOUR_MICROS, note_stretches
from tokenbudget.store.tables import ChargeRow, EventKeyRow, RollupRow, UsageRow

ROWS_PER_INSERT: Final = 40
USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
EVENT_KEYS: Final = table_of(EventKeyRow)
ROLLUPS: Final = table_of(RollupRow)


def claim_key_table(session: Session, claims: pl.DataFrame) -> bool:
    """Claim ``key`` for ``usage_id``, in the order given, and tell whether all were free.

    Otherwise the transaction is to be given up: PostgreSQL has ended it, and SQLite has claimed
    those that were free.
    """
    if is_sqlite(session):
        # Nothing of it can fail, so that SQLite need not keep pages to take a statement back.
        return _insert(session, EVENT_KEYS, claims, verb="INSERT OR IGNORE") == claims.height
    try:
        # Straight into the table: passing over taken keys would cost the server a table more and
        # two looks at the index for each.
        _copy(session, EVENT_KEYS.name, _as_stored(session, EVENT_KEYS, claims))
    except IntegrityError:
        return False
    return True


def append_usage_table(session: Session, rows: pl.DataFrame) -> None:
    """Add usage, and note where it is found by when it occurred."""
    _append(session, USAGE, rows)
    placed = rows.select(
        "id",
        "occurred_at",
        quarter=pl.col("occurred_at") // pl.lit(QUARTER_HOUR_MICROS, dtype=pl.Int64),
        block=pl.col("id") // IDS_PER_BLOCK,
    )
    found = placed.unique(["quarter", "block"]).select("id", "occurred_at").iter_rows()
    note_stretches(session, ((usage_id, from_micros(micros)) for usage_id, micros in found))


def append_charge_table(session: Session, rows: pl.DataFrame) -> None:
    """Add charges."""
    _append(session, CHARGES, rows)


def add_rollup_table(session: Session, rows: pl.DataFrame) -> None:
    """Add quantities and amounts to their rollup rows; they come in key order, each key once."""
    keys = ", ".join(column.name for column in ROLLUPS.primary_key.columns)
    sums = ", ".join(f"{name} = {ROLLUPS.name}.{name} + excluded.{name}" for name in MEASURES)
    _merge(session, ROLLUPS, rows, f"ON CONFLICT ({keys}) DO UPDATE SET {sums}")


def _append(session: Session, table: sa.Table, rows: pl.DataFrame) -> None:
    stored = _as_stored(session, table, rows)
    if is_sqlite(session):
        _insert(session, table, stored)
    else:
        _copy(session, table.name, stored)


def _merge(session: Session, table: sa.Table, rows: pl.DataFrame, clause: str) -> int:
    """Insert the rows in the order given and give how many were not passed over."""
    stored = _as_stored(session, table, rows)
    if is_sqlite(session):
        return _insert(session, table, stored, clause=clause)
    names = ", ".join(stored.columns)
    staged = f"bulk_{table.name}"
    connection = session.connection()
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ON COMMIT DELETE ROWS"
        f" AS SELECT {names} FROM {table.name} WITH NO DATA"
    )
    connection.exec_driver_sql(f"TRUNCATE {staged}")
    _copy(session, staged, stored)
    # The order of rows is the order of locks, which is for the caller to choose.
    return connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staged} ORDER BY ctid {clause}",
        None,
        KEEP_ROW_COUNT,
    ).rowcount


def _insert(
    session: Session,
    table: sa.Table,
    rows: pl.DataFrame,
    *,
    verb: str = "INSERT",
    clause: str = "",
) -> int:
    """Insert the rows and give how many were not passed over.

    A statement takes many of them: each costs the driver more than SQLite takes for a row.
    """
    if rows.is_empty():
        return 0
    bound: list[pl.Series] = []
    values: list[str | int] = []
    for series in rows.get_columns():
        literal = _literal(series) if bound else None
        if literal is None and not (bound and _repeats(series, bound[-1])):
            bound.append(series)
        values.append(literal or len(bound))
    head = f"{verb} INTO {table.name} ({', '.join(rows.columns)}) VALUES "
    whole = rows.height - rows.height % ROWS_PER_INSERT
    inserted = 0
    for first, behind, together in ((0, whole, ROWS_PER_INSERT), (whole, rows.height, 1)):
        if first == behind:
            continue
        marks = [_marks(values, row * len(bound)) for row in range(together)]
        given = pl.DataFrame(bound)[first:behind].rows()
        parameters = [
            tuple(chain.from_iterable(given[start : start + together]))
            for start in range(0, len(given), together)
        ]
        statement = f"{head}{', '.join(marks)} {clause}"
        result = session.connection().exec_driver_sql(statement, parameters, KEEP_ROW_COUNT)
        inserted += result.rowcount
    return inserted


def _marks(values: Sequence[str | int], bound_before: int) -> str:
    """Give the values of one row: SQL as it is, and parameters by their number."""
    marks = (f"?{bound_before + value}" if isinstance(value, int) else value for value in values)
    return f"({', '.join(marks)})"


def _repeats(series: pl.Series, other: pl.Series) -> bool:
    """Tell whether one parameter can stand for both columns, as it can for costs that agree."""
    return series.dtype.is_integer() and series.equals(other)


def _literal(series: pl.Series) -> str | None:
    """Give the SQL of a whole number that fills the column; binding it again and again is dear."""
    first = series[0]
    if not series.dtype.is_integer() or first is None:
        return None
    return str(first) if series.eq_missing(first).all() else None


def _copy(session: Session, relation: str, rows: pl.DataFrame) -> None:
    connection = session.connection()
    text = f"COPY {relation} ({', '.join(rows.columns)}) FROM STDIN (FORMAT csv)"
    # Nothing at all is null and an empty text is quoted, as the server reads it.
    content = rows.write_csv(include_header=False)
    # Nothing but psycopg itself can copy.
    driver: Any = connection.connection.driver_connection
    with (
        errors_of_the_driver(connection, text),
        driver.cursor() as cursor,
        cursor.copy(text) as copy,
    ):
        copy.write(content)


def _is_coded(kind: sa.types.TypeEngine[Any]) -> bool:
    return isinstance(kind, TypeDecorator) and not isinstance(kind.impl_instance, sa.String)


def _references(texts: pl.Series, *, is_text: bool) -> pl.Series:
    """Give references as they are stored or, for the server to read, as text."""
    stored = [None if text is None else stored_reference(text) for text in texts]
    if is_text:
        digits = [None if each is None else rf"\x{each.hex()}" for each in stored]
        return pl.Series(texts.name, digits, dtype=pl.String)
    return pl.Series(texts.name, stored, dtype=pl.Binary)


def _as_stored(session: Session, table: sa.Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the rows with words in place of which the ledger stores codes, and keys as text."""
    dialect = session.connection().dialect
    changed: list[pl.Series] = []
    for series in rows.get_columns():
        kind: sa.types.TypeEngine[Any] = table.c[series.name].type
        if series.dtype == pl.Binary and not is_sqlite(session):
            changed.append(series.bin.encode("hex"))
        elif isinstance(kind, Reference):
            changed.append(_references(series, is_text=not is_sqlite(session)))
        elif series.dtype == pl.String and _is_coded(kind):
            convert = kind.dialect_impl(dialect).bind_processor(dialect)
            words = series.unique().to_list()
            codes = [convert(word) if convert else word for word in words]
            changed.append(series.replace_strict(words, codes))
    return rows.with_columns(changed)

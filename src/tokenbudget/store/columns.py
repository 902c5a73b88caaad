"""Many rows at once, handed over by the column: the quickest way into either engine.

It owns the conversion of whole columns and what a statement takes of them: dozens of rows on
SQLite, where each statement costs the driver more than the row costs the database, and a COPY on
PostgreSQL (``copying.py``). Columns that say nothing are left out, and one value that fills a
column is handed over once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from operator import is_, itemgetter
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlmodel import Session

from tokenbudget.store.copying import append_copied, merge_rows
from tokenbudget.store.prepared import (
    KEEP_ROW_COUNT,
    MAX_INSERTS,
    Row,
    constant_defaults,
    json_text,
    quote,
)

ROWS_PER_INSERT: Final = (40, 8, 1)
"""How many rows a statement takes: as many as are left, of few sizes that are prepared once."""

KEEP_WHAT_IS_THERE: Final = "ON CONFLICT DO NOTHING"

Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""The values of equally many rows by the name of their column, as SQLAlchemy takes them."""

Convert: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it is stored; where ``is_constant``, its one value stands for every row."""

    name: str
    values: Sequence[Any]
    is_constant: bool


def columns_of(rows: Sequence[Row]) -> Columns:
    """Give rows by the column; all name the columns of the first."""
    return {name: list(map(itemgetter(name), rows)) for name in rows[0]}


def append_columns(session: Session, table: sa.Table, columns: Columns) -> None:
    """Add the rows in the order given; one that breaks a rule is an error."""
    connection = session.connection()
    stored = _stored(connection, table, columns)
    told = [column for column in stored if not (column.is_constant and column.values[0] is None)]
    if _is_sqlite(connection):
        # Whoever meets an error gives the transaction up: no need to take back a statement alone.
        _insert(connection, table, told, _row_count(columns), verb="INSERT OR FAIL")
    else:
        append_copied(connection, table, _by_name(told), _row_count(columns))


def append_new_columns(session: Session, table: sa.Table, columns: Columns) -> int:
    """Add the rows that break no unique rule and give how many there were."""
    connection = session.connection()
    stored = _stored(connection, table, columns)
    if _is_sqlite(connection):
        return _insert(connection, table, stored, _row_count(columns), clause=KEEP_WHAT_IS_THERE)
    by_name = _by_name(stored)
    return merge_rows(connection, table, by_name, _row_count(columns), KEEP_WHAT_IS_THERE)


def add_columns(
    session: Session,
    table: sa.Table,
    columns: Columns,
    added: Collection[str],
    *,
    is_stored: bool = False,
) -> None:
    """Add the rows, or their ``added`` columns to the row with the same primary key.

    No two of the rows may have the same key. With ``is_stored`` values are as the database has
    them.
    """
    connection = session.connection()
    stored = _stored(connection, table, columns, is_stored=is_stored)
    clause = _adding(table, connection.dialect.name, tuple(added))
    if _is_sqlite(connection):
        _insert(connection, table, stored, _row_count(columns), clause=clause)
    else:
        merge_rows(connection, table, _by_name(stored), _row_count(columns), clause)


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _row_count(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _by_name(columns: Sequence[Column]) -> dict[str, tuple[Sequence[Any], bool]]:
    return {column.name: (column.values, column.is_constant) for column in columns}


def _stored(
    connection: Connection, table: sa.Table, columns: Columns, *, is_stored: bool = False
) -> list[Column]:
    """Give the columns as they are stored, and those not named that have a default of our own."""
    converters = _converters(table, connection.dialect.name)
    stored = [
        _converted(name, values, None if is_stored else converters.get(name))
        for name, values in columns.items()
    ]
    defaults = _defaults(table, tuple(columns))
    return stored + [
        _converted(name, [value], None if is_stored else converters.get(name), is_constant=True)
        for name, value in defaults
    ]


def _converted(
    name: str, values: Sequence[Any], convert: Convert | None, *, is_constant: bool = False
) -> Column:
    first = values[0]
    # One instant, or nothing at all, fills many a column: a look is cheaper than its conversion.
    if is_constant or (first is values[-1] and all(map(is_, values, repeat(first)))):
        return Column(name, [convert(first) if convert else first], is_constant=True)
    return Column(name, list(map(convert, values)) if convert else values, is_constant=False)


@lru_cache(MAX_INSERTS)
def _converters(table: sa.Table, dialect_name: str) -> dict[str, Convert]:
    """Give what turns values into stored ones, for the columns that need it."""
    dialect: sa.Dialect = sqlite.dialect()
    if dialect_name != "sqlite":
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    found = {}
    for column in table.columns:
        convert = _converter(column.type, dialect)
        if convert is not None:
            found[column.name] = convert
    return found


def _converter(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Convert | None:
    if isinstance(kind, sa.JSON):
        return _json_or_null if kind.none_as_null else json_text
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _json_or_null(value: object) -> str | None:
    return None if value is None else json_text(value)


@lru_cache(MAX_INSERTS)
def _defaults(table: sa.Table, names: tuple[str, ...]) -> tuple[tuple[str, object], ...]:
    return tuple(constant_defaults(table, names).items())


@lru_cache(MAX_INSERTS)
def _adding(table: sa.Table, dialect_name: str, added: tuple[str, ...]) -> str:
    """Give the clause that adds to the row that is there."""
    quoted_table = quote(table.name, dialect_name)
    keys = ", ".join(quote(column.name, dialect_name) for column in table.primary_key.columns)
    sums = ", ".join(
        f"{name} = {quoted_table}.{name} + excluded.{name}"
        for name in (quote(each, dialect_name) for each in added)
    )
    return f"ON CONFLICT ({keys}) DO UPDATE SET {sums}"


def _insert(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[Column],
    count: int,
    *,
    verb: str = "INSERT",
    clause: str = "",
) -> int:
    """Insert the rows and give how many were not passed over.

    Parameters are the constants, then the values of each column for the rows of a statement.
    """
    names = tuple((column.name, column.is_constant) for column in columns)
    constants = [column.values[0] for column in columns if column.is_constant]
    varying = [column.values for column in columns if not column.is_constant]
    first = inserted = 0
    for together in ROWS_PER_INSERT:
        behind = count - (count - first) % together
        if first == behind:
            continue
        parameters = [
            (*constants, *chain.from_iterable(part[start : start + together] for part in varying))
            for start in range(first, behind, together)
        ]
        sql = _insert_text(table, names, together, verb, clause)
        inserted += connection.exec_driver_sql(sql, parameters, KEEP_ROW_COUNT).rowcount
        first = behind
    return inserted


@lru_cache(MAX_INSERTS)
def _insert_text(
    table: sa.Table, names: tuple[tuple[str, bool], ...], rows: int, verb: str, clause: str
) -> str:
    """Give the insert of so many rows; a column is named with whether one value fills it."""
    constants = sum(is_constant for _, is_constant in names)
    marks = []
    for row in range(rows):
        constant, varying = 1, constants + 1 + row
        places = []
        for _, is_constant in names:
            places.append(f"?{constant if is_constant else varying}")
            constant, varying = (
                (constant + 1, varying) if is_constant else (constant, varying + rows)
            )
        marks.append(f"({', '.join(places)})")
    quoted = ", ".join(quote(name, "sqlite") for name, _ in names)
    head = f"{verb} INTO {quote(table.name, 'sqlite')} ({quoted})"
    return f"{head} VALUES {', '.join(marks)} {clause}"

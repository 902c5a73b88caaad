"""Many rows at once on PostgreSQL, inside the transaction of the session.

New ones are copied. Those that may meet others of the same key come as arrays where they are
numbers and keys, and else through a temporary table. It owns the text of both: values go as text,
since in the binary form the driver cuts integers that are too wide for their
column, where the server refuses them. It refuses to convert what a column's type converts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, TypeAlias
from uuid import UUID
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from tokenbudget.store.prepared import KEEP_ROW_COUNT, MAX_INSERTS, quote

NOTHING: Final = r"\N"
ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
ESCAPED: Final = "\\\t\n\r"
PLAIN_TYPES: Final = frozenset({int, UUID})
"""What the text of an array holds as it is."""

StoredColumns: TypeAlias = Mapping[str, tuple[Sequence[Any], bool]]
"""Values by the name of their column, and whether a first one stands for every row."""


def append_copied(
    connection: Connection, table: sa.Table, columns: StoredColumns, count: int
) -> None:
    """Add so many rows in the order given; one that breaks a rule is an error."""
    _copy(connection, quote(table.name, "postgresql"), columns, count)


def merge_rows(
    connection: Connection, table: sa.Table, columns: StoredColumns, count: int, clause: str
) -> int:
    """Insert so many rows with an ON CONFLICT clause, in order; give how many were touched.

    The order of rows is the order of locks, which is for the caller to choose.
    """
    arrays = {name: _array(column) for name, column in columns.items()}
    if None in arrays.values():
        return _merge_staged(connection, table, columns, count, clause)
    types = _sql_types(table)
    target, names = quote(table.name, "postgresql"), _listed(columns)
    marks, sources = [], []
    for name, (_, is_constant) in columns.items():
        quoted = quote(name, "postgresql")
        sources.append(f"%s::{types[name]}" if is_constant else quoted)
        if not is_constant:
            marks.append((quoted, f"%s::{types[name]}[]"))
    constants = [arrays[name] for name, (_, is_constant) in columns.items() if is_constant]
    varying = [arrays[name] for name, (_, is_constant) in columns.items() if not is_constant]
    if not marks:
        return _merge_staged(connection, table, columns, count, clause)
    listed = ", ".join(name for name, _ in marks)
    return connection.exec_driver_sql(
        f"INSERT INTO {target} ({names}) SELECT {', '.join(sources)}"
        f" FROM unnest({', '.join(mark for _, mark in marks)}) WITH ORDINALITY"
        f" AS given ({listed}, place_of_row) ORDER BY place_of_row {clause}",
        (*constants, *varying),
        KEEP_ROW_COUNT,
    ).rowcount


def _array(column: tuple[Sequence[Any], bool]) -> str | None:
    """Give the values as the text of an array, or the one value; None where they need quoting."""
    values, is_constant = column
    if not set(map(type, values)) <= PLAIN_TYPES:
        return None
    if is_constant:
        return str(values[0])
    return f"{{{','.join(map(str, values))}}}"


@lru_cache(MAX_INSERTS)
def _sql_types(table: sa.Table) -> dict[str, str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {column.name: column.type.compile(dialect) for column in table.columns}


def _merge_staged(
    connection: Connection, table: sa.Table, columns: StoredColumns, count: int, clause: str
) -> int:
    target = quote(table.name, "postgresql")
    names = _listed(columns)
    staged = f"staged_{crc32((target + names).encode()):08x}"
    # It outlives the transaction, and in one transaction it may be needed twice.
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ON COMMIT DELETE ROWS"
        f" AS SELECT {names} FROM {target} WITH NO DATA; DELETE FROM {staged}"
    )
    _copy(connection, staged, columns, count)
    return connection.exec_driver_sql(
        f"INSERT INTO {target} ({names}) SELECT {names} FROM {staged} ORDER BY ctid {clause}",
        None,
        KEEP_ROW_COUNT,
    ).rowcount


@contextmanager
def errors_of_the_driver(connection: Connection, statement: str) -> Iterator[None]:
    """Let errors of the driver come as SQLAlchemy's, and a broken connection be thrown away."""
    driver = connection.dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        is_broken = connection.dialect.is_disconnect(
            error, connection.connection.dbapi_connection, None
        )
        if is_broken:
            connection.invalidate(error)
        wrapped = sa.exc.DBAPIError.instance(
            statement,
            None,
            error,
            driver.Error,
            connection_invalidated=is_broken,
            dialect=connection.dialect,
        )
        raise wrapped from error


def _copy(connection: Connection, relation: str, columns: StoredColumns, count: int) -> None:
    text = f"COPY {relation} ({_listed(columns)}) FROM STDIN"
    content = _content(columns, count)
    # Nothing but psycopg itself can copy.
    driver: Any = connection.connection.driver_connection
    with (
        errors_of_the_driver(connection, text),
        driver.cursor() as cursor,
        cursor.copy(text) as copy,
    ):
        copy.write(content)


def _listed(columns: StoredColumns) -> str:
    return ", ".join(quote(name, "postgresql") for name in columns)


def _content(columns: StoredColumns, count: int) -> bytes:
    """Give the rows as COPY reads them: a line each, values between tabs."""
    texts = []
    for values, is_constant in columns.values():
        column = _texts(values)
        texts.append(repeat(column[0], count) if is_constant else column)
    lines = map("\t".join, zip(*texts, strict=False))
    return ("\n".join(lines) + "\n").encode()


def _texts(values: Sequence[Any]) -> Sequence[str]:
    """Give the text of each value of a column."""
    kinds = set(map(type, values))
    holds_nothing = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return [NOTHING] * len(values)
    if len(kinds) > 1:
        return [NOTHING if value is None else _text_of(type(value))(value) for value in values]
    [kind] = kinds
    if kind is str and not holds_nothing:
        return _escaped(values)
    text_of = _text_of(kind)
    if holds_nothing:
        return [NOTHING if value is None else text_of(value) for value in values]
    return list(map(text_of, values))


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    """Give the texts; looking at all of them at once is far cheaper than at each."""
    together = "".join(texts)
    if not any(mark in together for mark in ESCAPED):
        return texts
    return [text.translate(ESCAPES) for text in texts]


def _text_of(kind: type) -> Callable[[Any], str]:
    """Give what writes values of a type; a TypeError where nothing does."""
    for base in kind.__mro__:
        if base in TEXT_OF:
            return TEXT_OF[base]
    raise TypeError(f"no column holds values of the type {kind.__name__}")


def _text_of_bytes(value: bytes) -> str:
    return rf"\\x{value.hex()}"


def _text_of_text(value: str) -> str:
    return value.translate(ESCAPES)


def _text_of_switch(value: bool) -> str:
    return "t" if value else "f"


TEXT_OF: Final[Mapping[type, Callable[[Any], str]]] = {
    int: str,
    str: _text_of_text,
    bool: _text_of_switch,
    bytes: _text_of_bytes,
    UUID: str,
    Decimal: str,
    date: str,
}

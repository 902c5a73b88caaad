"""Statements that run in every batch: compiled once a dialect, then executed as text.

SQLAlchemy works out a cache key, the names and the conversions anew at every execution, which costs
more than SQLite takes for the statement itself. It owns the conversion of parameters; it refuses to
convert results: rows come as the driver gives them, times as microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlmodel import Session

MAX_INSERTS: Final = 256
KEEP_ROW_COUNT: Final = {"preserve_rowcount": True}
NO_PARAMETERS: Final[Mapping[str, object]] = {}

Row: TypeAlias = Mapping[str, object]
Conversions: TypeAlias = Sequence[tuple[int, Callable[[Any], Any]]]
Statement: TypeAlias = sa.Select[Any] | sa.Insert | sa.Update | sa.Delete


@dataclass(frozen=True, slots=True)
class _Text:
    """The SQL of one dialect, the names of its parameters in order, and how some are converted."""

    sql: str
    names: tuple[str, ...]
    conversions: Conversions
    defaults: Row

    def parameters(self, row: Row) -> tuple[object, ...]:
        given = {**self.defaults, **row} if self.defaults else row
        values = [given[name] for name in self.names]
        for place, convert in self.conversions:
            values[place] = convert(values[place])
        return tuple(values)


class Prepared:
    """One statement for every dialect.

    ``build`` gives it for the name of a dialect. Inserts name the ``columns`` their rows hold;
    columns that are not named keep their defaults.
    """

    def __init__(
        self, build: Callable[[str], Statement], *, columns: Sequence[str] | None = None
    ) -> None:
        self._build = build
        self._columns = None if columns is None else list(columns)
        self._texts: dict[str, _Text] = {}

    def run(self, session: Session, parameters: Row = NO_PARAMETERS) -> sa.CursorResult[Any]:
        """Execute it once and give the result, its values as the driver gives them."""
        connection = session.connection()
        text = self._text(connection.dialect)
        return connection.exec_driver_sql(text.sql, text.parameters(parameters))

    def run_many(self, session: Session, rows: Sequence[Row]) -> int:
        """Execute it for every row, at least one, and give how many rows were touched."""
        connection = session.connection()
        text = self._text(connection.dialect)
        parameters = parameter_rows(rows, text.names, text.conversions, text.defaults)
        return connection.exec_driver_sql(text.sql, parameters, KEEP_ROW_COUNT).rowcount

    def _text(self, dialect: Dialect) -> _Text:
        text = self._texts.get(dialect.name)
        if text is None:
            # Compiled as if for many rows: the ids given to single rows are of no interest.
            compiled = self._build(dialect.name).compile(
                dialect=dialect, column_keys=self._columns, for_executemany=True
            )
            text = self._texts[dialect.name] = _text_of(compiled, dialect)
        return text


def parameter_rows(
    rows: Sequence[Row], names: Sequence[str], conversions: Conversions, defaults: Row
) -> list[tuple[Any, ...]]:
    """Give the values of these names, one or more, converted column by column."""
    given = [{**defaults, **row} for row in rows] if defaults else rows
    if len(names) == 1:
        # Of a single name, itemgetter gives the bare value.
        values = [[row[names[0]]] for row in given]
    else:
        values = [[*row] for row in map(itemgetter(*names), given)]
    for place, convert in conversions:
        _convert(values, place, convert)
    return list(map(tuple, values))


def constant_defaults(table: sa.Table, columns: Collection[str]) -> dict[str, object]:
    """Give the values of the columns that are not named and have a default of our own.

    Raises TypeError when such a default is not a constant.
    """
    return {
        column.key: _constant_default(column)
        for column in table.columns
        if column.key not in columns and column.default is not None
    }


@lru_cache(MAX_INSERTS)
def quote(name: str, dialect_name: str) -> str:
    """Give a name as SQL writes it."""
    dialect: Dialect = sqlite.dialect()
    if dialect_name != "sqlite":
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return dialect.identifier_preparer.quote(name)


def json_text(value: object) -> str:
    """Give the value as JSON."""
    return msgspec.json.encode(value).decode()


def among(column: sa.Column[Any], name: str, dialect_name: str) -> sa.ColumnElement[bool]:
    """Give the condition that the column is in the list of that parameter, whatever its length."""
    if dialect_name == "sqlite":
        listed = sa.func.json_each(sa.bindparam(name, type_=sa.JSON))
        return column.in_(sa.select(sa.column("value")).select_from(listed))
    return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(column.type)))


@lru_cache(MAX_INSERTS)
def plain_insert(table: sa.Table, columns: tuple[str, ...]) -> Prepared:
    """Give the insert that fails on a row that breaks a rule."""
    return Prepared(lambda _: sa.insert(table), columns=columns)


@lru_cache(MAX_INSERTS)
def insert_of_new(table: sa.Table, columns: tuple[str, ...]) -> Prepared:
    """Give the insert that passes over rows that break a unique rule."""
    return Prepared(
        lambda dialect_name: _insert(table, dialect_name).on_conflict_do_nothing(),
        columns=columns,
    )


@lru_cache(MAX_INSERTS)
def insert_or_add(table: sa.Table, columns: tuple[str, ...], added: tuple[str, ...]) -> Prepared:
    """Give the insert that adds to the row with the same primary key, if there is one."""

    def build(dialect_name: str) -> sa.Insert:
        statement = _insert(table, dialect_name)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: table.c[name] + statement.excluded[name] for name in added},
        )

    return Prepared(build, columns=columns)


def _convert(values: list[list[Any]], place: int, convert: Callable[[Any], Any]) -> None:
    first, last = values[0][place], values[-1][place]
    # One instant, or nothing at all, fills many a column: a look is cheaper than its conversion.
    if first is last and all(row[place] is first for row in values):
        converted = convert(first)
        if converted is not first:
            for row in values:
                row[place] = converted
        return
    for row in values:
        row[place] = convert(row[place])


def _insert(table: sa.Table, dialect_name: str) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect_name == "sqlite" else postgresql.insert(table)


def _text_of(compiled: sa.Compiled, dialect: Dialect) -> _Text:
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"{type(compiled).__name__} is no statement with parameters")
    names = tuple(compiled.positiontup or ())
    processors = [
        compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names
    ]
    literals = {
        name: compiled.binds[name].value for name in names if not compiled.binds[name].required
    }
    return _Text(
        sql=str(compiled),
        names=names,
        conversions=tuple((place, convert) for place, convert in enumerate(processors) if convert),
        defaults={
            **literals,
            **{column.key: _constant_default(column) for column in compiled.insert_prefetch},
        },
    )


def _constant_default(column: sa.Column[Any]) -> object:
    if not isinstance(column.default, ScalarElementColumnDefault):
        raise TypeError(f"{column} must be named: its default is not a constant")
    return column.default.arg

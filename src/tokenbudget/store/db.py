"""The engine, the two kinds of transaction and the column types.

It is the only module that commits.

``transaction()`` writes: on SQLite it takes the write lock at once, so that what it reads stays
true until it commits. ``reading()`` gives one consistent snapshot and is always rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, SQLModel

from tokenbudget.domain.errors import ConfigurationError, InvalidInput, Unavailable
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.store.columns import (
    add_columns,
    append_columns,
    append_new_columns,
    columns_of,
)
from tokenbudget.store.prepared import Row, insert_of_new, insert_or_add, json_text, plain_insert

SQLITE_BUSY_MILLISECONDS = 15_000
SQLITE_CACHE_KIBIBYTES = 64 * 1024
SQLITE_CHECKPOINT_PAGES = 4_000
POOL_SIZE = 10
POOL_OVERFLOW = 20
LOCK_MODE = "tokenbudget_lock_mode"
DEAD_PEER: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A PostgreSQL that hangs without a word is given up after about ten seconds, not minutes."""

ROWS_PER_STATEMENT = 1_000
MANY_ROWS: Final = 50
"""From so many rows on, they are handed over by the column."""

# SQLite only lets a column of type INTEGER stand for the row id itself.
BigId: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole microseconds since 1970 in a BIGINT.

    Naive values are a ValueError.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Give the stored microseconds."""
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Give the aware UTC datetime."""
        return None if value is None else from_micros(value)


class EventKey(TypeDecorator[bytes]):
    """128 bits: a UUID where the database has the type, else a BLOB."""

    impl = sa.LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Give the stored type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.Uuid(as_uuid=True))
        return dialect.type_descriptor(sa.LargeBinary(16))

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> object:
        """Give what the driver takes."""
        if value is None or dialect.name != "postgresql":
            return value
        return UUID(bytes=value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Give the 16 bytes."""
        return value.bytes if isinstance(value, UUID) else value


class Nanos(TypeDecorator[int]):
    """An amount in integer nanos of the ledger currency, in a BIGINT.

    Anything but an int is a TypeError.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Pass integers through and refuse everything else."""
        if value is None or type(value) is int:
            return value
        raise TypeError(f"money is an integer count of nanos, not {type(value).__name__}")


class Database:
    """One SQL database: SQLite (WAL) or PostgreSQL, behind the same two kinds of transaction."""

    def __init__(self, url: str, *, sqlite_synchronous: str = "FULL") -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            self._make_sqlite(sqlite_synchronous) if self.is_sqlite else self._make_postgres()
        )

    def _make_sqlite(self, synchronous: str) -> sa.Engine:
        if self.url.database:
            _require_writable(Path(self.url.database))
        engine = sa.create_engine(
            self.url,
            connect_args={"check_same_thread": False, "timeout": SQLITE_BUSY_MILLISECONDS / 1000},
            poolclass=sa.pool.QueuePool,
            # Every transaction ends before its connection goes back; nothing is left to reset.
            pool_reset_on_return=None,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
        )

        def prepare(dbapi_connection: Any, _record: object) -> None:
            # SQLAlchemy, not the driver, says when a transaction begins.
            dbapi_connection.isolation_level = None
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={synchronous}",
                "foreign_keys=ON",
                f"cache_size=-{SQLITE_CACHE_KIBIBYTES}",
                f"wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}",
                "temp_store=MEMORY",
            ):
                dbapi_connection.execute(f"PRAGMA {pragma}")

        def begin(connection: Connection) -> None:
            mode = connection.get_execution_options().get(LOCK_MODE, "DEFERRED")
            connection.exec_driver_sql(f"BEGIN {mode}")

        sa.event.listen(engine, "connect", prepare)
        sa.event.listen(engine, "begin", begin)
        return engine

    def _make_postgres(self) -> sa.Engine:
        if self.url.get_driver_name() != "psycopg":
            raise ConfigurationError(
                "TOKENBUDGET_DATABASE_URL must start with sqlite:/// or postgresql+psycopg://, "
                f"not {self.url.drivername}://"
            )
        return sa.create_engine(
            self.url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            # Prepared statements give their parameters by place.
            paramstyle="format",
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
            connect_args={"connect_timeout": 5, "options": "-c timezone=UTC", **DEAD_PEER},
        )

    @contextmanager
    def transaction(self, *, is_kept: bool = True) -> Iterator[Session]:
        """Open a writing transaction.

        It commits when the block ends and rolls back when the block raises.

        With ``is_kept`` false it is a rehearsal: everything happens, and is then rolled back.
        Raises Unavailable when the database cannot answer.
        """
        with (
            self._connect("IMMEDIATE") as connection,
            connection.begin() as transaction,
            Session(connection) as session,
        ):
            yield session
            session.flush()
            if not is_kept:
                transaction.rollback()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a snapshot to read from; nothing written in the block is kept."""
        with self._connect("DEFERRED") as connection:
            if not self.is_sqlite:
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin() as transaction, Session(connection) as session:
                yield session
                transaction.rollback()

    @contextmanager
    def locked_connection(self) -> Iterator[Connection]:
        """Open a writing transaction without a session, for migrations.

        It commits when the block ends.
        """
        with self._connect("IMMEDIATE") as connection, connection.begin():
            yield connection

    @contextmanager
    def _connect(self, lock_mode: str) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(**{LOCK_MODE: lock_mode})
        except (OperationalError, InterfaceError) as error:
            raise Unavailable(f"the database cannot answer: {_first_line(error)}") from error
        except DataError as error:
            raise InvalidInput(f"the database cannot hold a value: {_first_line(error)}") from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def table_of(model: type[SQLModel]) -> sa.Table:
    """Give the Core table behind a SQLModel class."""
    table = sa.inspect(model).local_table
    if not isinstance(table, sa.Table):
        raise TypeError(f"{model.__name__} is not a table")
    return table


def is_sqlite(session: Session) -> bool:
    """Tell whether the session talks to SQLite."""
    return session.connection().dialect.name == "sqlite"


def insert_rows(session: Session, model: type[SQLModel], rows: Sequence[Row]) -> None:
    """Insert the rows in the order given; all name the same columns."""
    if len(rows) >= MANY_ROWS:
        append_columns(session, table_of(model), columns_of(rows))
    elif rows:
        plain_insert(table_of(model), tuple(rows[0])).run_many(session, rows)


def insert_new_rows(session: Session, model: type[SQLModel], rows: Sequence[Row]) -> int:
    """Insert the rows that break no unique rule and give how many there were."""
    if len(rows) >= MANY_ROWS:
        return append_new_columns(session, table_of(model), columns_of(rows))
    return insert_of_new(table_of(model), tuple(rows[0])).run_many(session, rows) if rows else 0


def add_to_rows(
    session: Session, model: type[SQLModel], rows: Sequence[Row], *, added: tuple[str, ...]
) -> None:
    """Insert rows, or add their ``added`` columns to the row that has the same primary key.

    No two of the rows may have the same key.
    """
    if len(rows) >= MANY_ROWS:
        add_columns(session, table_of(model), columns_of(rows), added)
    elif rows:
        insert_or_add(table_of(model), tuple(rows[0]), added).run_many(session, rows)


def _require_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"the data directory {path.parent} cannot be written: {error.strerror}"
        ) from None


def _first_line(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__

"""A migrated, empty ledger for each test, on SQLite and PostgreSQL, and the services upon it.

Migrating takes most of the time, so it is done once an engine: SQLite tests get a copy of a
migrated file, PostgreSQL tests one database that is emptied before each of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from tests.builders import PRICES
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.services.ledger import Ledger
from tokenbudget.settings import load_settings, packaged_path
from tokenbudget.store.db import Database
from tokenbudget.store.migrations import migrate

ENGINES = ("sqlite", "postgresql")
LEDGER_SUFFIX = "_ledger"
RESTARTED_SEQUENCES = (
    "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S' "
    "AND relnamespace = 'public'::regnamespace"
)


def open_sqlite(path: Path) -> Database:
    """Give the database of this file; it does not wait for the disk."""
    return Database(f"sqlite:///{path.as_posix()}", sqlite_synchronous="OFF")


def open_postgres(url: str) -> Database:
    """Give the migrated database of this URL with nothing in it."""
    database = Database(url)
    # Deleting a few rows is far quicker than truncating, which gives every table a new file.
    tables = reversed(SQLModel.metadata.sorted_tables)
    statements = [*(f"DELETE FROM {table.name}" for table in tables), RESTARTED_SEQUENCES]
    with database.locked_connection() as connection:
        connection.exec_driver_sql("; ".join(statements))
    return database


def url_of(database: Database) -> str:
    """Give the URL of a database in full."""
    return database.url.render_as_string(hide_password=False)


def make_services(database: Database, clock: FrozenClock, directory: Path) -> Services:
    """Give services on this database with the prices of the builders."""
    settings = load_settings(
        database_url=url_of(database), data_dir=directory, report_dir=directory / "reports"
    )
    return Services(settings, database, PRICES, clock)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    database = open_sqlite(path)
    migrate(database, packaged_path("alembic"))
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_ledger_url(postgres_url: str) -> Iterator[str]:
    """Give the URL of a migrated PostgreSQL database of this test process."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    url = server.url.set(database=f"{server.url.database}{LEDGER_SUFFIX}")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {url.database}")
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} SET synchronous_commit = off")
    text = url.render_as_string(hide_password=False)
    database = Database(text)
    migrate(database, packaged_path("alembic"))
    database.close()
    yield text
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {url.database} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """Give an empty ledger on SQLite."""
    path = tmp_path / "ledger.db"
    shutil.copyfile(sqlite_template, path)
    database = open_sqlite(path)
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres_ledger_url: str) -> Iterator[Database]:
    """Give an empty ledger on PostgreSQL."""
    database = open_postgres(postgres_ledger_url)
    yield database
    database.close()


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> Database:
    """Give an empty ledger on each engine in turn."""
    name = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    empty: Database = request.getfixturevalue(name)
    return empty


@pytest.fixture
def services(database: Database, clock: FrozenClock, tmp_path: Path) -> Services:
    """Give services on the empty ledger, at the time of the frozen clock."""
    return make_services(database, clock, tmp_path)


@pytest.fixture
def ledger(services: Services) -> Ledger:
    """Give a ledger of its own memory on the empty ledger."""
    return make_ledger(services)


@pytest.fixture
def other_ledger(services: Services) -> Ledger:
    """Give a second worker's ledger on the same database."""
    return make_ledger(services)

"""Migrations: up, down and up again on both engines, and nothing done to what is too new."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlmodel import SQLModel

from tests.store_fixtures import ENGINES, url_of
from tokenbudget.domain.errors import ConfigurationError, DatabaseTooNew
from tokenbudget.settings import packaged_path
from tokenbudget.store.db import Database
from tokenbudget.store.migrations import migrate, require_current
from tokenbudget.store.partitions import list_partitions

SCRIPTS = packaged_path("alembic")
DATABASE_SUFFIX = "_migrations"


@pytest.fixture(params=ENGINES)
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give a database without tables on each engine in turn."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/bare.db", sqlite_synchronous="OFF")
        yield database
        database.close()
        return
    server = sa.create_engine(request.getfixturevalue("postgres_url"), isolation_level="AUTOCOMMIT")
    url = server.url.set(database=f"{server.url.database}{DATABASE_SUFFIX}")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {url.database}")
    database = Database(url.render_as_string(hide_password=False))
    yield database
    database.close()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {url.database} WITH (FORCE)")
    server.dispose()


def schema(database: Database) -> dict[str, object]:
    """Give every table with its columns, keys and indexes; partitions belong to their table."""
    inspector = sa.inspect(database.engine)
    with database.engine.connect() as connection:
        partitions = set() if database.is_sqlite else set(list_partitions(connection))
    return {
        name: (
            [(column["name"], str(column["type"])) for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(str(key["name"]) for key in inspector.get_foreign_keys(name)),
            sorted(str(index["name"]) for index in inspector.get_indexes(name)),
            sorted(str(rule["name"]) for rule in inspector.get_unique_constraints(name)),
        )
        for name in inspector.get_table_names()
        if name not in partitions
    }


def run(database: Database, step: str) -> None:
    """Run one of Alembic's commands on the database."""
    with database.locked_connection() as connection:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        if step == "check":
            command.check(config)
        else:
            command.downgrade(config, step)


def revision(database: Database) -> str | None:
    """Give the revision the database says it is at."""
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def test_up_down_and_up_again_gives_the_same_tables(bare: Database) -> None:
    migrate(bare, SCRIPTS)
    first = schema(bare)

    run(bare, "base")
    between = schema(bare)
    migrate(bare, SCRIPTS)

    assert set(first) == {table.name for table in SQLModel.metadata.sorted_tables} | {
        "alembic_version"
    }
    assert set(between) == {"alembic_version"}
    assert schema(bare) == first


def test_migrations_make_the_tables_of_the_code(bare: Database) -> None:
    migrate(bare, SCRIPTS)

    run(bare, "check")


def test_migrating_twice_changes_nothing(bare: Database) -> None:
    migrate(bare, SCRIPTS)
    before = (schema(bare), revision(bare))

    migrate(bare, SCRIPTS)

    assert (schema(bare), revision(bare)) == before
    require_current(bare, SCRIPTS)


def test_of_several_processes_that_start_at_once_one_migrates(bare: Database) -> None:
    barrier = threading.Barrier(3)

    def start(_: int) -> None:
        database = Database(url_of(bare))
        barrier.wait(10)
        migrate(database, SCRIPTS)
        database.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, range(3)))

    require_current(bare, SCRIPTS)


def test_a_database_newer_than_the_code_is_refused_and_left_alone(bare: Database) -> None:
    migrate(bare, SCRIPTS)
    with bare.locked_connection() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = schema(bare)

    with pytest.raises(
        DatabaseTooNew, match="at revision '9999', which this version does not know"
    ):
        migrate(bare, SCRIPTS)
    with pytest.raises(DatabaseTooNew):
        require_current(bare, SCRIPTS)

    assert (schema(bare), revision(bare)) == (before, "9999")


def test_a_database_older_than_the_code_is_named_where_nothing_may_be_migrated(
    bare: Database,
) -> None:
    with pytest.raises(ConfigurationError, match="run: tokenbudget db upgrade"):
        require_current(bare, SCRIPTS)

    assert schema(bare) == {}


def test_a_migration_that_fails_changes_nothing(bare: Database) -> None:
    with bare.locked_connection() as connection:
        connection.exec_driver_sql("CREATE TABLE usage (id INTEGER)")

    with pytest.raises(Exception, match="usage"):
        migrate(bare, SCRIPTS)

    assert set(schema(bare)) == {"usage"}


def test_no_migration_imports_our_code() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (SCRIPTS / "versions").glob("*.py")]

    assert texts
    assert not [text for text in texts if "tokenbudget" in text]


def test_migrations_are_named_by_date_and_in_words() -> None:
    names = [path.stem for path in (SCRIPTS / "versions").glob("*.py")]

    assert all(name[:10].replace("_", "").isdigit() and name[10] == "_" for name in names)

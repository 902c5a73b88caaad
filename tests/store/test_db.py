"""Transactions and column types behave alike on both engines."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import Session

from tests.builders import rows_of
from tokenbudget.domain.errors import ConfigurationError, Unavailable
from tokenbudget.store.db import Database, add_to_rows, insert_new_rows, insert_rows, table_of
from tokenbudget.store.tables import LeaseRow, OutboxRow, RollupRow, SourceRow, UsageRow

NOON = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)


def lease(name: str = "jobs", expires_at: datetime = NOON) -> dict[str, object]:
    """Give the row of a lease."""
    return {"name": name, "holder": "a", "expires_at": expires_at}


def names(database: Database) -> list[str]:
    """Give the names of the leases stored."""
    return [row["name"] for row in rows_of(database, LeaseRow)]


def test_an_instant_comes_back_in_utc_to_the_microsecond(database: Database) -> None:
    in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))

    with database.transaction() as session:
        insert_rows(session, LeaseRow, [lease(expires_at=in_india)])

    [row] = rows_of(database, LeaseRow)
    assert row["expires_at"] == NOON
    assert row["expires_at"].tzinfo is UTC


def test_a_naive_instant_is_refused(database: Database) -> None:
    with (
        pytest.raises((StatementError, ValueError), match="naive"),
        database.transaction() as session,
    ):
        insert_rows(session, LeaseRow, [lease(expires_at=NOON.replace(tzinfo=None))])

    assert names(database) == []


@pytest.mark.parametrize("amount", [1.5, "1", True])
def test_money_that_is_no_integer_is_refused(database: Database, amount: object) -> None:
    statement = sa.select(table_of(UsageRow)).where(table_of(UsageRow).c.reported_nanos == amount)

    with (
        pytest.raises(StatementError, match="money is an integer count of nanos"),
        database.reading() as session,
    ):
        session.connection().execute(statement)


def _write_and_fail(session: Session) -> None:
    insert_rows(session, LeaseRow, [lease()])
    raise RuntimeError


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as session:
        _write_and_fail(session)

    assert names(database) == []


def test_a_rehearsal_sees_what_it_wrote_and_leaves_nothing(database: Database) -> None:
    with database.transaction(is_kept=False) as session:
        session.add(OutboxRow(id="m", topic="t", payload={}, created_at=NOON, due_at=NOON))
        session.flush()
        seen = session.get(OutboxRow, "m") is not None

    assert seen
    assert rows_of(database, OutboxRow) == []


def _write_while_reading(session: Session) -> None:
    insert_rows(session, LeaseRow, [lease()])


def test_nothing_written_while_reading_is_kept(database: Database) -> None:
    if database.is_sqlite:
        with database.reading() as session:
            _write_while_reading(session)
    else:
        with (
            pytest.raises(sa.exc.InternalError, match="read-only"),
            database.reading() as session,
        ):
            _write_while_reading(session)

    assert names(database) == []


def test_a_reader_keeps_its_snapshot_while_another_writes(database: Database) -> None:
    count = sa.select(sa.func.count()).select_from(table_of(LeaseRow))

    with database.reading() as reader:
        before = reader.connection().execute(count).scalar()
        with database.transaction() as writer:
            insert_rows(writer, LeaseRow, [lease()])
        after = reader.connection().execute(count).scalar()

    assert (before, after) == (0, 0)
    assert names(database) == ["jobs"]


def test_a_unique_rule_that_is_broken_is_an_error_unless_told_otherwise(
    database: Database,
) -> None:
    with database.transaction() as session:
        insert_rows(session, LeaseRow, [lease("a")])

    with pytest.raises(IntegrityError), database.transaction() as session:
        insert_rows(session, LeaseRow, [lease("a")])


@pytest.mark.parametrize(
    ("rows", "new"), [([], 0), (["a"], 0), (["b"], 1), (["a", "b", "c"], 2), (["b", "b"], 1)]
)
def test_rows_that_break_a_unique_rule_are_passed_over_and_the_others_counted(
    database: Database, rows: list[str], new: int
) -> None:
    with database.transaction() as session:
        insert_rows(session, SourceRow, [{"name": "a"}])

    with database.transaction() as session:
        counted = insert_new_rows(session, SourceRow, [{"name": name} for name in rows])

    assert counted == new
    assert len(rows_of(database, SourceRow)) == 1 + new


def test_adding_to_rows_inserts_what_is_missing_and_adds_to_the_rest(database: Database) -> None:
    with database.transaction() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO dimension_sets (id, digest, team, provider, model, status, is_retry,"
            " tags, resolved_by) VALUES (1, 'd', 't', 'p', 'm', 'ok', false, '{}', '{}')"
        )
        row = {"grain_seconds": 900, "starts_at": NOON, "dimension_set_id": 1, "price_row_id": 0}
        add_to_rows(session, RollupRow, [{**row, "requests": 2}], added=("requests",))
        add_to_rows(
            session,
            RollupRow,
            [{**row, "requests": 3}, {**row, "price_row_id": 7, "requests": 1}],
            added=("requests",),
        )
        add_to_rows(session, RollupRow, [], added=("requests",))

    assert [row["requests"] for row in rows_of(database, RollupRow)] == [5, 1]


def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")

    with pytest.raises(Unavailable, match="the database cannot answer: "), database.reading():
        pass


def test_a_driver_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must start with sqlite:/// or postgresql"):
        Database("postgresql+asyncpg://nobody@127.0.0.1/nowhere")


def test_a_directory_that_does_not_exist_is_made(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/new/ledger.db").close()

    assert (tmp_path / "new" / "ledger.db").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(ConfigurationError, match=f"the data directory {blocked} cannot be written"):
        Database(f"sqlite:///{blocked}/ledger.db")


def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")

    with database.reading() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close()

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.skipif(os.name != "posix", reason="POSIX file names only")
def test_a_path_with_blanks_and_percent_signs_is_fine(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a b %25 c/ledger.db")
    with database.transaction():
        pass
    database.close()

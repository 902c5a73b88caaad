"""Prepared statements say on both engines what SQLAlchemy itself would have said."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tests.builders import rows_of
from tokenbudget.store.db import Database, add_to_rows, insert_new_rows, insert_rows, table_of
from tokenbudget.store.prepared import Prepared, among, plain_insert
from tokenbudget.store.tables import CounterRow, HoldRow, LeaseRow, SourceRow

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 20, 13, tzinfo=UTC)
SOURCES = table_of(SourceRow)


def hold(hold_id: str) -> dict[str, object]:
    """Give a hold that leaves out what has a default."""
    return {
        "id": hold_id,
        "created_at": NOON,
        "expires_at": LATER,
        "estimate_nanos": 5,
        "grants": [[1, 5]],
    }


def test_values_are_converted_and_columns_left_out_keep_their_defaults(database: Database) -> None:
    with database.transaction() as session:
        insert_rows(session, HoldRow, [hold("a"), hold("b")])

    first, second = rows_of(database, HoldRow)
    assert (first["id"], second["id"]) == ("a", "b")
    assert (first["created_at"], first["grants"]) == (NOON, [[1, 5]])
    assert (first["state"], first["provider"]) == ("held", None)


def test_an_amount_that_is_no_integer_is_refused(database: Database) -> None:
    with (
        pytest.raises(TypeError, match="money is an integer count of nanos"),
        database.transaction() as session,
    ):
        insert_rows(session, HoldRow, [{**hold("a"), "estimate_nanos": "5"}])

    assert rows_of(database, HoldRow) == []


def test_rows_that_are_there_already_are_passed_over_and_not_counted(database: Database) -> None:
    with database.transaction() as session:
        first = insert_new_rows(session, SourceRow, [{"name": "a"}, {"name": "b"}])
        second = insert_new_rows(session, SourceRow, [{"name": "b"}, {"name": "c"}])
        third = insert_new_rows(session, SourceRow, [])

    assert (first, second, third) == (2, 1, 0)


def test_adding_changes_only_the_columns_that_are_named(database: Database) -> None:
    counter = {
        "id": 1,
        "budget_id": "b",
        "counting_version": 1,
        "split_key": "[]",
        "window_start": NOON,
        "window_end": LATER,
        "settled": 5,
        "held": 1,
    }
    with database.transaction() as session:
        add_to_rows(session, CounterRow, [counter], added=("settled",))
        add_to_rows(session, CounterRow, [counter], added=("settled",))

    [row] = rows_of(database, CounterRow)
    assert (row["settled"], row["held"]) == (10, 1)


@pytest.mark.parametrize(("wanted", "found"), [([], []), (["b", "x", "a"], ["a", "b"])])
def test_a_list_of_any_length_is_one_parameter(
    database: Database, wanted: list[str], found: list[str]
) -> None:
    names = Prepared(
        lambda dialect_name: (
            sa.select(SOURCES.c.name)
            .where(among(SOURCES.c.name, "names", dialect_name))
            .order_by(SOURCES.c.name)
        )
    )

    with database.transaction() as session:
        insert_rows(session, SourceRow, [{"name": "a"}, {"name": "b"}, {"name": "c"}])
        rows = names.run(session, {"names": wanted}).all()

    assert [name for (name,) in rows] == found


def test_a_parameter_that_is_missing_is_an_error(sqlite_database: Database) -> None:
    insert = plain_insert(table_of(LeaseRow), ("name", "holder", "expires_at"))

    with pytest.raises(KeyError, match="holder"), sqlite_database.transaction() as session:
        insert.run_many(session, [{"name": "jobs", "expires_at": NOON}])

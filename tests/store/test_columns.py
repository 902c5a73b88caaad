"""Many rows go by the column: what is stored is what inserting each would have stored."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel

from tests.builders import rows_of
from tokenbudget.domain.errors import InvalidInput, Unavailable
from tokenbudget.store.columns import append_columns, columns_of
from tokenbudget.store.db import (
    MANY_ROWS,
    Database,
    add_to_rows,
    insert_new_rows,
    insert_rows,
    table_of,
)
from tokenbudget.store.tables import CounterRow, EventKeyRow, HoldRow, UsageRow

NOON = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
MANY = MANY_ROWS
ODD_WORDS = (
    "",
    "\\N",
    "a\tb",
    "line\nbreak",
    "back\\slash",
    "München 🧮",
    '{"quoted": true}',
    "NULL",
)


def usage(number: int, **overrides: object) -> dict[str, Any]:
    """Give a row of usage that has a value of every type."""
    return {
        "id": number,
        "source_id": 1,
        "event_ref": f"e{number}",
        "revision": number % 3,
        "content_hash": -(2**63) + number,
        "occurred_at": NOON,
        "recorded_at": NOON,
        "dimension_set_id": 1,
        "input_tokens": None if number % 2 else number,
        "cache_hit": None if number % 2 else True,
        "other_units": None if number % 2 else {"images": number},
        "extra_tags": {"user": ODD_WORDS[number % len(ODD_WORDS)]},
        "operation_ref": ODD_WORDS[number % len(ODD_WORDS)],
        "reported_nanos": 2**62,
        **overrides,
    }


def hold(number: int, **overrides: object) -> dict[str, Any]:
    """Give a hold that leaves out what has a default."""
    return {
        "id": f"h{number:04d}",
        "created_at": NOON,
        "expires_at": NOON,
        "grants": [[1, number]],
        **overrides,
    }


def key(number: int) -> dict[str, Any]:
    """Give the claim of a key by the usage of the same number."""
    return {"key": number.to_bytes(16, "big"), "usage_id": number}


def counter(number: int) -> dict[str, Any]:
    """Give a counter at which five is settled."""
    return {
        "id": number,
        "budget_id": "b",
        "counting_version": 1,
        "split_key": f"[{number}]",
        "window_start": NOON,
        "window_end": NOON,
        "settled": 5,
    }


def stored(database: Database, model: type[SQLModel], rows: list[dict[str, Any]]) -> list[Any]:
    """Insert the rows in one go and give what the table then holds, without the last of it."""
    with database.transaction() as session:
        insert_rows(session, model, rows)
    key_column = next(iter(table_of(model).primary_key.columns)).name
    return sorted(rows_of(database, model), key=lambda row: row[key_column])


@pytest.mark.parametrize("make_row", [usage, hold], ids=["usage", "hold"])
def test_rows_copied_at_once_are_the_rows_inserted_by_few(
    postgres_database: Database, make_row: Any
) -> None:
    model = UsageRow if make_row is usage else HoldRow
    rows = [make_row(number) for number in range(MANY)]

    copied = stored(postgres_database, model, rows)
    with postgres_database.transaction() as session:
        session.connection().execute(sa.delete(table_of(model)))
        for row in rows:
            insert_rows(session, model, [row])
    inserted = sorted(rows_of(postgres_database, model), key=lambda row: row["id"])

    assert copied == inserted
    assert len(copied) == MANY


def test_odd_words_and_absent_values_come_back_as_they_were(database: Database) -> None:
    rows = stored(database, UsageRow, [usage(number) for number in range(MANY)])

    assert [row["operation_ref"] for row in rows[: len(ODD_WORDS)]] == list(ODD_WORDS)
    assert rows[0]["other_units"] == {"images": 0}
    assert (rows[1]["input_tokens"], rows[1]["other_units"]) == (None, None)
    assert (rows[0]["content_hash"], rows[0]["occurred_at"]) == (-(2**63), NOON)


def test_of_many_rows_those_with_a_taken_key_are_passed_over(database: Database) -> None:
    with database.transaction() as session:
        insert_new_rows(session, EventKeyRow, [key(3), key(7)])

    with database.transaction() as session:
        rows = [{**key(number), "usage_id": 1000 + number} for number in range(MANY)]
        counted = insert_new_rows(session, EventKeyRow, [*rows, rows[0]])

    holders = {row["key"][-1]: row["usage_id"] for row in rows_of(database, EventKeyRow)}
    assert counted == MANY - 2
    assert (holders[3], holders[7], holders[8]) == (3, 7, 1008)


def test_adding_many_rows_adds_to_those_that_are_there(database: Database) -> None:
    with database.transaction() as session:
        add_to_rows(session, CounterRow, [counter(1)], added=("settled",))
        add_to_rows(
            session, CounterRow, [counter(number) for number in range(MANY)], added=("settled",)
        )
        add_to_rows(
            session, CounterRow, [counter(number) for number in range(MANY)], added=("settled",)
        )

    settled = {row["id"]: row["settled"] for row in rows_of(database, CounterRow)}
    assert settled == {number: 15 if number == 1 else 10 for number in range(MANY)}


def test_rows_staged_in_a_transaction_are_gone_with_it(database: Database) -> None:
    rows = [key(number) for number in range(MANY)]
    with database.transaction(is_kept=False) as session:
        insert_new_rows(session, EventKeyRow, rows)
    with database.transaction() as session:
        first = insert_new_rows(session, EventKeyRow, rows)
    with database.transaction() as session:
        second = insert_new_rows(session, EventKeyRow, rows)

    assert (first, second) == (MANY, 0)


def test_one_of_many_rows_that_breaks_a_rule_is_an_error_and_nothing_is_stored(
    database: Database,
) -> None:
    rows = [usage(number) for number in range(MANY)]

    with pytest.raises(IntegrityError), database.transaction() as session:
        insert_rows(session, UsageRow, [*rows, rows[0]])

    assert rows_of(database, UsageRow) == []


def test_a_number_that_does_not_fit_is_the_callers_fault(postgres_database: Database) -> None:
    rows = [usage(number, input_tokens=2**40) for number in range(MANY)]

    with (
        pytest.raises(InvalidInput, match="the database cannot hold a value"),
        postgres_database.transaction() as session,
    ):
        insert_rows(session, UsageRow, rows)


def test_money_that_is_no_integer_is_refused_among_many_rows(database: Database) -> None:
    rows = [usage(number, reported_nanos="5") for number in range(MANY)]

    with (
        pytest.raises(TypeError, match="money is an integer count of nanos"),
        database.transaction() as session,
    ):
        insert_rows(session, UsageRow, rows)


def _copy_over_a_broken_connection(database: Database, session: Session) -> None:
    process = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with database.engine.connect() as other:
        other.exec_driver_sql(f"SELECT pg_terminate_backend({process}, 5000)")
    insert_rows(session, UsageRow, [usage(number) for number in range(MANY)])


def test_a_connection_that_breaks_while_copying_is_unavailable(
    postgres_database: Database,
) -> None:
    with (
        pytest.raises(Unavailable, match="the database cannot answer"),
        postgres_database.transaction() as session,
    ):
        _copy_over_a_broken_connection(postgres_database, session)

    assert rows_of(postgres_database, UsageRow) == []


def test_a_default_that_is_not_a_constant_must_be_named(database: Database) -> None:
    table = sa.Table(
        "stranger",
        sa.MetaData(),
        sa.Column("name", sa.String),
        sa.Column("made_by", sa.Integer, default=os.getpid),
    )

    with (
        pytest.raises(TypeError, match="made_by must be named"),
        database.transaction() as session,
    ):
        append_columns(session, table, {"name": ["a"]})


def test_words_of_sql_may_name_columns(database: Database) -> None:
    numbers = list(range(MANY))
    with database.transaction() as session:
        session.connection().exec_driver_sql('CREATE TEMPORARY TABLE "order" ("user" bigint)')
        table = sa.Table("order", sa.MetaData(), sa.Column("user", sa.BigInteger))
        append_columns(session, table, {"user": numbers})
        stored = session.connection().exec_driver_sql('SELECT "user" FROM "order"').scalars().all()

    assert sorted(stored) == numbers


@pytest.mark.parametrize("count", [1, 7, 8, 39, 40, 41, 129])
def test_rows_of_any_number_are_all_stored(database: Database, count: int) -> None:
    rows = [usage(number) for number in range(count)]
    with database.transaction() as session:
        append_columns(session, table_of(UsageRow), columns_of(rows))

    stored = sorted(rows_of(database, UsageRow), key=lambda row: row["id"])
    assert [(row["id"], row["event_ref"]) for row in stored] == [
        (number, f"e{number}") for number in range(count)
    ]
    assert {row["attempt"] for row in stored} == {1}

"""On PostgreSQL a day of usage lies in a partition, whose bounds follow from the ids."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from time import sleep
from typing import Any

import pytest

from tests.builders import make_events, record, rows_of
from tests.conftest import FrozenClock
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.errors import Unavailable
from tokenbudget.jobs import Jobs
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.partitions import prepare_days
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.ledger import next_usage_ids
from tokenbudget.store.partitions import (
    DAY_BITS,
    DAYS_AHEAD,
    PARTITIONED,
    DayPartition,
    first_id_of,
    list_partitions,
)
from tokenbudget.store.tables import ChargeRow, UsageRow

MAX_EXACT_IN_JSON = 2**53
MEANWHILE_SECONDS = 0.5
PATIENCE_SECONDS = 30


@pytest.fixture
def postgres_ledger(postgres_database: Database, clock: FrozenClock, tmp_path: Any) -> Ledger:
    """Give a ledger on PostgreSQL."""
    return make_ledger(make_services(postgres_database, clock, tmp_path))


@pytest.fixture
def without_today(postgres_database: Database) -> Iterator[Database]:
    """Give a ledger on PostgreSQL in which nobody has made the partitions of today; mend it."""
    with postgres_database.transaction() as session:
        for table in reversed(PARTITIONED):
            today = DayPartition(table, database_day(postgres_database))
            session.connection().exec_driver_sql(f"DROP TABLE {today.name}")
    yield postgres_database
    prepare_days(postgres_database)


def database_day(database: Database) -> date:
    """Give the UTC day by the clock of the database."""
    with database.reading() as session:
        text = "SELECT (now() AT TIME ZONE 'utc')::date"
        day: date = session.connection().exec_driver_sql(text).scalar_one()
        return day


def places(database: Database, table: str) -> list[str]:
    """Give the partition of every row, in order of id."""
    with database.reading() as session:
        text = f"SELECT tableoid::regclass::text FROM {table} ORDER BY {PARTITIONED[table]}"
        return list(session.connection().exec_driver_sql(text).scalars())


def partitions(database: Database) -> list[str]:
    """Give the names of all partitions."""
    with database.reading() as session:
        return list_partitions(session.connection())


def test_ids_rise_and_hold_the_day(postgres_database: Database) -> None:
    day = database_day(postgres_database)

    with postgres_database.transaction() as session:
        first = next_usage_ids(session, 3)
        second = next_usage_ids(session, 2)

    assert sorted({*first, *second}) == [*first, *second]
    assert first_id_of(day) <= first[0] < second[-1] < first_id_of(day + timedelta(days=1))
    assert second[-1] < MAX_EXACT_IN_JSON


def test_ids_stay_exact_in_json_for_centuries() -> None:
    assert first_id_of(date(2328, 1, 1)) < MAX_EXACT_IN_JSON
    assert first_id_of(date(1970, 1, 2)) == 1 << DAY_BITS


def test_ids_are_small_on_sqlite(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as session:
        assert next_usage_ids(session, 3) == [1, 2, 3]


def test_usage_and_its_charges_lie_in_the_partition_of_the_day(postgres_ledger: Ledger) -> None:
    database = postgres_ledger.database
    day = database_day(database)

    record(postgres_ledger, *make_events(3))

    assert places(database, "usage") == [f"usage_{day:%Y_%m_%d}"] * 3
    assert places(database, "charges") == [f"charges_{day:%Y_%m_%d}"] * 3


def test_a_migrated_database_has_room_for_the_coming_days(postgres_database: Database) -> None:
    day = database_day(postgres_database)
    days = [day + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]

    present = partitions(postgres_database)

    for table in PARTITIONED:
        assert f"{table}_default" in present
        assert {f"{table}_{each:%Y_%m_%d}" for each in days} <= set(present)


def test_making_partitions_again_makes_none(postgres_database: Database) -> None:
    before = partitions(postgres_database)

    assert prepare_days(postgres_database) == []
    assert partitions(postgres_database) == before


def test_the_job_makes_the_partition_that_is_missing(
    without_today: Database, clock: FrozenClock, tmp_path: Any
) -> None:
    day = database_day(without_today)
    jobs = Jobs(make_services(without_today, clock, tmp_path))

    jobs.prepare_days()
    jobs.prepare_days()
    jobs.http.close()

    present = partitions(without_today)
    assert {f"{table}_{day:%Y_%m_%d}" for table in PARTITIONED} <= set(present)
    assert len(present) == len(set(present))


def test_there_is_nothing_to_make_on_sqlite(sqlite_database: Database) -> None:
    assert prepare_days(sqlite_database) == []


def test_without_a_partition_of_today_nothing_is_lost_and_making_it_brings_the_rows_there(
    without_today: Database, clock: FrozenClock, tmp_path: Any
) -> None:
    ledger = make_ledger(make_services(without_today, clock, tmp_path))
    record(ledger, *make_events(60))
    waiting = {table: set(places(without_today, table)) for table in PARTITIONED}
    before = (rows_of(without_today, UsageRow), rows_of(without_today, ChargeRow))

    made = prepare_days(without_today)

    day = f"{database_day(without_today):%Y_%m_%d}"
    assert waiting == {"usage": {"usage_default"}, "charges": {"charges_default"}}
    assert made == [f"usage_{day}", f"charges_{day}"]
    assert set(places(without_today, "usage")) == {f"usage_{day}"}
    assert set(places(without_today, "charges")) == {f"charges_{day}"}
    assert (rows_of(without_today, UsageRow), rows_of(without_today, ChargeRow)) == before
    assert record(ledger, *make_events(60)).duplicates == 60


def test_rows_that_come_while_the_partition_is_made_are_moved_as_well(
    without_today: Database,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with without_today.transaction() as session:
            [usage_id] = next_usage_ids(session, 1)
            charge = {"usage_id": usage_id, "basis": "rated", "accounting_period": 202611}
            insert_rows(session, ChargeRow, [charge])
            making = pool.submit(prepare_days, without_today)
            sleep(MEANWHILE_SECONDS)
        made = making.result(PATIENCE_SECONDS)

    assert len(made) == len(PARTITIONED)
    assert places(without_today, "charges") == [made[1]]


def test_a_day_that_is_read_by_its_ids_opens_only_its_partition(
    postgres_database: Database,
) -> None:
    day = database_day(postgres_database)
    bounds = (first_id_of(day), first_id_of(day + timedelta(days=1)))

    with postgres_database.reading() as session:
        plan = session.connection().exec_driver_sql(
            "EXPLAIN SELECT * FROM usage JOIN charges ON usage_id = id"
            f" WHERE id >= {bounds[0]} AND id < {bounds[1]}"
            f" AND usage_id >= {bounds[0]} AND usage_id < {bounds[1]}"
        )
        text = "\n".join(plan.scalars())

    assert f"usage_{day:%Y_%m_%d}" in text
    assert "default" not in text
    assert f"{day + timedelta(days=1):%Y_%m_%d}" not in text


def test_the_keys_of_a_partition_keep_no_room_for_what_never_comes_between(
    postgres_database: Database,
) -> None:
    names = tuple(f"{table}_{database_day(postgres_database):%Y_%m_%d}" for table in PARTITIONED)

    with postgres_database.reading() as session:
        options = session.connection().exec_driver_sql(
            "SELECT reloptions FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indisprimary AND indrelid = ANY (%s::regclass[])",
            (list(names),),
        )
        assert list(options.scalars()) == [["fillfactor=100"]] * len(PARTITIONED)


def test_a_reader_that_never_ends_puts_the_partition_off(without_today: Database) -> None:
    with without_today.reading() as reader:
        reader.connection().exec_driver_sql("SELECT count(*) FROM usage").scalar()

        with pytest.raises(Unavailable, match="lock timeout"):
            prepare_days(without_today)

    assert prepare_days(without_today) != []


def test_the_instant_of_an_id_is_a_day_in_utc() -> None:
    partition = DayPartition("usage", datetime(2026, 11, 21, tzinfo=UTC).date())

    assert partition.name == "usage_2026_11_21"
    assert partition.end_id - partition.first_id == 1 << DAY_BITS

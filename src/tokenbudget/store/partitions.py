"""The partitions of usage and charges, one a UTC day of recording, on PostgreSQL alone.

An id of usage holds the day in which its transaction began by the database's own clock, above a
number of the sequence, so that the day follows from the id and ids rise with time. It owns that
form and the partitions; it refuses to remove any.

Rows of a day that has no partition yet go to the default partition, where every query finds them.
Making the day's partition moves them there; of days gone by they stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

DAY_BITS: Final = 36
"""Ids stay below 2**53, which JSON readers keep exact, until the year 2328."""

DAYS_AHEAD: Final = 7
DAY_SECONDS: Final = 86_400
PARTITION_LOCK: Final = 0x70B3
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '5s'"
EPOCH: Final = date(1970, 1, 1)
PARTITIONED: Final = {"usage": "id", "charges": "usage_id"}
PRESENT: Final = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s)"
)
PRIMARY_KEY: Final = (
    "SELECT indexrelid::regclass::text FROM pg_index"
    " WHERE indrelid = to_regclass(%s) AND indisprimary"
)
NEXT_IDS: Final = f"""
SELECT array_agg(id) FROM (
    SELECT (floor(extract(epoch FROM now()) / {DAY_SECONDS})::bigint << {DAY_BITS})
        | (nextval('usage_id_seq') & {2**DAY_BITS - 1}) AS id
    FROM generate_series(1, %s)
) AS given
"""
"""One row: fetching them one by one takes longer than giving them out."""


@dataclass(frozen=True, slots=True)
class DayPartition:
    """The partition of one table for one day."""

    table: str
    day: date

    @property
    def name(self) -> str:
        """Give its name, such as ``usage_2026_11_21``."""
        return f"{self.table}_{self.day:%Y_%m_%d}"

    @property
    def first_id(self) -> int:
        """Give the lowest id of usage it may hold."""
        return first_id_of(self.day)

    @property
    def end_id(self) -> int:
        """Give the lowest id of usage of the day after."""
        return first_id_of(self.day + timedelta(days=1))


def first_id_of(day: date) -> int:
    """Give the lowest id of usage recorded on a day."""
    return (day - EPOCH).days << DAY_BITS


def give_ids(connection: Connection, count: int) -> list[int]:
    """Give ids for usage recorded in this transaction, rising."""
    ids: list[int] | None = connection.exec_driver_sql(NEXT_IDS, (count,)).scalar_one()
    return sorted(ids or ())


def list_partitions(connection: Connection) -> list[str]:
    """Give the names of all partitions, default ones included."""
    return [
        name
        for table in PARTITIONED
        for name in sorted(connection.exec_driver_sql(PRESENT, (table,)).scalars())
    ]


def make_partitions(connection: Connection) -> list[str]:
    """Make the partitions of today and the coming days that are missing, and give their names.

    Of several callers one does it and the others wait. It gives up after seconds, for a later try,
    when somebody reads the default partition all that time.
    """
    tables = [table for table in PARTITIONED if _is_there(connection, table)]
    if not tables:
        return []
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PARTITION_LOCK})")
    connection.exec_driver_sql(LOCK_TIMEOUT)
    today = datetime.fromtimestamp(_database_seconds(connection), UTC).date()
    made = []
    for table in tables:
        present = set(connection.exec_driver_sql(PRESENT, (table,)).scalars())
        if _default_of(table) not in present:
            connection.exec_driver_sql(
                f"CREATE TABLE {_default_of(table)} PARTITION OF {table} DEFAULT"
            )
        for ahead in range(DAYS_AHEAD + 1):
            partition = DayPartition(table, today + timedelta(days=ahead))
            if partition.name not in present:
                _make(connection, partition)
                made.append(partition.name)
    return made


def _make(connection: Connection, partition: DayPartition) -> None:
    """Make a partition of what the default partition holds of its day, if it holds anything.

    It is made aside and then attached. Only the default partition is locked, for moments, so that
    nothing comes into it meanwhile that should have been moved.
    """
    table, name = partition.table, partition.name
    bounds: dict[str, Any] = {"first": partition.first_id, "end": partition.end_id}
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS)")
    connection.exec_driver_sql(f"LOCK TABLE {_default_of(table)} IN ACCESS EXCLUSIVE MODE")
    moved = (
        f"WITH moved AS (DELETE FROM {_default_of(table)} WHERE {PARTITIONED[table]} >= :first"
        f" AND {PARTITIONED[table]} < :end RETURNING *) INSERT INTO {name} SELECT * FROM moved"
    )
    connection.execute(sa.text(moved), bounds)
    connection.exec_driver_sql(
        f"ALTER TABLE {table} ATTACH PARTITION {name}"
        f" FOR VALUES FROM ({partition.first_id}) TO ({partition.end_id})"
    )
    # Ids rise: room kept in the midst of their index would stay empty.
    primary_key = connection.exec_driver_sql(PRIMARY_KEY, (name,)).scalar_one()
    connection.exec_driver_sql(f"ALTER INDEX {primary_key} SET (fillfactor = 100)")


def _default_of(table: str) -> str:
    return f"{table}_default"


def _is_there(connection: Connection, table: str) -> bool:
    statement = "SELECT to_regclass(%s) IS NOT NULL"
    return bool(connection.exec_driver_sql(statement, (table,)).scalar())


def _database_seconds(connection: Connection) -> int:
    statement = "SELECT floor(extract(epoch FROM now()))::bigint"
    return int(connection.exec_driver_sql(statement).scalar_one())

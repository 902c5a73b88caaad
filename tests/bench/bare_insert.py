"""The yardstick of ingest: the rows a server has written, written again by sqlite3 alone.

The same usage, charges, keys and rollup additions go in the same transactions into an equal empty
database with the same pragmas. They are made up before the clock starts.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from tests.server_process import COMMAND
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.store.db import SQLITE_CACHE_KIBIBYTES, SQLITE_CHECKPOINT_PAGES

PARENTS: Final = ("sources", "dimension_sets", "price_rows", "price_lists")
ROLLUP_KEY: Final = ("grain_seconds", "starts_at", "dimension_set_id", "price_row_id")
PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    f"cache_size=-{SQLITE_CACHE_KIBIBYTES}",
    f"wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}",
)
BATCHES: Final = """
SELECT min(id), max(id), count(*) FROM written.usage GROUP BY recorded_at ORDER BY min(id)
"""
ADDITIONS: Final = """
SELECT ?1 AS grain_seconds, occurred_at - occurred_at % (?1 * 1000000) AS starts_at,
       usage.dimension_set_id, coalesce(price_row_id, 0) AS price_row_id,
       sum(coalesce(list_nanos, 0)), sum(coalesce(contracted_nanos, 0)),
       sum(coalesce(effective_nanos, 0)), count(*), sum(effective_nanos IS NULL),
       sum(coalesce(input_tokens, 0)), sum(coalesce(cached_input_tokens, 0)),
       sum(coalesce(cache_write_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
           + coalesce(cache_write_1h_tokens, 0)),
       sum(coalesce(output_tokens, 0)), sum(coalesce(reasoning_tokens, 0))
FROM written.usage JOIN written.charges ON usage_id = id
WHERE id BETWEEN ?2 AND ?3
GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one transaction."""

    usage: Sequence[Any]
    charges: Sequence[Any]
    keys: Sequence[Any]
    additions: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Bare:
    """How many events a bare writer stores in a second, and in a second of processor time."""

    a_second: float
    a_core_second: float


def inserted_events(written: Path, directory: Path, *, events: int) -> Bare:
    """Give how quickly a bare writer stores the first events of a ledger."""
    subprocess.run(
        [COMMAND, "db", "upgrade"],
        env={**os.environ, "TOKENBUDGET_DATA_DIR": str(directory)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    target = directory / "tokenbudget.db"
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS written", (str(written),))
        # Finding the keys of a batch by their usage would else read all of them for each.
        connection.execute("CREATE INDEX written.by_usage ON event_keys (usage_id)")
        for table in PARENTS:
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM written.{table}")
        seconds, core_seconds, stored = 0.0, 0.0, 0
        for batch in _batches(connection, events):
            started, core_started = perf_counter(), process_time()
            _write(connection, batch)
            seconds += perf_counter() - started
            core_seconds += process_time() - core_started
            stored += len(batch.usage)
    return Bare(stored / seconds, stored / core_seconds)


def _batches(connection: sqlite3.Connection, events: int) -> Iterator[Batch]:
    taken = 0
    for first, last, count in connection.execute(BATCHES).fetchall():
        if taken >= events:
            return
        taken += count
        span = (first, last)
        yield Batch(
            usage=_rows(connection, "SELECT * FROM written.usage WHERE id BETWEEN ? AND ?", span),
            charges=_rows(
                connection, "SELECT * FROM written.charges WHERE usage_id BETWEEN ? AND ?", span
            ),
            keys=_rows(
                connection,
                "SELECT * FROM written.event_keys WHERE usage_id BETWEEN ? AND ? ORDER BY key",
                span,
            ),
            additions=[
                row
                for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS)
                for row in _rows(connection, ADDITIONS, (grain, *span))
            ],
        )


def _write(connection: sqlite3.Connection, batch: Batch) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        f"{_insert('event_keys', len(batch.keys[0]))} ON CONFLICT DO NOTHING", batch.keys
    )
    connection.executemany(_insert("usage", len(batch.usage[0])), batch.usage)
    connection.executemany(_insert("charges", len(batch.charges[0])), batch.charges)
    connection.executemany(_add_to_rollups(), batch.additions)
    connection.execute("COMMIT")


def _rows(connection: sqlite3.Connection, statement: str, parameters: tuple[int, ...]) -> list[Any]:
    return connection.execute(statement, parameters).fetchall()


def _insert(table: str, width: int) -> str:
    return f"INSERT INTO main.{table} VALUES ({', '.join('?' * width)})"


def _add_to_rollups() -> str:
    columns = (*ROLLUP_KEY, *MEASURES)
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in MEASURES)
    return (
        f"INSERT INTO main.rollups ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT DO UPDATE SET {sums}"
    )

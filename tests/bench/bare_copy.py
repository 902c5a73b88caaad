"""The yardstick of ingest on PostgreSQL: the rows a server has written, copied by psycopg alone.

The same usage, charges, keys and rollup additions go in the same transactions into an equal empty
database, all by COPY: keys and rollups through temporary tables, as nothing is quicker. They are
made up before the clock starts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psycopg
from psycopg.types.json import Json

from tests.server_process import COMMAND
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.settings import POSTGRES_PREFIX

BATCHES: Final = "SELECT min(id), max(id), count(*) FROM usage GROUP BY recorded_at ORDER BY 1"
ROWS: Final = {
    "usage": "SELECT * FROM usage WHERE id BETWEEN %s AND %s",
    "charges": "SELECT * FROM charges WHERE usage_id BETWEEN %s AND %s",
    "event_keys": "SELECT * FROM event_keys WHERE usage_id BETWEEN %s AND %s ORDER BY key",
}
ROLLUP_COLUMNS: Final = (
    "grain_seconds",
    "starts_at",
    "dimension_set_id",
    "price_row_id",
    *MEASURES,
)
ADDITIONS: Final = """
SELECT grain, occurred_at - occurred_at %% (grain * 1000000::bigint), usage.dimension_set_id,
       coalesce(price_row_id, 0),
       sum(coalesce(list_nanos, 0))::bigint, sum(coalesce(contracted_nanos, 0))::bigint,
       sum(coalesce(effective_nanos, 0))::bigint, count(*),
       count(*) FILTER (WHERE effective_nanos IS NULL), sum(coalesce(input_tokens, 0)),
       sum(coalesce(cached_input_tokens, 0)),
       sum(coalesce(cache_write_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
           + coalesce(cache_write_1h_tokens, 0)),
       sum(coalesce(output_tokens, 0)), sum(coalesce(reasoning_tokens, 0))
FROM usage JOIN charges ON usage_id = id, (VALUES (%s), (%s)) AS grains (grain)
WHERE id BETWEEN %s AND %s AND usage_id BETWEEN %s AND %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
PARENTS: Final = ("sources", "dimension_sets", "price_rows", "price_lists")


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one transaction, by table."""

    events: int
    rows: dict[str, Sequence[Any]]


def copied_events_a_second(written: str, target: str, directory: Path, *, events: int) -> float:
    """Give how many of the first events of one ledger are copied to another one in a second."""
    subprocess.run(
        [COMMAND, "db", "upgrade"],
        env={
            **os.environ,
            "TOKENBUDGET_DATA_DIR": str(directory),
            "TOKENBUDGET_DATABASE_URL": target,
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    with closing(_connect(written)) as source, closing(_connect(target)) as sink:
        # Finding the keys of a batch by their usage would else read all of them for each.
        source.execute("CREATE INDEX ON event_keys (usage_id)")
        cursor = sink.cursor()
        for table in PARENTS:
            _copy(cursor, table, source.execute(f"SELECT * FROM {table}".encode()).fetchall())
        for table in ("event_keys", "rollups"):
            cursor.execute(
                f"CREATE TEMP TABLE new_{table} (LIKE {table}) ON COMMIT DELETE ROWS".encode()
            )
        sink.commit()
        seconds, stored = 0.0, 0
        for batch in _batches(source, events):
            started = perf_counter()
            _write(cursor, batch)
            sink.commit()
            seconds += perf_counter() - started
            stored += batch.events
    return stored / seconds


def _batches(source: psycopg.Connection[Any], events: int) -> Iterator[Batch]:
    taken = 0
    for first, last, count in source.execute(BATCHES).fetchall():
        if taken >= events:
            return
        taken += count
        rows: dict[str, Sequence[Any]] = {
            table: source.execute(text.encode(), (first, last)).fetchall()
            for table, text in ROWS.items()
        }
        grains = (QUARTER_HOUR_SECONDS, DAY_SECONDS)
        bounds = (*grains, first, last, first, last)
        rows["rollups"] = source.execute(ADDITIONS, bounds).fetchall()
        yield Batch(count, rows)


def _write(cursor: psycopg.Cursor[Any], batch: Batch) -> None:
    _copy(cursor, "new_event_keys", batch.rows["event_keys"])
    cursor.execute("INSERT INTO event_keys SELECT * FROM new_event_keys ON CONFLICT DO NOTHING")
    _copy(cursor, "usage", batch.rows["usage"])
    _copy(cursor, "charges", batch.rows["charges"])
    columns = ", ".join(ROLLUP_COLUMNS)
    _copy(cursor, f"new_rollups ({columns})", batch.rows["rollups"])
    sums = ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in MEASURES)
    cursor.execute(
        f"INSERT INTO rollups ({columns}) SELECT {columns} FROM new_rollups ON CONFLICT"
        f" (grain_seconds, starts_at, dimension_set_id, price_row_id) DO UPDATE SET {sums}".encode()
    )


def _copy(cursor: psycopg.Cursor[Any], target: str, rows: Sequence[Any]) -> None:
    with cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row([_plain(value) for value in row])


def _plain(value: Any) -> Any:
    return Json(value) if isinstance(value, dict | list) else value


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect("postgresql://" + url.removeprefix(POSTGRES_PREFIX))

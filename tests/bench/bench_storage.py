"""How many bytes a stored event takes with its charge, its keys and all their indexes.

Measured on the database as ingest has written it, in batches of 500: nothing is vacuumed or
rebuilt first. Rollups are shown apart, since they grow with time and dimensions, not with events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from tests.bench import BenchRow
from tests.bench.databases import ENGINES, database_url
from tests.bench.traffic import EVENTS_PER_BATCH, call_of
from tokenbudget.bootstrap import make_ledger, open_services, prepare_database
from tokenbudget.formats.events import Door, parse_items
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordUsage
from tokenbudget.settings import load_settings
from tokenbudget.store.db import Database

EVENTS, QUICK_EVENTS = 300_000, 30_000
EVENTS_PER_SECOND: Final = 50
START: Final = datetime(2026, 11, 20, tzinfo=UTC)
SEED: Final = 2026
CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
MAX_BYTES: Final = {"SQLite": 250, "PostgreSQL": 300}
PARTS: Final = ("usage", "charges", "event_keys")
SQLITE_SIZES: Final = """
SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY tbl_name
"""
POSTGRES_SIZES: Final = """
SELECT coalesce(parent.relname, child.relname), sum(pg_total_relation_size(child.oid))
FROM pg_class child
LEFT JOIN pg_inherits ON inhrelid = child.oid LEFT JOIN pg_class parent ON parent.oid = inhparent
WHERE child.relkind = 'r' AND child.relnamespace = 'public'::regnamespace GROUP BY 1
"""


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give the bytes an event takes on both engines."""
    events = QUICK_EVENTS if is_quick else EVENTS
    return [row for engine in ENGINES for row in _measure(engine, events)]


def _measure(engine: str, events: int) -> list[BenchRow]:
    with TemporaryDirectory() as parent:
        directory = Path(parent)
        with database_url(engine, directory) as url:
            sizes = _sizes_after(url, directory, events)
    total = sum(sizes[part] for part in PARTS) / events
    shares = ", ".join(f"{part} {sizes[part] / events:.0f}" for part in PARTS)
    return [
        BenchRow(
            name=f"storage on {engine}: bytes an event ({shares}), {events:,} events",
            figure=total,
            unit="bytes",
            baseline=None,
            ratio=None,
            target=f"<= {MAX_BYTES[engine]}",
            passed=total <= MAX_BYTES[engine],
        ),
        BenchRow(
            name=f"storage on {engine}: bytes of rollups an event",
            figure=sizes["rollups"] / events,
            unit="bytes",
            baseline=None,
            ratio=None,
            target="shown",
            passed=True,
        ),
    ]


def _sizes_after(url: str, directory: Path, events: int) -> Mapping[str, int]:
    """Record the events and give the bytes of each table with its indexes."""
    settings = load_settings(database_url=url, data_dir=directory)
    services = open_services(settings)
    prepare_database(services)
    ledger = make_ledger(services)
    door = Door(services.clock(), timedelta(days=1))
    for bodies in _batches(events):
        ledger.apply([RecordUsage(parse_items(bodies, door), Caller())])
    sizes = _sqlite_sizes(directory) if services.database.is_sqlite else _sizes(services.database)
    services.database.close()
    return sizes


def _sqlite_sizes(directory: Path) -> dict[str, int]:
    with closing(sqlite3.connect(directory / "tokenbudget.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return dict(connection.execute(SQLITE_SIZES).fetchall())


def _sizes(database: Database) -> dict[str, int]:
    with database.reading() as session:
        rows = session.connection().exec_driver_sql(POSTGRES_SIZES)
        return {name: int(size) for name, size in rows}


def _batches(events: int) -> Iterator[list[bytes]]:
    random = Random(SEED)
    for first in range(0, events, EVENTS_PER_BATCH):
        yield [msgspec.json.encode(_event(random, first + n)) for n in range(EVENTS_PER_BATCH)]


def _event(random: Random, number: int) -> dict[str, object]:
    provider, model, tags = call_of(random)
    occurred_at = START + timedelta(microseconds=number * 1_000_000 // EVENTS_PER_SECOND)
    input_tokens = random.randrange(50, 16_000)
    output_tokens = random.randrange(5, 1_500)
    return {
        "event_id": _ulid(random, occurred_at),
        "source": "checkout-api",
        "occurred_at": occurred_at,
        "provider": provider,
        "model": model,
        "operation_id": _ulid(random, occurred_at),
        "response_id": "chatcmpl-" + _word(random, LETTERS, 29) if random.random() < 0.5 else None,
        "usage": {
            "input_tokens": input_tokens,
            "cached_input_tokens": random.choice((0, input_tokens // 2)),
            "output_tokens": output_tokens,
            "reasoning_tokens": random.choice((0, output_tokens // 2)),
        },
        "latency_ms": random.randrange(200, 9_000),
        "tags": tags,
    }


def _ulid(random: Random, instant: datetime) -> str:
    milliseconds = int(instant.timestamp() * 1_000)
    places = [CROCKFORD[milliseconds >> shift & 31] for shift in range(45, -5, -5)]
    return "".join(places) + _word(random, CROCKFORD, 16)


def _word(random: Random, letters: str, length: int) -> str:
    return "".join(random.choices(letters, k=length))

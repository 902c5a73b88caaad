"""How many events a second one server takes in over HTTP, and whether its memory stays flat.

Batches of 500 JSON events over four connections, four budgets that count every event, an API key;
SQLite commits with synchronous=FULL, PostgreSQL with synchronous_commit on. The bare writers store
the same rows in the same transactions and do nothing else. A core equivalent is a second of
processor time of the server, whatever thread used it; that of PostgreSQL's own processes is not in.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench import BenchRow
from tests.bench.bare_copy import copied_events_a_second
from tests.bench.bare_insert import Bare, inserted_events
from tests.bench.databases import database_url
from tests.bench.load import Load, Orders, send_load
from tests.bench.traffic import BUDGETS, EVENTS_PER_BATCH
from tests.server_process import COMMAND, serving

CONNECTIONS: Final = 4
STAGES, QUICK_STAGES = 5, 2
EVENTS_PER_STAGE, QUICK_EVENTS_PER_STAGE = 200_000, 20_000
BARE_EVENTS: Final = 100_000
MIN_EVENTS_A_SECOND: Final = {"SQLite": 12_000, "PostgreSQL": 10_000}
MIN_EVENTS_A_CORE_SECOND: Final = 10_000
MIN_RATIO: Final = 0.40
MAX_GROWTH: Final = 1.15
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of ingest, and what the server's memory was at its end."""

    load: Load
    cpu_seconds: float
    resident_bytes: int


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give events a second beside a bare writer on both engines, and memory at both ends."""
    count = QUICK_STAGES if is_quick else STAGES
    events = QUICK_EVENTS_PER_STAGE if is_quick else EVENTS_PER_STAGE
    return [*_run_on_sqlite(count, events), *_run_on_postgres(count, events)]


def _run_on_sqlite(count: int, events: int) -> list[BenchRow]:
    with TemporaryDirectory() as parent:
        directory = Path(parent)
        written = directory / "ledger"
        written.mkdir()
        with database_url("SQLite", written) as url:
            stages = _ingest(directory, url, count, events)
        bare = inserted_events(written / "tokenbudget.db", directory / "bare", events=BARE_EVENTS)
    return [
        *_speed_rows("SQLite", stages, events, bare.a_second),
        _core_row(stages, events, bare),
        _memory_row(stages, events),
    ]


def _run_on_postgres(count: int, events: int) -> list[BenchRow]:
    with TemporaryDirectory() as parent:
        directory = Path(parent)
        with database_url("PostgreSQL", directory) as url:
            stages = _ingest(directory, url, count, events)
            with database_url("PostgreSQL", directory, name="bare") as target:
                bare = copied_events_a_second(url, target, directory / "bare", events=BARE_EVENTS)
    return _speed_rows("PostgreSQL", stages, events, bare)


def _ingest(directory: Path, url: str, count: int, events: int) -> list[Stage]:
    budgets = directory / "budgets.toml"
    budgets.write_text(BUDGETS)
    subprocess.run(
        [COMMAND, "budgets", "apply", str(budgets)],
        env={
            **os.environ,
            "TOKENBUDGET_DATA_DIR": str(directory),
            "TOKENBUDGET_DATABASE_URL": url,
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    batches = events // EVENTS_PER_BATCH
    stages = []
    with serving(directory / "server", auth="keys", database_url=url) as server:
        key = server.first_key()
        for number in range(count):
            before = server.cpu_seconds()
            orders = Orders(
                port=server.port,
                path="/v1/events",
                body="batch",
                connections=CONNECTIONS,
                requests=batches,
                first_number=number * batches,
                api_key=key,
            )
            load = send_load(orders)
            used = server.cpu_seconds() - before
            stages.append(Stage(load, used, server.resident_bytes()))
    return stages


def _speed_rows(engine: str, stages: list[Stage], events: int, bare: float) -> list[BenchRow]:
    a_second = events * len(stages) / sum(stage.load.seconds for stage in stages)
    least = MIN_EVENTS_A_SECOND[engine]
    return [
        BenchRow(
            name=f"ingest over HTTP on {engine}, batches of {EVENTS_PER_BATCH},"
            f" {events * len(stages):,} events, durable",
            figure=a_second,
            unit="events/s",
            baseline=None,
            ratio=None,
            target=f">= {least:,}",
            passed=_are_clean(stages) and a_second >= least,
        ),
        BenchRow(
            name=f"ingest over HTTP on {engine}, beside a bare writer of the same rows",
            figure=a_second,
            unit="events/s",
            baseline=bare,
            ratio=a_second / bare,
            target=f">= {MIN_RATIO:.2f}",
            passed=a_second >= MIN_RATIO * bare,
        ),
    ]


def _core_row(stages: list[Stage], events: int, bare: Bare) -> BenchRow:
    a_core_second = events * len(stages) / sum(stage.cpu_seconds for stage in stages)
    ratio = a_core_second / bare.a_core_second
    is_quick_enough = a_core_second >= MIN_EVENTS_A_CORE_SECOND or ratio >= MIN_RATIO
    return BenchRow(
        name="ingest on SQLite: events a core second, beside a bare executemany",
        figure=a_core_second,
        unit="events/s",
        baseline=bare.a_core_second,
        ratio=ratio,
        target=f">= {MIN_EVENTS_A_CORE_SECOND:,} or >= {MIN_RATIO:.2f}",
        passed=_are_clean(stages) and is_quick_enough,
    )


def _are_clean(stages: list[Stage]) -> bool:
    return all(stage.load.is_clean for stage in stages)


def _memory_row(stages: list[Stage], events: int) -> BenchRow:
    first, last = stages[0].resident_bytes, stages[-1].resident_bytes
    return BenchRow(
        name=f"ingest: memory after {events * len(stages):,} events, beside {events:,}",
        figure=last / MEGABYTE,
        unit="MB",
        baseline=first / MEGABYTE,
        ratio=last / first,
        target=f"<= {MAX_GROWTH:.2f}×",
        passed=last <= first * MAX_GROWTH,
    )

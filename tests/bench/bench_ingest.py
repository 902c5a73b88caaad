"""How many events a second one server takes in over HTTP, and whether its memory stays flat.

Batches of 500 JSON events over four connections, SQLite committing with synchronous=FULL, four
budgets that count every event, an API key. A core equivalent is a second of processor time of the
server, whatever thread used it.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench import BenchRow
from tests.bench.bare_insert import bare_events_a_second
from tests.bench.load import Load, Orders, send_load
from tests.bench.traffic import BUDGETS, EVENTS_PER_BATCH
from tests.server_process import COMMAND, serving

CONNECTIONS: Final = 4
STAGES, QUICK_STAGES = 5, 2
EVENTS_PER_STAGE, QUICK_EVENTS_PER_STAGE = 200_000, 20_000
BARE_EVENTS: Final = 100_000
MIN_EVENTS_A_CORE_SECOND: Final = 10_000
MIN_RATIO: Final = 0.35
MAX_GROWTH: Final = 1.15
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of ingest, and what the server's memory was at its end."""

    load: Load
    cpu_seconds: float
    resident_bytes: int


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give events a second, events a core second beside a bare insert, and memory at both ends."""
    count = QUICK_STAGES if is_quick else STAGES
    events = QUICK_EVENTS_PER_STAGE if is_quick else EVENTS_PER_STAGE
    with TemporaryDirectory() as parent:
        directory = Path(parent)
        stages = _ingest(directory, count, events)
        written = directory / "ledger" / "tokenbudget.db"
        bare = bare_events_a_second(written, directory / "bare", events=BARE_EVENTS)
    return [*_speed_rows(stages, events * count, bare), _memory_row(stages, events)]


def _ingest(directory: Path, count: int, events: int) -> list[Stage]:
    ledger = directory / "ledger"
    budgets = directory / "budgets.toml"
    budgets.write_text(BUDGETS)
    subprocess.run(
        [COMMAND, "budgets", "apply", str(budgets)],
        env={**os.environ, "TOKENBUDGET_DATA_DIR": str(ledger)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    batches = events // EVENTS_PER_BATCH
    stages = []
    with serving(ledger, auth="keys") as server:
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


def _speed_rows(stages: list[Stage], events: int, bare: float) -> list[BenchRow]:
    a_second = events / sum(stage.load.seconds for stage in stages)
    a_core_second = events / sum(stage.cpu_seconds for stage in stages)
    ratio = a_core_second / bare
    is_clean = all(stage.load.is_clean for stage in stages)
    return [
        BenchRow(
            name=f"ingest over HTTP, batches of {EVENTS_PER_BATCH}, {events:,} events, durable",
            figure=a_second,
            unit="events/s",
            baseline=None,
            ratio=None,
            target="every batch accepted",
            passed=is_clean,
        ),
        BenchRow(
            name="ingest: events a core second, beside a bare executemany",
            figure=a_core_second,
            unit="events/s",
            baseline=bare,
            ratio=ratio,
            target=f">= {MIN_EVENTS_A_CORE_SECOND:,} or >= {MIN_RATIO:.2f}",
            passed=is_clean and (a_core_second >= MIN_EVENTS_A_CORE_SECOND or ratio >= MIN_RATIO),
        ),
    ]


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

"""``GET /v1/costs`` by team and feature for a month, over HTTP, at N and at 10 N events.

``bench_costs`` measures the same question without the web server and tells how it grows.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench import BenchRow
from tests.bench.bench_costs import EVENTS, MANY_TIMES, MAX_P95_MS, MONTH, fill
from tests.bench.load import Orders, send_load
from tests.server_process import COMMAND, serving
from tokenbudget.domain.periods import format_instant
from tokenbudget.store.db import Database

CALLS: Final = 200
WARM_UP_CALLS: Final = 10
PATH: Final = (
    f"/v1/costs?start={format_instant(MONTH.start)}&end={format_instant(MONTH.end)}"
    "&group_by=team&group_by=feature&granularity=none"
)


def run() -> list[BenchRow]:
    """Give the p95 at both sizes, one call after the other."""
    with TemporaryDirectory() as directory:
        return [
            _row(Path(directory) / str(events), events) for events in (EVENTS, EVENTS * MANY_TIMES)
        ]


def _row(directory: Path, events: int) -> BenchRow:
    _prepare(directory, events)
    with serving(directory) as server:
        send_load(Orders(server.port, PATH, "none", 1, WARM_UP_CALLS))
        load = send_load(Orders(server.port, PATH, "none", 1, CALLS))
    return BenchRow(
        name=f"costs over HTTP: month by team and feature, {events:,} events, p95",
        figure=load.p95_ms,
        unit="ms",
        baseline=None,
        ratio=None,
        target=f"<= {MAX_P95_MS} ms",
        passed=load.is_clean and load.p95_ms <= MAX_P95_MS,
    )


def _prepare(directory: Path, events: int) -> None:
    subprocess.run(
        [COMMAND, "db", "upgrade"],
        env={**os.environ, "TOKENBUDGET_DATA_DIR": str(directory)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    database = Database(f"sqlite:///{directory / 'tokenbudget.db'}", sqlite_synchronous="NORMAL")
    fill(database, events)
    database.close()

"""How many spans a second one server takes in as OTLP protobuf, load generator included."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench import BenchRow
from tests.bench.databases import database_url
from tests.bench.load import Orders, send_load
from tests.bench.telemetry import CALLS_PER_TRACE, SPANS_PER_EXPORT, SPANS_PER_TRACE
from tests.bench.traffic import BUDGETS
from tests.server_process import COMMAND, serving

CONNECTIONS: Final = 4
SPANS, QUICK_SPANS = 200 * SPANS_PER_EXPORT, 20 * SPANS_PER_EXPORT
MIN_SPANS_A_SECOND: Final = 8_000


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give spans a second on both engines."""
    spans = QUICK_SPANS if is_quick else SPANS
    return [_run_on(engine, spans) for engine in ("SQLite", "PostgreSQL")]


def _run_on(engine: str, spans: int) -> BenchRow:
    with TemporaryDirectory() as parent, database_url(engine, Path(parent)) as url:
        directory = Path(parent)
        budgets = directory / "budgets.toml"
        budgets.write_text(BUDGETS)
        environment = {"TOKENBUDGET_DATA_DIR": parent, "TOKENBUDGET_DATABASE_URL": url}
        subprocess.run(
            [COMMAND, "budgets", "apply", str(budgets)],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with serving(directory / "server", database_url=url) as server:
            orders = Orders(
                port=server.port,
                path="/v1/traces",
                body="spans",
                connections=CONNECTIONS,
                requests=spans // SPANS_PER_EXPORT,
            )
            before = server.cpu_seconds()
            load = send_load(orders)
            used = server.cpu_seconds() - before
    a_second = spans / load.seconds
    return BenchRow(
        name=f"OTLP protobuf on {engine}, exports of {SPANS_PER_EXPORT} spans,"
        f" {CALLS_PER_TRACE} of {SPANS_PER_TRACE} model calls ({used / spans * 1e6:.0f} us CPU)",
        figure=a_second,
        unit="spans/s",
        baseline=None,
        ratio=None,
        target=f">= {MIN_SPANS_A_SECOND:,}",
        passed=load.is_clean and a_second >= MIN_SPANS_A_SECOND,
    )

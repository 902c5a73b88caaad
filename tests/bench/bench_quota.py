"""How many quota checks a second one server decides, beside an endpoint that decides nothing.

Four budgets match every check, 32 connections each have one check under way, SQLite commits with
synchronous=FULL before any is answered, an API key is asked for. The two servers are measured in
turn, so that a slow moment of the machine falls on both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench import BenchRow
from tests.bench.load import Load, Orders, send_load
from tests.bench.traffic import BUDGETS
from tests.server_process import COMMAND, ServerProcess, serving

PLAIN_SERVER: Final = (sys.executable, "-m", "tests.bench.plain_app")
CONNECTIONS: Final = 32
ROUNDS, REQUESTS = 9, 6_000
QUICK_ROUNDS, QUICK_REQUESTS = 3, 2_000
MIN_RATIO: Final = 0.70
MICROS_PER_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Round:
    """One run of load on one server; ``cpu_micros`` is what a request cost its processes."""

    load: Load
    cpu_micros: float


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give checks a second beside the plain endpoint, the processor time of each, and the p99."""
    rounds, requests = (QUICK_ROUNDS, QUICK_REQUESTS) if is_quick else (ROUNDS, REQUESTS)
    with TemporaryDirectory() as directory:
        ours, plain = _measure(Path(directory), rounds, requests)
    ratio = median(
        own.load.a_second / empty.load.a_second for own, empty in zip(ours, plain, strict=True)
    )
    own_cpu = median(each.cpu_micros for each in ours)
    plain_cpu = median(each.cpu_micros for each in plain)
    return [
        BenchRow(
            name="quota check, 4 budgets, 32 connections, durable",
            figure=median(each.load.a_second for each in ours),
            unit="checks/s",
            baseline=median(each.load.a_second for each in plain),
            ratio=ratio,
            target=f">= {MIN_RATIO:.2f} of an empty endpoint",
            passed=ratio >= MIN_RATIO and all(each.load.is_clean for each in ours),
        ),
        BenchRow(
            name="quota check: processor time",
            figure=own_cpu,
            unit="us/check",
            baseline=plain_cpu,
            ratio=own_cpu / plain_cpu,
            target="shown beside it",
            passed=True,
        ),
        BenchRow(
            name="quota check: p99",
            figure=median(each.load.p99_ms for each in ours),
            unit="ms",
            baseline=median(each.load.p99_ms for each in plain),
            ratio=None,
            target="shown beside it",
            passed=True,
        ),
    ]


def _measure(directory: Path, rounds: int, requests: int) -> tuple[list[Round], list[Round]]:
    data = directory / "ledger"
    _apply_budgets(directory / "budgets.toml", data)
    with (
        serving(data, auth="keys") as server,
        serving(directory / "plain", command=PLAIN_SERVER) as plain_server,
    ):
        key = server.first_key()
        for each in (server, plain_server):
            _run_round(each, key, requests // 2)
        pairs = [
            (_run_round(server, key, requests), _run_round(plain_server, key, requests))
            for _ in range(rounds)
        ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _apply_budgets(file: Path, data: Path) -> None:
    file.write_text(BUDGETS)
    subprocess.run(
        [COMMAND, "budgets", "apply", str(file)],
        env={**os.environ, "TOKENBUDGET_DATA_DIR": str(data)},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _run_round(server: ServerProcess, key: str, requests: int) -> Round:
    before = server.cpu_seconds()
    load = send_load(
        Orders(server.port, "/v1/quota/check", "check", CONNECTIONS, requests, api_key=key)
    )
    used = server.cpu_seconds() - before
    return Round(load, used / requests * MICROS_PER_SECOND)

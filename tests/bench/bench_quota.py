"""How many quota checks a second a server decides, beside an endpoint that decides nothing.

Of 1,000 budgets four match every check; one of them has a counter for each of 100,000 tenants. 32
connections each have one check under way, SQLite commits with synchronous=FULL and PostgreSQL with
synchronous_commit on before any is answered, an API key is asked for. Hot checks are all alike, so
that all move the same four counters. The two servers are measured in turn, so that a slow moment of
the machine falls on both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, Literal

import msgspec

from tests.bench import BenchRow
from tests.bench.databases import ENGINES, database_url
from tests.bench.load import Load, Orders, send_load
from tests.bench.traffic import CHECKED_TENANTS, budgets_for_checks, hot_check_bodies, tenant_name
from tests.server_process import COMMAND, ServerProcess, serving
from tokenbudget.bootstrap import make_ledger, open_services
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.placement import Caller
from tokenbudget.services.quota import CheckQuota
from tokenbudget.settings import load_settings

PLAIN_SERVER: Final = (sys.executable, "-m", "tests.bench.plain_app")
CONNECTIONS, FEW_CONNECTIONS = 32, 8
ROUNDS, REQUESTS = 7, 6_000
QUICK_ROUNDS, QUICK_REQUESTS = 3, 2_000
QUICK_TENANTS: Final = 2_000
TENANTS_AT_ONCE: Final = 1_000
MIN_RATIO: Final = {"SQLite": 0.90, "PostgreSQL": 0.80}
MIN_HOT_RATIO: Final = 1.20
MAX_P99_MS: Final = 10
MAX_CPU_MICROS: Final = 350
MIN_GAIN_OF_TWO: Final = 1.5
MICROS_PER_SECOND: Final = 1_000_000

Body = Literal["check", "hot check"]


@dataclass(frozen=True, slots=True)
class Round:
    """One run of load on one server; ``cpu_micros`` is what a request cost its processes."""

    load: Load
    cpu_micros: float


@dataclass(frozen=True, slots=True)
class Place:
    """Two servers with a key for ours, and how much load to send in how many rounds."""

    server: ServerProcess
    plain: ServerProcess
    key: str
    rounds: int
    requests: int

    def compare(self, body: Body, connections: int = CONNECTIONS) -> list[tuple[Round, Round]]:
        """Give rounds of load on our server, each with one on the plain one."""
        run = partial(_run_round, body=body, connections=connections, key=self.key)
        return [
            (run(self.server, requests=self.requests), run(self.plain, requests=self.requests))
            for _ in range(self.rounds)
        ]


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give checks a second beside the plain endpoint on both engines, and what two workers gain."""
    rows = [row for engine in ENGINES for row in _measure(engine, is_quick=is_quick)]
    return [*rows, _gain_of_two(is_quick=is_quick)]


def _measure(engine: str, *, is_quick: bool) -> list[BenchRow]:
    with _opened(engine, is_quick=is_quick) as place:
        spread = place.compare("check")
        hot = place.compare("hot check")
        few = place.compare("check", FEW_CONNECTIONS)
    return [
        _ratio_row(f"quota check on {engine}, 4 of 1,000 budgets", spread, MIN_RATIO[engine]),
        _ratio_row(f"quota check on {engine}, hot rows", hot, MIN_HOT_RATIO),
        _cpu_row(engine, spread),
        _p99_row(engine, few),
    ]


def _gain_of_two(*, is_quick: bool) -> BenchRow:
    by_workers = {}
    for workers in (1, 2):
        with _opened("PostgreSQL", workers=workers, is_quick=is_quick) as place:
            by_workers[workers] = _speed([own for own, _ in place.compare("check")])
    gain = by_workers[2] / by_workers[1]
    return BenchRow(
        name="quota check on PostgreSQL, two workers beside one",
        figure=by_workers[2],
        unit="checks/s",
        baseline=by_workers[1],
        ratio=gain,
        target=f">= {MIN_GAIN_OF_TWO} (load and database share {os.cpu_count()} cores)",
        passed=gain >= MIN_GAIN_OF_TWO,
    )


@contextmanager
def _opened(engine: str, *, is_quick: bool, workers: int = 1) -> Iterator[Place]:
    """Give both servers, ours with its budgets and counters, each having answered some checks."""
    rounds, requests = (QUICK_ROUNDS, QUICK_REQUESTS) if is_quick else (ROUNDS, REQUESTS)
    with TemporaryDirectory() as parent, database_url(engine, Path(parent)) as url:
        directory = Path(parent)
        _apply_budgets(directory, url)
        _check_for_tenants(directory, url, QUICK_TENANTS if is_quick else CHECKED_TENANTS)
        with (
            serving(directory, auth="keys", database_url=url, workers=str(workers)) as server,
            serving(directory / "plain", command=PLAIN_SERVER) as plain,
        ):
            place = Place(server, plain, server.first_key(), rounds, requests)
            for each in (server, plain):
                _run_round(
                    each, body="check", connections=CONNECTIONS, key=place.key, requests=requests
                )
            yield place


def _apply_budgets(directory: Path, url: str) -> None:
    file = directory / "budgets.toml"
    file.write_text(budgets_for_checks())
    subprocess.run(
        [COMMAND, "budgets", "apply", str(file)],
        env={
            **os.environ,
            "TOKENBUDGET_DATA_DIR": str(directory),
            "TOKENBUDGET_DATABASE_URL": url,
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _check_for_tenants(directory: Path, url: str, tenants: int) -> None:
    """Let every tenant have a counter, by a check of its own."""
    services = open_services(load_settings(data_dir=directory, database_url=url))
    ledger = make_ledger(services)
    check = msgspec.json.decode(next(hot_check_bodies()))
    for first in range(0, tenants, TENANTS_AT_ONCE):
        bodies = [
            {**check, "tags": {**check["tags"], "tenant": tenant_name(number).decode()}}
            for number in range(first, min(first + TENANTS_AT_ONCE, tenants))
        ]
        ledger.apply(
            [CheckQuota(parse_check(msgspec.json.encode(body)), Caller()) for body in bodies]
        )
    services.database.close()


def _run_round(
    server: ServerProcess, *, body: Body, connections: int, key: str, requests: int
) -> Round:
    before = server.cpu_seconds()
    load = send_load(
        Orders(server.port, "/v1/quota/check", body, connections, requests, api_key=key)
    )
    used = server.cpu_seconds() - before
    return Round(load, used / requests * MICROS_PER_SECOND)


def _ratio_row(name: str, pairs: list[tuple[Round, Round]], least: float) -> BenchRow:
    ratio = median(own.load.a_second / empty.load.a_second for own, empty in pairs)
    return BenchRow(
        name=f"{name}, {CONNECTIONS} connections, durable",
        figure=_speed([own for own, _ in pairs]),
        unit="checks/s",
        baseline=_speed([empty for _, empty in pairs]),
        ratio=ratio,
        target=f">= {least:.2f} of an empty endpoint",
        passed=ratio >= least and all(own.load.is_clean for own, _ in pairs),
    )


def _cpu_row(engine: str, pairs: list[tuple[Round, Round]]) -> BenchRow:
    own = median(own.cpu_micros for own, _ in pairs)
    plain = median(empty.cpu_micros for _, empty in pairs)
    return BenchRow(
        name=f"quota check on {engine}: processor time",
        figure=own,
        unit="us/check",
        baseline=plain,
        ratio=own / plain,
        target=f"<= {MAX_CPU_MICROS} us",
        passed=own <= MAX_CPU_MICROS,
    )


def _p99_row(engine: str, pairs: list[tuple[Round, Round]]) -> BenchRow:
    own = median(own.load.p99_ms for own, _ in pairs)
    return BenchRow(
        name=f"quota check on {engine}: p99 of {FEW_CONNECTIONS} connections",
        figure=own,
        unit="ms",
        baseline=median(empty.load.p99_ms for _, empty in pairs),
        ratio=None,
        target=f"<= {MAX_P99_MS} ms",
        passed=own <= MAX_P99_MS,
    )


def _speed(rounds: list[Round]) -> float:
    return median(each.load.a_second for each in rounds)

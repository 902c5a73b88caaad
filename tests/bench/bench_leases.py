"""How long a call waits for its permit when a lease is at hand, beside a check over loopback.

A real server leases; calls come about a thousand a second, so that leases are fetched behind them
as they are in use. What is timed is what a wrapped SDK waits for before its call, and the end of
the piece.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns, sleep
from typing import Final

from tests.bench import BenchRow
from tests.server_process import serving
from tokenbudget.client import Call, Client, LeaseTerms, Manner, leased

CALLS, QUICK_CALLS = 20_000, 4_000
CHECKS: Final = 400
PAUSE_SECONDS: Final = 0.001
TERMS: Final = LeaseTerms(calls=1_000)
MOST_MEDIAN_MICROS: Final = 30
MOST_P99_MICROS: Final = 200
NANOS_PER_MICRO: Final = 1_000
CALL: Final = Call(
    "openai",
    "gpt-4o",
    input_tokens=1_000,
    max_output_tokens=200,
    ttl_seconds=60,
    tags={"team": "growth", "feature": "summarise", "tenant": "acme", "environment": "prod"},
)


def run(*, is_quick: bool) -> list[BenchRow]:
    """Give the median and the p99 of a permit from a lease, beside those of a check."""
    with (
        TemporaryDirectory() as directory,
        serving(Path(directory) / "ledger") as server,
        Client(server.url, manner=_manner(Path(directory) / "spool")) as client,
    ):
        _time_permits(client, CHECKS)
        own = _time_permits(client, QUICK_CALLS if is_quick else CALLS)
        with leased(None):
            checked = _time_permits(client, CHECKS)
    return [
        _row("median", _share(own, 0.5), _share(checked, 0.5), MOST_MEDIAN_MICROS),
        _row("p99", _share(own, 0.99), _share(checked, 0.99), MOST_P99_MICROS),
    ]


def _manner(spool: Path) -> Manner:
    return Manner(spool_directory=spool, timeout_seconds=5.0, lease=TERMS)


def _time_permits(client: Client, count: int) -> list[int]:
    """Give the nanoseconds that each of so many calls waited, sorted."""
    waited = []
    for _ in range(count):
        begun = perf_counter_ns()
        permit = client._admit(CALL)
        if permit.lease is not None:
            permit.lease.end()
        waited.append(perf_counter_ns() - begun)
        sleep(PAUSE_SECONDS)
    return sorted(waited)


def _share(sorted_nanos: list[int], share: float) -> float:
    return sorted_nanos[int(len(sorted_nanos) * share)] / NANOS_PER_MICRO


def _row(name: str, figure: float, checked: float, most: int) -> BenchRow:
    return BenchRow(
        name=f"permit of a call from a lease: {name}",
        figure=figure,
        unit="us",
        baseline=checked,
        ratio=figure / checked,
        target=f"<= {most} us; beside it a check",
        passed=figure <= most,
    )

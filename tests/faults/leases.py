"""``python -m tests.faults.leases``: what eight processes admit from leases on one hard budget.

Estimates here are upper bounds of the true cost. Overshoot is what was spent, or at any look spent
and held, above the limit; stranded is what nobody uses but is held still when all are closed or
dead; the remainder is what must be granted, to the nano, once nothing is held.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from tests.faults import nursery
from tests.faults.desk import Desk, make_budget, open_desk
from tests.faults.lease_worker import LEASED_CALLS
from tests.faults.overshoot import place_of, require_right_books
from tests.faults.places import ENGINES, Place
from tests.server_process import serving
from tokenbudget.client import Client, Manner

PROCESSES: Final = 8
KILLED: Final = 4
# 256 tokens in and out of the model, which is what a call takes at most.
BOUND: Final = Decimal("0.0032")
NANO: Final = Decimal("0.000000001")
SHARED_LIMIT, KILL_LIMIT = Decimal("2.00"), Decimal("2.50")
LOOK_SECONDS: Final = 0.05
WAIT_SECONDS: Final = 60
SHORT_GRACE: Final = {"hold_grace_seconds": "1", "hold_sweep_interval_seconds": "1"}
HEADING: Final = (
    *("place", "what", "processes", "admitted", "leased", "limit"),
    *("spent", "peak", "overshoot", "stranded", "back after", "remainder"),
)

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Row:
    """One line of the table; money in dollars. ``stranded`` came back after so many seconds."""

    what: str
    processes: int
    admitted: int
    leased: int
    limit: Decimal
    spent: Decimal
    peak: Decimal
    stranded: Decimal
    back_after_seconds: float
    is_remainder_granted: bool

    @property
    def overshoot(self) -> Decimal:
        """Give what went above the limit."""
        return max(Decimal(0), self.spent - self.limit, self.peak - self.limit)

    def cells(self, place: str) -> tuple[object, ...]:
        """Give the cells under HEADING."""
        remainder = "granted" if self.is_remainder_granted else "STUCK"
        counts = (self.processes, self.admitted, self.leased)
        money = (self.limit, self.spent, self.peak, self.overshoot, self.stranded)
        return (
            *(place, self.what),
            *counts,
            *money,
            f"{self.back_after_seconds:.1f} s",
            remainder,
        )


def start_all(url: str, directory: Path, ways: Sequence[str]) -> list[Process]:
    """Start a process for each way, and let them work once all of them are ready."""
    command = (sys.executable, "-m", "tests.faults.lease_worker", url)
    processes = [
        subprocess.Popen(
            (*command, str(directory / f"{way}-{seed}"), way, str(seed)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed, way in enumerate(ways)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
    return processes


async def look_on(desk: Desk, budget_id: str, processes: Sequence[Process]) -> Decimal:
    """Give the most that was spent and held at once while these processes live."""
    peak = Decimal(0)
    while any(process.poll() is None for process in processes):
        settled, held = await standing_of(desk, budget_id)
        peak = max(peak, settled + held)
        await asyncio.sleep(LOOK_SECONDS)
    return peak


async def standing_of(desk: Desk, budget_id: str) -> tuple[Decimal, Decimal]:
    """Give what is settled and what is held of a budget that is not split."""
    standings = (await desk.get(f"/v1/budgets/{budget_id}/status"))["standings"]
    if not standings:
        return Decimal(0), Decimal(0)
    [standing] = standings
    return Decimal(standing["settled"]), Decimal(standing["held"])


async def nothing_is_held(desk: Desk, budget_id: str) -> float:
    """Return once nothing is held any more, with the seconds that it took."""
    begun = monotonic()
    while (await standing_of(desk, budget_id))[1]:
        if monotonic() > begun + WAIT_SECONDS:
            raise TimeoutError(f"something of {budget_id} is held for ever")
        await asyncio.sleep(LOOK_SECONDS)
    return monotonic() - begun


async def share(desk: Desk, url: str, directory: Path) -> Row:
    """Let eight processes spend two dollars from leases of twenty calls, to the last of it."""
    tags = {"team": "share"}
    budget_id = await make_budget(desk, tags, SHARED_LIMIT)
    processes = start_all(url, directory, ["share"] * PROCESSES)
    peak = await look_on(desk, budget_id, processes)
    found = [_result_of(process) for process in processes]
    settled, held = await standing_of(desk, budget_id)
    spent = sum(each["spent"] for each in found) * NANO
    assert settled == spent, (settled, spent)
    return Row(
        f"leases of {LEASED_CALLS} calls, until all is spent",
        processes=PROCESSES,
        admitted=sum(each["made"] for each in found),
        leased=sum(each["leased"] for each in found),
        limit=SHARED_LIMIT,
        spent=spent,
        peak=peak,
        stranded=held,
        back_after_seconds=0.0,
        is_remainder_granted=await desk.fits_exactly(tags, SHARED_LIMIT - settled),
    )


async def die(desk: Desk, url: str, directory: Path) -> Row:
    """Let eight processes spend, four of which are killed amid it, and wait for what they held."""
    tags = {"team": "kill"}
    budget_id = await make_budget(desk, tags, KILL_LIMIT)
    ways = ["die"] * KILLED + ["survive"] * (PROCESSES - KILLED)
    processes = start_all(url, directory, ways)
    peak = await look_on(desk, budget_id, processes)
    assert [_end_of(process) for process in processes[:KILLED]] == [-signal.SIGKILL] * KILLED
    _, stranded = await standing_of(desk, budget_id)
    # What the dead have spooled is sent by whoever comes to their spool.
    for number in range(KILLED):
        manner = Manner(spool_directory=directory / f"die-{number}")
        with Client(url, manner=manner) as heir:
            assert await asyncio.to_thread(heir.flush, float(WAIT_SECONDS))
    found = [_result_of(process) for process in processes[KILLED:]]
    back_after = await nothing_is_held(desk, budget_id)
    spent, _ = await standing_of(desk, budget_id)
    return Row(
        f"{KILLED} of them killed with -9",
        processes=PROCESSES,
        admitted=sum(each["made"] for each in found),
        leased=sum(each["leased"] for each in found),
        limit=KILL_LIMIT,
        spent=spent,
        peak=peak,
        stranded=stranded,
        back_after_seconds=back_after,
        is_remainder_granted=await desk.fits_exactly(tags, KILL_LIMIT - spent),
    )


def _end_of(process: Process) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait()


def _result_of(process: Process) -> dict[str, int]:
    assert process.stdout is not None
    with process.stdout:
        last = process.stdout.read().splitlines()[-1]
    assert process.wait() == 0
    result: dict[str, int] = json.loads(last)
    return result


async def measure_all(url: str, directory: Path) -> list[Row]:
    """Give what came of both; the books of the server must be right."""
    async with open_desk(url, connections=4) as desk:
        rows = [await share(desk, url, directory), await die(desk, url, directory)]
        await require_right_books(desk)
    return rows


def measure(place: Place) -> list[Row]:
    """Give what came of a server with all its workers on the ledger of the place."""
    settings = {**place.settings, **SHORT_GRACE}
    with serving(place.directory, command=nursery.COMMAND, **settings) as server:
        return asyncio.run(measure_all(server.url, place.directory.parent / "spools"))


def print_findings(findings: Mapping[str, Sequence[Row]]) -> None:
    """Print one line a row."""
    lines = [HEADING, *(row.cells(name) for name, rows in findings.items() for row in rows)]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(HEADING))]
    for line in lines:
        print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths, strict=True)))


def main() -> int:
    """Print the findings of every place; 1 when anything was overspent or is stuck."""
    findings = {}
    for engine in ENGINES:
        with TemporaryDirectory() as directory, place_of(engine, Path(directory)) as place:
            findings[engine] = measure(place)
    print_findings(findings)
    found = [row for rows in findings.values() for row in rows]
    return int(any(row.overshoot or not row.is_remainder_granted for row in found))


if __name__ == "__main__":
    sys.exit(main())

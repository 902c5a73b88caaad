"""``python -m tests.faults.overshoot``: what is admitted under load and under kills, and the limit.

Estimates here are upper bounds of the true cost. Overshoot is what a budget granted or spent above
its limit; the remainder is what must still be granted, to the nano, when all is done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, TypeVar

from tests.conftest import DEFAULT_POSTGRES_URL, POSTGRES_URL_VARIABLE
from tests.faults import nursery
from tests.faults.desk import Desk, granted_holds, make_budget, open_desk
from tests.faults.places import ENGINES, Place, postgres_place_in, sqlite_place_in
from tests.server_process import ServerProcess, serving

CENT = Decimal("0.01")
SEED = 5
CALLERS = 200
OVERLAPPING_CHECKS = 2_000
OVERLAPPING_LIMITS = {"company": "40", "team": "22", "feature": "21", "tenant": "10.50"}
TENANTS, CALLERS_PER_TENANT = 60, 6
ROUNDS, CALLERS_PER_ROUND = 10, 40
KILLS_AT_ONCE = {"sqlite": 1, "postgresql": 2}
WORKERS = {"sqlite": "1", "postgresql": "3"}
KILL_LIMIT, KILL_ESTIMATE = Decimal("1.00"), Decimal("0.05")
MOST_DELAY_SECONDS = 0.03
WAIT_SECONDS = 30
COUNTS = ("asked", "admitted", "kills", "amid work")
HEADING = ("place", "what", *COUNTS, "limit", "taken", "overshoot", "remainder")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Row:
    """One line of the table; money in dollars."""

    what: str
    asked: int
    admitted: int
    limit: Decimal
    taken: Decimal
    overshoot: Decimal
    is_remainder_granted: bool
    kills: int = 0
    amid_work: int = 0

    def cells(self, place: str) -> tuple[object, ...]:
        """Give the cells under HEADING."""
        remainder = "granted" if self.is_remainder_granted else "STUCK"
        counts = (self.asked, self.admitted, self.kills, self.amid_work)
        return (place, self.what, *counts, self.limit, self.taken, self.overshoot, remainder)


@dataclass
class Grants:
    """What callers were granted, by budget and split value; it asks nobody."""

    limits: dict[tuple[str, str], Decimal]
    taken: defaultdict[tuple[str, str], Decimal] = field(
        default_factory=lambda: defaultdict(Decimal)
    )

    def room(self, tags: dict[str, str]) -> Decimal:
        """Give what is left for a call with these tags."""
        return min(self.limits[key] - self.taken[key] for key in self._keys(tags))

    def note(self, tags: dict[str, str], estimate: Decimal) -> None:
        """Note a grant in every budget that it counts in."""
        for key in self._keys(tags):
            self.taken[key] += estimate

    def overshoot(self) -> Decimal:
        """Give the most that one budget granted above its limit."""
        return max(max(Decimal(0), self.taken[key] - limit) for key, limit in self.limits.items())

    def _keys(self, tags: dict[str, str]) -> Iterable[tuple[str, str]]:
        return [(name, tags.get(name, "")) for name in OVERLAPPING_LIMITS]


async def share_one_budget(desk: Desk) -> Row:
    """Let 200 callers at once ask for 5 cents of one dollar."""
    tags, limit, estimate = {"team": "one"}, Decimal("1.00"), 5 * CENT
    await make_budget(desk, tags, limit)
    answers = await asyncio.gather(*(desk.check(tags, estimate) for _ in range(CALLERS)))
    granted = granted_holds(answers)
    taken = len(granted) * estimate
    await desk.release(granted[0])
    return Row(
        "200 checks at once, one budget",
        asked=CALLERS,
        admitted=len(granted),
        limit=limit,
        taken=taken,
        overshoot=max(Decimal(0), taken - limit),
        is_remainder_granted=await desk.fits_exactly(tags, limit - taken + estimate),
    )


async def share_overlapping_budgets(desk: Desk) -> Row:
    """Let 2,000 checks of one to nine cents, of two teams, two features, four tenants, compete."""
    random = Random(SEED)
    tags = [
        {"environment": "overlap", "team": team, "feature": feature, "tenant": tenant}
        for team in ("north", "south")
        for feature in ("chat", "search")
        for tenant in ("a", "b", "c", "d")
    ]
    for name, limit in OVERLAPPING_LIMITS.items():
        split = [] if name == "company" else [name]
        selector = {"environment": "overlap"}
        await make_budget(desk, selector, Decimal(limit), name=name, split=split)
    orders = [(random.choice(tags), random.randint(1, 9) * CENT) for _ in range(OVERLAPPING_CHECKS)]
    answers = await asyncio.gather(*(desk.check(*order) for order in orders))

    limits = {
        (name, each.get(name, "")): Decimal(limit)
        for name, limit in OVERLAPPING_LIMITS.items()
        for each in tags
    }
    grants = Grants(limits)
    for (each, estimate), answer in zip(orders, answers, strict=True):
        if answer["decision"] == "allow":
            grants.note(each, estimate)
    row = Row(
        "2,000 checks at once, 4 budgets overlap",
        asked=len(orders),
        admitted=len(granted_holds(answers)),
        limit=Decimal(OVERLAPPING_LIMITS["company"]),
        taken=grants.taken["company", ""],
        overshoot=grants.overshoot(),
        is_remainder_granted=True,
    )
    fits = [await _takes_the_rest(desk, grants, each) for each in tags]
    return replace(row, is_remainder_granted=all(fits))


async def _takes_the_rest(desk: Desk, grants: Grants, tags: dict[str, str]) -> bool:
    room = grants.room(tags)
    grants.note(tags, max(Decimal(0), room))
    return await desk.fits_exactly(tags, room)


async def meet_new_tenants(desk: Desk) -> Row:
    """Let six first callers of each of 60 tenants ask for 3 of their 10 cents, all at once."""
    limit, estimate = 10 * CENT, 3 * CENT
    await make_budget(desk, {"team": "new"}, limit, split=["tenant"])
    names = [f"tenant-{number}" for number in range(TENANTS)]
    callers = names * CALLERS_PER_TENANT
    Random(SEED).shuffle(callers)
    tags = [{"team": "new", "tenant": name} for name in callers]
    answers = await asyncio.gather(*(desk.check(each, estimate) for each in tags))
    admitted = Counter(
        name for name, answer in zip(callers, answers, strict=True) if answer["decision"] == "allow"
    )
    fits = [
        await desk.fits_exactly({"team": "new", "tenant": name}, limit - admitted[name] * estimate)
        for name in names
    ]
    return Row(
        "first calls of 60 tenants, split budget",
        asked=len(callers),
        admitted=admitted.total(),
        limit=TENANTS * limit,
        taken=admitted.total() * estimate,
        overshoot=max(max(Decimal(0), count * estimate - limit) for count in admitted.values()),
        is_remainder_granted=all(fits),
    )


class Killer:
    """Kills workers of a nursery, never the nursery."""

    def __init__(self, server: ServerProcess, at_once: int) -> None:
        self.server = server
        self.at_once = at_once
        self.random = Random(SEED)
        self.kills = 0
        self.amid_work = 0

    async def during(self, works: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
        """Give what the works give; workers are killed before, or as, the first of them ends."""
        tasks = [asyncio.ensure_future(work) for work in works]
        delay = self.random.random() * MOST_DELAY_SECONDS
        await asyncio.wait(tasks, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        for worker in self.random.sample(await self._workers(), self.at_once):
            os.kill(worker, signal.SIGKILL)
            self.kills += 1
            self.amid_work += not all(task.done() for task in tasks)
        return await asyncio.gather(*tasks)

    async def _workers(self) -> list[int]:
        process_id = self.server.process.pid
        deadline = monotonic() + WAIT_SECONDS
        while monotonic() < deadline:
            workers = nursery.workers_of(process_id)
            if len(workers) >= self.at_once:
                return workers
            await asyncio.sleep(0)
        raise TimeoutError("there are no workers to kill")


@dataclass(frozen=True)
class Round:
    """What a round under kills came to; money in dollars."""

    granted: Decimal
    spent: Decimal
    is_as_told: bool
    is_remainder_granted: bool


async def survive_round(desk: Desk, killer: Killer, name: str) -> Round:
    """Let 40 callers at once ask for 5 cents of a new dollar, then end what they got.

    Half is spent (one to five cents each), half given back; workers are killed during both.
    """
    tags = {"team": name}
    budget_id = await make_budget(desk, tags, KILL_LIMIT)
    checks = [desk.check(tags, KILL_ESTIMATE) for _ in range(CALLERS_PER_ROUND)]
    granted = granted_holds(await killer.during(checks))
    half = len(granted) // 2
    spending = {hold: index % 5 + 1 for index, hold in enumerate(granted[:half])}
    endings = [desk.settle(hold, tags, cents) for hold, cents in spending.items()]
    endings += [desk.release(hold) for hold in granted[half:]]
    await killer.during(endings)
    spent = sum(spending.values()) * CENT
    [standing] = (await desk.get(f"/v1/budgets/{budget_id}/status"))["standings"]
    return Round(
        granted=len(granted) * KILL_ESTIMATE,
        spent=spent,
        is_as_told=(Decimal(standing["settled"]), Decimal(standing["held"])) == (spent, Decimal(0)),
        is_remainder_granted=await desk.fits_exactly(tags, KILL_LIMIT - spent),
    )


async def survive_kills(desk: Desk, killer: Killer) -> Row:
    """Go round for round, and give what all of them came to."""
    rounds = [await survive_round(desk, killer, f"round-{number}") for number in range(ROUNDS)]
    assert all(each.is_as_told for each in rounds), rounds
    granted = sum((each.granted for each in rounds), Decimal(0))
    return Row(
        f"{CALLERS_PER_ROUND} checks at once, workers killed",
        asked=ROUNDS * CALLERS_PER_ROUND,
        admitted=int(granted / KILL_ESTIMATE),
        limit=ROUNDS * KILL_LIMIT,
        taken=granted,
        overshoot=max(max(Decimal(0), each.granted - KILL_LIMIT) for each in rounds),
        is_remainder_granted=all(each.is_remainder_granted for each in rounds),
        kills=killer.kills,
        amid_work=killer.amid_work,
    )


@dataclass(frozen=True)
class Truth:
    """What became of a budget whose estimates were a fifth of the cost; money in dollars."""

    limit: Decimal
    calls: int
    held: Decimal
    settled: Decimal
    overage: Decimal
    following: str


async def estimate_too_low(desk: Desk) -> Truth:
    """Let 200 callers at once hold a cent of one dollar each, then spend five."""
    tags, limit, estimate, true_cents = {"team": "low"}, Decimal("1.00"), CENT, 5
    budget_id = await make_budget(desk, tags, limit)
    answers = await asyncio.gather(*(desk.check(tags, estimate) for _ in range(CALLERS)))
    granted = granted_holds(answers)
    await asyncio.gather(*(desk.settle(hold, tags, true_cents) for hold in granted))
    [standing] = (await desk.get(f"/v1/budgets/{budget_id}/status"))["standings"]
    following = await desk.check(tags, estimate)
    return Truth(
        limit=limit,
        calls=len(granted),
        held=len(granted) * estimate,
        settled=Decimal(standing["settled"]),
        overage=-Decimal(standing["headroom"]),
        following=following["decision"],
    )


async def measure_under_load(url: str) -> tuple[list[Row], Truth]:
    """Give what came of asking a server that is well; its books must be right."""
    async with open_desk(url) as desk:
        rows = [
            await share_one_budget(desk),
            await share_overlapping_budgets(desk),
            await meet_new_tenants(desk),
        ]
        truth = await estimate_too_low(desk)
        await require_right_books(desk)
    return rows, truth


async def measure_under_kills(server: ServerProcess, at_once: int) -> Row:
    """Give the row of a nursery whose workers are killed; its books must be right."""
    async with open_desk(server.url, connections=CALLERS_PER_ROUND) as desk:
        row = await survive_kills(desk, Killer(server, at_once))
        await require_right_books(desk)
    return row


async def require_right_books(desk: Desk) -> None:
    """Fail unless every counter is what its rows say."""
    check = await desk.get("/v1/selfcheck")
    assert check["ok"], check


def measure(place: Place) -> tuple[list[Row], Truth]:
    """Give what came of a real server and then of a nursery, on the ledger of the place."""
    with serving(place.directory, **place.settings) as server:
        rows, truth = asyncio.run(measure_under_load(server.url))
    settings = {**place.settings, "workers": WORKERS[place.engine]}
    with serving(place.directory, command=nursery.COMMAND, **settings) as server:
        rows.append(asyncio.run(measure_under_kills(server, KILLS_AT_ONCE[place.engine])))
    return rows, truth


def print_findings(findings: Mapping[str, tuple[list[Row], Truth]]) -> None:
    """Print one line a row, then what became of estimates that were too low, by place."""
    lines = [HEADING, *(row.cells(name) for name, (rows, _) in findings.items() for row in rows)]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(HEADING))]
    for line in lines:
        print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths, strict=True)))
    for name, (_, truth) in findings.items():
        print(
            f"{name}: estimates a fifth of the cost: limit {truth.limit}, {truth.calls} calls held "
            f"{truth.held}, posted {truth.settled}, overage {truth.overage}, "
            f"next call: {truth.following}"
        )


@contextmanager
def place_of(engine: str, directory: Path) -> Iterator[Place]:
    """Give the place of an engine; PostgreSQL is the server that tests use."""
    if engine == "sqlite":
        yield sqlite_place_in(directory)
        return
    url = os.environ.get(POSTGRES_URL_VARIABLE, DEFAULT_POSTGRES_URL)
    with postgres_place_in(directory, "postgresql+psycopg:" + url.partition(":")[2]) as place:
        yield place


def main() -> int:
    """Print the findings of every place; 1 when anything was overspent or is stuck."""
    findings = {}
    for engine in ENGINES:
        with TemporaryDirectory() as directory, place_of(engine, Path(directory)) as place:
            findings[engine] = measure(place)
    print_findings(findings)
    found = [row for rows, _ in findings.values() for row in rows]
    return int(any(row.overshoot or not row.is_remainder_granted for row in found))


if __name__ == "__main__":
    sys.exit(main())

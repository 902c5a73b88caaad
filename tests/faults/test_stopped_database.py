"""A database that goes away under load: closed budgets refuse, open ones allow and log.

When it is back the books are right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.faults import nursery
from tests.faults.desk import Desk, Reply, make_budget, make_usage, open_desk
from tests.faults.outages import Gate
from tests.faults.overshoot import require_right_books
from tests.faults.places import Place
from tests.server_process import serving

CLOSED, OPEN = {"team": "closed"}, {"team": "open"}
CALLERS_PER_TEAM = 8
LIMIT, ESTIMATE_CENTS = Decimal(1_000), 2
CENT = Decimal("0.01")
BEFORE_SECONDS, AWAY_SECONDS, AFTER_SECONDS = 1, 2, 1
NOTICE_SECONDS = 0.3
WAIT_SECONDS = 20
NOT_CHECKED = "budget_not_checked"


@dataclass
class Traffic:
    """What callers of both teams did until told to stop; each spends what it was allowed."""

    desk: Desk
    is_over: bool = False
    is_away: bool = False
    sent: dict[str, int] = field(default_factory=lambda: {"closed": 0, "open": 0})
    unchecked: int = 0
    surely_away: list[tuple[str, Reply]] = field(default_factory=list)
    spool: list[dict[str, Any]] = field(default_factory=list)
    unlooked_for: list[Reply] = field(default_factory=list)

    async def call_again_and_again(self, tags: dict[str, str]) -> None:
        """Check and, when allowed, report the usage, until all is over."""
        while not self.is_over:
            is_surely_away = self.is_away
            reply = await self._check(tags)
            if is_surely_away and self.is_away:
                self.surely_away.append((tags["team"], reply))
            if reply.status == 503:
                await asyncio.sleep(0.01)
                continue
            answer = reply.json()
            if reply.status != 200 or answer["decision"] != "allow":
                self.unlooked_for.append(reply)
                return
            self.unchecked += answer["hold_id"] is None
            await self._report(make_usage(tags, 1, hold_id=answer["hold_id"]))
            self.sent[tags["team"]] += 1

    async def send_spool(self) -> None:
        """Send what was not taken in, until it is, though some may have been committed."""
        for event in self.spool:
            answer = await self.desk.post("/v1/events", event)
            assert answer["accepted"] + answer["duplicates"] == 1, answer

    async def _report(self, event: dict[str, Any]) -> None:
        reply = await self.desk.request("POST", "/v1/events", event)
        if reply.status != 200:
            self.spool.append(event)
            await asyncio.sleep(0.01)

    async def _check(self, tags: dict[str, str]) -> Reply:
        check = {"tags": tags, "estimate": str(ESTIMATE_CENTS * CENT), "ttl_seconds": 600}
        return await self.desk.request("POST", "/v1/quota/check", check)


@pytest.fixture
def gate(postgres_place: Place) -> Iterator[Gate]:
    """Give the gate before the place's database."""
    url = sa.make_url(postgres_place.database_url)
    gate = Gate(url.host or "127.0.0.1", url.port or 5432)
    yield gate
    gate.close()


def behind(gate: Gate, place: Place) -> Place:
    """Give the place as it is reached through the gate."""
    url = sa.make_url(place.database_url).set(host="127.0.0.1", port=gate.port)
    text = url.render_as_string(hide_password=False)
    return Place(place.directory, {**place.settings, "database_url": text})


async def stop_under_load(url: str, gate: Gate) -> tuple[Traffic, dict[str, dict[str, str]]]:
    """Give what happened to the traffic, and how the budgets stand after it."""
    async with open_desk(url, connections=4 * CALLERS_PER_TEAM) as desk:
        traffic = Traffic(desk)
        await make_budget(desk, CLOSED, LIMIT)
        await make_budget(desk, OPEN, LIMIT, fail_mode="open")
        callers = [
            asyncio.create_task(traffic.call_again_and_again(tags))
            for tags in (CLOSED, OPEN)
            for _ in range(CALLERS_PER_TEAM)
        ]
        await asyncio.sleep(BEFORE_SECONDS)
        await asyncio.to_thread(gate.shut)
        await asyncio.sleep(NOTICE_SECONDS)
        traffic.is_away = True
        await asyncio.sleep(AWAY_SECONDS)
        traffic.is_away = False
        await asyncio.to_thread(gate.open)
        await asyncio.sleep(AFTER_SECONDS)
        traffic.is_over = True
        await asyncio.wait_for(asyncio.gather(*callers), WAIT_SECONDS)
        await traffic.send_spool()
        standings = {
            team: (await desk.get(f"/v1/budgets/budget-{team}/status"))["standings"][0]
            for team in ("closed", "open")
        }
        await require_right_books(desk)
    return traffic, standings


def logged(log: Path) -> list[dict[str, Any]]:
    """Give the lines that say that a call was not checked."""
    lines = [line for line in log.read_text().splitlines() if NOT_CHECKED in line]
    return [msgspec.json.decode(line) for line in lines]


def test_a_stopped_database_is_answered_as_each_budget_says(
    postgres_place: Place, gate: Gate
) -> None:
    place = behind(gate, postgres_place)
    with serving(place.directory, command=nursery.COMMAND, **place.settings) as server:
        traffic, standings = asyncio.run(stop_under_load(server.url, gate))
        lines = logged(server.log)

    away = {
        team: [each for name, each in traffic.surely_away if name == team] for team in standings
    }
    print(
        f"away: {len(away['closed'])} closed checks refused, {len(away['open'])} open ones allowed;"
        f" {traffic.unchecked} unchecked in all, {len(lines)} logged; "
        f"{traffic.sent} events, {len(traffic.spool)} of them sent again"
    )
    assert traffic.unlooked_for == []
    assert len(away["closed"]) > CALLERS_PER_TEAM
    assert {reply.status for reply in away["closed"]} == {503}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in away["closed"])
    assert {reply.json()["fail_mode"] for reply in away["closed"]} == {"closed"}
    assert len(away["open"]) >= CALLERS_PER_TEAM
    assert all(is_unchecked(reply) for reply in away["open"])
    # Each worker logs what it let through, and every such answer arrived.
    assert len(lines) == traffic.unchecked
    assert {tuple(line["budgets"]) for line in lines} == {("budget-open",)}
    for team, standing in standings.items():
        assert Decimal(standing["settled"]) == traffic.sent[team] * CENT


def is_unchecked(reply: Reply) -> bool:
    """Tell whether a call was let through with nothing held, and told so."""
    answer = reply.json()
    codes = [warning["code"] for warning in answer["warnings"]]
    return (reply.status, answer["decision"], answer["hold_id"], codes) == (
        200,
        "allow",
        None,
        [NOT_CHECKED],
    )

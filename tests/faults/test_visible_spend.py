"""What was sent shows at once, in costs and in checks, and a kill right after loses none of it."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic

import httpx

from tests.faults import nursery
from tests.faults.conftest import Place
from tests.faults.desk import make_usage
from tests.server_process import serving

EVENTS_PER_ROUND = 20
ROUNDS = 3
MOST_SECONDS = 1
TIMEOUT_SECONDS = 60
CENT = Decimal("0.01")
TAGS = {"team": "growth"}
BUDGET = {"id": "growth", "limit": "100", "window": "lifetime", "mode": "hard"}
CHECK = {"tags": TAGS, "estimate": "0.01", "dry_run": True}


def settled_by_costs(client: httpx.Client) -> Decimal:
    """Give what /v1/costs says of these days."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    question = {
        "start": (now - timedelta(days=1)).isoformat(),
        "end": (now + timedelta(hours=1)).isoformat(),
        "filter": "team:growth",
    }
    answer = client.get("/v1/costs", params=question).raise_for_status().json()
    return Decimal(answer["totals"]["cost"])


def settled_by_check(client: httpx.Client) -> Decimal:
    """Give what a check says that the budget has settled."""
    answer = client.post("/v1/quota/check", json=CHECK).raise_for_status().json()
    return Decimal(answer["binding"]["settled"])


def seconds_until_seen(client: httpx.Client, expected: Decimal, started: float) -> float:
    """Give how long it took until both said so; it gives up late enough to fail."""
    while monotonic() < started + 2 * MOST_SECONDS:
        if settled_by_costs(client) == settled_by_check(client) == expected:
            break
    return monotonic() - started


def spend_and_watch(url: str, spent: Decimal) -> tuple[Decimal, list[float]]:
    """Give what was spent in all, after some more events, and how long each took to be seen.

    Nobody looks whether the last one was.
    """
    seen = []
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
        for cents in range(1, EVENTS_PER_ROUND + 1):
            started = monotonic()
            client.post("/v1/events", json=make_usage(TAGS, cents)).raise_for_status()
            spent += cents * CENT
            seen.append(seconds_until_seen(client, spent, started))
        client.post("/v1/events", json=make_usage(TAGS, 1)).raise_for_status()
    return spent + CENT, seen


def sees_all(url: str, expected: Decimal) -> bool:
    """Tell whether a server's workers, all of them new, know of all that was spent."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
        return settled_by_costs(client) == settled_by_check(client) == expected


def test_spend_shows_within_a_second_and_survives_a_kill(place: Place) -> None:
    seen, after_kills, spent = [], [], Decimal(0)
    with serving(place.directory, command=nursery.COMMAND, **place.settings) as server:
        httpx.post(f"{server.url}/v1/budgets", json=BUDGET).raise_for_status()
        for _ in range(ROUNDS):
            spent, seconds = spend_and_watch(server.url, spent)
            seen += seconds
            for worker in nursery.workers_of(server.process.pid):
                os.kill(worker, signal.SIGKILL)
            server.wait_until_ready()
            after_kills.append(sees_all(server.url, spent))

    usually = sorted(seen)[len(seen) // 2]
    print(f"{len(seen)} events: shown after {max(seen):.3f} s at most, {usually:.3f} s usually")
    assert max(seen) < MOST_SECONDS
    assert after_kills == [True] * ROUNDS

"""A server that is asked to stop answers what it has taken in, and ends well."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.builders import make_event
from tests.faults.conftest import Place
from tests.server_process import ServerProcess, serving

CALLERS = 40
EVENTS_PER_BATCH = 50
TIMEOUT_SECONDS = 60


def make_batch(caller: int) -> list[dict[str, Any]]:
    """Give the events of one caller, always the same."""
    return [make_event(event_id=f"{caller}-{number}") for number in range(EVENTS_PER_BATCH)]


async def send(client: httpx.AsyncClient, caller: int, done: asyncio.Event) -> int:
    """Give how many events of a caller's batch were acknowledged, 0 when it got no answer."""
    try:
        response = await client.post("/v1/events", json=make_batch(caller))
    except httpx.TransportError:
        return 0
    finally:
        done.set()
    return int(response.json()["accepted"]) if response.status_code == 200 else 0


async def stop_under_load(server: ServerProcess) -> tuple[int, int]:
    """Send from all callers at once and stop the server when the first has its answer.

    Gives how many events were acknowledged, and the exit code.
    """
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_SECONDS) as client:
        first = asyncio.Event()
        callers = [asyncio.create_task(send(client, number, first)) for number in range(CALLERS)]
        await first.wait()
        exit_code = await asyncio.to_thread(server.stop)
        return sum(await asyncio.gather(*callers)), exit_code


def test_what_was_acknowledged_before_the_end_is_in_the_ledger(place: Place) -> None:
    with serving(place.directory, **place.settings) as server:
        acknowledged, exit_code = asyncio.run(stop_under_load(server))
        log = server.log.read_text()
    with serving(place.directory, **place.settings) as server:
        answers = [
            httpx.post(f"{server.url}/v1/events", json=make_batch(number)).json()
            for number in range(CALLERS)
        ]
        check = httpx.get(f"{server.url}/v1/selfcheck", timeout=TIMEOUT_SECONDS).json()

    assert exit_code == 0
    assert "Traceback" not in log
    assert 0 < acknowledged <= sum(answer["duplicates"] for answer in answers)
    assert sum(answer["accepted"] + answer["duplicates"] for answer in answers) == (
        CALLERS * EVENTS_PER_BATCH
    )
    assert check["ok"]

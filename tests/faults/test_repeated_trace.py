"""Sending the same trace again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import httpx
import msgspec

from tests.faults.conftest import Place
from tests.server_process import serving
from tokenbudget.demo.traces import events

BATCHES = 4
EVENTS_PER_BATCH = 1_000
TIMEOUT_SECONDS = 60
BUDGETS: tuple[dict[str, Any], ...] = (
    {"id": "all", "limit": "0.50", "window": "month"},
    {"id": "models", "limit": "1000000", "window": "day", "unit": "tokens", "split_by": ["model"]},
)


def batches(now: datetime) -> Iterator[bytes]:
    """Give the first events of the replayed traces, one event a line."""
    for batch in islice(events(now, batch_events=EVENTS_PER_BATCH), BATCHES):
        yield b"\n".join(msgspec.json.encode(dict(event)) for event in batch)


def send(url: str, now: datetime) -> list[dict[str, Any]]:
    """Give the answers to all batches."""
    headers = {"content-type": "application/x-ndjson"}
    return [
        httpx.post(
            f"{url}/v1/events", content=batch, headers=headers, timeout=TIMEOUT_SECONDS
        ).json()
        for batch in batches(now)
    ]


def figures(url: str, now: datetime) -> dict[str, Any]:
    """Give every figure that a repeated event could change."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        question = {
            "start": (midnight - timedelta(days=120)).isoformat(),
            "end": (midnight + timedelta(days=1)).isoformat(),
            "group_by": ["team", "model"],
        }
        answers = {
            "costs": client.get("/v1/costs", params=question),
            "alerts": client.get("/v1/alerts"),
            **{
                budget["id"]: client.get(f"/v1/budgets/{budget['id']}/status") for budget in BUDGETS
            },
        }
    return {name: answer.raise_for_status().json() for name, answer in answers.items()}


def test_the_same_trace_sent_twice_changes_nothing(place: Place) -> None:
    now = datetime.now(UTC)
    with serving(place.directory, **place.settings) as server:
        for budget in BUDGETS:
            httpx.post(f"{server.url}/v1/budgets", json=budget).raise_for_status()

        first = send(server.url, now)
        before = figures(server.url, now)
        second = send(server.url, now)
        after = figures(server.url, now)

        check = httpx.get(f"{server.url}/v1/selfcheck", timeout=TIMEOUT_SECONDS).json()

    assert sum(answer["accepted"] for answer in first) == BATCHES * EVENTS_PER_BATCH
    assert [answer["accepted"] for answer in second] == [0] * BATCHES
    assert [answer["duplicates"] for answer in second] == [EVENTS_PER_BATCH] * BATCHES
    assert before["costs"]["rows"]
    assert after == before
    assert check["ok"]

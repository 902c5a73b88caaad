"""A server that is killed under load loses nothing it acknowledged and counts nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from random import Random
from time import monotonic, sleep
from typing import Any, Self

import httpx

from tests.builders import make_event
from tests.faults.conftest import Place
from tests.server_process import ServerProcess, free_port, start_server

KILLS = 5
CLIENTS = 4
BATCHES = 120
EVENTS_PER_BATCH = 25
EVENTS = BATCHES * EVENTS_PER_BATCH
RETRY_SECONDS = 0.05
LIMIT_SECONDS = 120
SEED = 7
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
STEP = timedelta(seconds=10)
BUDGET = {"id": "teams", "limit": "1000", "window": "month", "split_by": ["team"]}


@dataclass
class Senders:
    """Clients that send every batch until a server acknowledges it."""

    url: str
    batches: SimpleQueue[list[dict[str, Any]]] = field(default_factory=SimpleQueue)
    acknowledged: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)
    deadline: float = field(default_factory=lambda: monotonic() + LIMIT_SECONDS)

    def send_all(self) -> None:
        """Send batches until none is left."""
        with httpx.Client(base_url=self.url, timeout=LIMIT_SECONDS) as client:
            while True:
                try:
                    batch = self.batches.get_nowait()
                except Empty:
                    return
                self.acknowledged.put(self._send(client, batch))

    def _send(self, client: httpx.Client, batch: list[dict[str, Any]]) -> dict[str, Any]:
        while monotonic() < self.deadline:
            try:
                response = client.post("/v1/events", json=batch)
            except httpx.TransportError:
                sleep(RETRY_SECONDS)
                continue
            if response.status_code == 200:
                answer: dict[str, Any] = response.json()
                return answer
            sleep(RETRY_SECONDS)
        raise TimeoutError("the batch was never acknowledged")


def make_batches() -> list[list[dict[str, Any]]]:
    """Give batches of events of the last hours, no id twice and always the same."""
    start = TODAY - timedelta(hours=10)
    return [
        [
            make_event(
                event_id=f"e-{number}",
                occurred_at=(start + number * STEP).isoformat(),
                provider="openai",
                model="gpt-4o",
                tags={"team": f"team-{number % 6}"},
            )
            for number in range(first, first + EVENTS_PER_BATCH)
        ]
        for first in range(0, EVENTS, EVENTS_PER_BATCH)
    ]


@contextmanager
def sending(senders: Senders) -> Iterator[list[threading.Thread]]:
    """Run the clients, and wait for them in the end."""
    threads = [threading.Thread(target=senders.send_all, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(LIMIT_SECONDS)


class UnluckyServer:
    """A server that is killed and started again at the same address."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.port = free_port()
        self.process = self._start()
        self.url = self.process.url

    def __enter__(self) -> Self:
        """Wait until it answers."""
        self.process.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of it behind."""
        self.process.end()

    def restart_after_kill(self) -> None:
        """Kill it and start it again."""
        self.process.kill()
        self.process = self._start()
        self.process.wait_until_ready()

    def _start(self) -> ServerProcess:
        return start_server(self.place.directory, port=str(self.port), **self.place.settings)


def wait_for_answers(senders: Senders, count: int) -> None:
    """Return once so many batches are acknowledged."""
    while senders.acknowledged.qsize() < count:
        assert monotonic() < senders.deadline, "the clients got no answers"
        sleep(RETRY_SECONDS / 10)


def totals_of_these_days(url: str) -> dict[str, Any]:
    """Give the totals of all costs that the events may have."""
    interval = {
        "start": (TODAY - timedelta(days=2)).isoformat(),
        "end": TODAY.isoformat(),
    }
    response = httpx.get(f"{url}/v1/costs", params=interval, timeout=LIMIT_SECONDS)
    response.raise_for_status()
    totals: dict[str, Any] = response.json()["totals"]
    return totals


def test_every_event_counts_once_although_the_server_is_killed_again_and_again(
    place: Place,
) -> None:
    random = Random(SEED)
    with UnluckyServer(place) as server:
        senders = Senders(server.url)
        httpx.post(f"{server.url}/v1/budgets", json=BUDGET).raise_for_status()
        for batch in make_batches():
            senders.batches.put(batch)

        with sending(senders):
            for kill in range(1, KILLS + 1):
                wait_for_answers(senders, kill * BATCHES // (KILLS + 2) + random.randrange(5))
                sleep(random.random() * RETRY_SECONDS)
                server.restart_after_kill()
        answers = [senders.acknowledged.get() for _ in range(senders.acknowledged.qsize())]

        again = httpx.post(f"{server.url}/v1/events", json=make_batches()[0]).json()
        totals = totals_of_these_days(server.url)
        check = httpx.get(f"{server.url}/v1/selfcheck", timeout=LIMIT_SECONDS).json()

    seen = sum(answer["accepted"] + answer["duplicates"] for answer in answers)
    repeated = sum(answer["duplicates"] for answer in answers)
    print(f"{KILLS} kills: {EVENTS} events sent, {repeated} were already in when sent again")
    assert len(answers) == BATCHES
    assert seen == EVENTS
    assert all(answer["rejected"] == [] for answer in answers)
    assert (again["accepted"], again["duplicates"]) == (0, EVENTS_PER_BATCH)
    assert int(totals["requests"]) == EVENTS
    assert check["ok"], check

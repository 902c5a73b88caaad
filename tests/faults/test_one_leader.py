"""Of two workers one runs the jobs, so that an alert leaves the house once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

import httpx
import msgspec

from tests.builders import make_event
from tests.faults.conftest import Place
from tests.server_process import serving

WAIT_SECONDS = 30
ROUNDS_SECONDS = 4
POLL_SECONDS = 0.05
BUDGET = {"id": "growth", "limit": "0.01", "window": "month", "thresholds": [0.5, 1.0]}


class Receiver(ThreadingHTTPServer):
    """A webhook receiver that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reception)
        self.deliveries: list[tuple[str, Any]] = []


class Reception(BaseHTTPRequestHandler):
    """Takes every delivery."""

    server: Receiver

    def do_POST(self) -> None:
        """Note the delivery and thank for it."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.deliveries.append((self.headers["webhook-id"], msgspec.json.decode(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Give a receiver that listens."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()
    thread.join()


def test_an_alert_is_delivered_once_although_two_workers_run(postgres_place: Place) -> None:
    with receiving() as receiver:
        webhook = {
            "webhook_url": f"http://127.0.0.1:{receiver.server_address[1]}/hook",
            "outbox_interval_seconds": "1",
        }
        with serving(postgres_place.directory, **postgres_place.settings, **webhook) as server:
            httpx.post(f"{server.url}/v1/budgets", json=BUDGET).raise_for_status()
            event = make_event(
                occurred_at=datetime.now(UTC).isoformat(),
                provider="openai",
                model="gpt-4o",
                usage={"input_tokens": 10_000, "output_tokens": 100},
            )
            httpx.post(f"{server.url}/v1/events", json=event).raise_for_status()
            deadline = monotonic() + WAIT_SECONDS
            while not receiver.deliveries and monotonic() < deadline:
                sleep(POLL_SECONDS)
            sleep(ROUNDS_SECONDS)
            alerts = httpx.get(f"{server.url}/v1/alerts").json()

    deliveries = [
        (delivery["budget"], delivery["threshold"]) for _, delivery in receiver.deliveries
    ]
    assert deliveries == [("growth", "1")]
    assert len({identity for identity, _ in receiver.deliveries}) == 1
    assert len(alerts["alerts"]) == 2

"""A service in the place of the real one: it answers what a test wants and keeps what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import Any

import httpx

from tokenbudget.client import AsyncClient, Client, Manner

URL = "http://service.test"
PATIENCE = 10.0
ALLOWED: dict[str, Any] = {
    "decision": "allow",
    "hold_id": "hold-1",
    "estimate": "0.010500000",
    "currency": "USD",
    "limits": {"max_output_tokens": None, "model": None},
    "binding": None,
    "warnings": [],
    "reasons": [],
}
BINDING = {"budget": "small", "headroom": "0.10", "resets_at": "2999-01-01T00:00:00Z"}
DENIED = {
    **ALLOWED,
    "decision": "deny",
    "hold_id": None,
    "binding": BINDING,
    "reasons": [{"code": "budget_exhausted", "detail": "small has 0.10 left"}],
}


def reduced(tokens: int, model: str | None = None, provider: str | None = None) -> dict[str, Any]:
    """Give an answer that leaves so many tokens of output, perhaps of another model."""
    limits = {"max_output_tokens": tokens, "model": model, "provider": provider}
    return {**ALLOWED, "decision": "reduce", "limits": limits, "binding": BINDING}


@dataclass(slots=True)
class FakeService:
    """The next answers to checks, and what was asked and told.

    Checks for several requests are answered as asked where ``lease`` is empty, else by it; their
    holds live no longer than ``most_seconds``. ``lost`` counts answers that do not arrive.
    """

    answer: dict[str, Any] = field(default_factory=lambda: dict(ALLOWED))
    status: int = 200
    events_status: int = 200
    is_down: bool = False
    lease: dict[str, Any] = field(default_factory=dict)
    most_seconds: int = 3_600
    tells_time: bool = True
    lost: int = 0
    delay_seconds: float = 0.0
    leases: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.is_down:
            raise httpx.ConnectError("nobody listens", request=request)
        self.bodies.append(request.content)
        if request.url.path == "/v1/quota/check":
            check = json.loads(request.content)
            if "requests" in check:
                return self._lend(request, check)
            self.checks.append(check)
            return httpx.Response(self.status, json=self.answer)
        if request.url.path.endswith("/release"):
            self.released.append(request.url.path.split("/")[-2])
            return httpx.Response(200, json={})
        events = json.loads(request.content)
        if self.events_status == 200:
            self.events.extend(events)
        return httpx.Response(self.events_status, json={"accepted": len(events), "rejected": []})

    def _lend(self, request: httpx.Request, check: dict[str, Any]) -> httpx.Response:
        """Answer a check for several requests; one that is repeated gets its first answer."""
        self.leases.append(check)
        sleep(self.delay_seconds)
        if self.lost:
            self.lost -= 1
            raise httpx.ReadTimeout("the answer was lost", request=request)
        keys = list(dict.fromkeys(lease["idempotency_key"] for lease in self.leases))
        now = datetime.now(UTC)
        life = timedelta(seconds=min(check["ttl_seconds"], self.most_seconds))
        limits = {name: check.get(name) for name in ("max_output_tokens", "model", "requests")}
        answer = {
            **ALLOWED,
            "hold_id": f"lease-{keys.index(check['idempotency_key']) + 1}",
            "expires_at": (now + life).isoformat(),
            "estimate": str(check["requests"]),
            "limits": limits,
            **self.lease,
        }
        headers = {"date": format_datetime(now, usegmt=True)} if self.tells_time else {}
        return httpx.Response(self.status, json=answer, headers=headers)

    def transport(self) -> httpx.MockTransport:
        """Give the way to it, for both kinds of client."""
        return httpx.MockTransport(self.respond)

    @contextmanager
    def client(self, directory: Path, **manner: Any) -> Iterator[Client]:
        """Give a client of it."""
        chosen = Manner(spool_directory=directory, **manner)
        client = Client(URL, tags={"team": "growth"}, manner=chosen, transport=self.transport())
        with client:
            yield client

    def async_client(self, directory: Path, **manner: Any) -> AsyncClient:
        """Give a client of it for an event loop."""
        chosen = Manner(spool_directory=directory, **manner)
        return AsyncClient(URL, tags={"team": "growth"}, manner=chosen, transport=self.transport())

    def told_by(self, client: Client | AsyncClient) -> list[dict[str, Any]]:
        """Give the events that were told, once all of them have come."""
        assert client.outlet.flush(PATIENCE)
        return self.events


@contextmanager
def listening(service: FakeService) -> Iterator[str]:
    """Give the address of this service on loopback, for clients in processes of their own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer one request."""
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = service.respond(httpx.Request("POST", f"{URL}{self.path}", content=content))
            self.send_response(answer.status_code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The load generator: keep-alive connections, one request on each, in a process of its own.

``send_load`` starts that process, which reads its orders from stdin and prints what it measured.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from statistics import quantiles
from time import perf_counter
from typing import Literal, cast

import msgspec
import uvloop

from tests.bench.telemetry import span_bodies
from tests.bench.traffic import batch_bodies, check_bodies, hot_check_bodies

LOAD_TIMEOUT_SECONDS = 900
HEAD_END = b"\r\n\r\n"
LENGTH_NAME = b"content-length:"


class Orders(msgspec.Struct, frozen=True):
    """What to send: until ``requests`` are answered, over ``connections`` at once."""

    port: int
    path: str
    body: Literal["check", "hot check", "batch", "spans", "none"]
    connections: int
    requests: int
    first_number: int = 0
    api_key: str = ""


class Load(msgspec.Struct, frozen=True):
    """What was measured; ``statuses`` counts the answers by HTTP status."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    statuses: dict[str, int]
    last_answer: str

    @property
    def a_second(self) -> float:
        """Give the requests answered in a second."""
        return self.requests / self.seconds

    @property
    def is_clean(self) -> bool:
        """Tell whether every answer was a 200."""
        return set(self.statuses) == {"200"}


def send_load(orders: Orders) -> Load:
    """Carry out the orders in another process and give what it measured."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=msgspec.json.encode(orders),
        stdout=subprocess.PIPE,
        timeout=LOAD_TIMEOUT_SECONDS,
        check=True,
    )
    return msgspec.json.decode(result.stdout, type=Load)


class Run:
    """The requests of one run and their answers."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.bodies = _bodies(orders)
        self.to_send = orders.requests
        self.under_way = 0
        self.milliseconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.last_answer = b""
        self.finished = asyncio.get_running_loop().create_future()

    def next_request(self) -> bytes | None:
        """Give the bytes of the next request, None when all were given."""
        if self.to_send == 0:
            return None
        self.to_send -= 1
        self.under_way += 1
        body = next(self.bodies)
        return self._head(len(body)) + body

    def note_answer(self, status: str, body: bytes, milliseconds: float) -> None:
        """Count an answer."""
        self.under_way -= 1
        self.statuses[status] += 1
        self.milliseconds.append(milliseconds)
        self.last_answer = body
        if self.under_way == 0 and self.to_send == 0:
            self.finished.set_result(None)

    def fail(self, reason: str) -> None:
        """End the run: a benchmark whose connections break measures nothing."""
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(reason))

    def _head(self, length: int) -> bytes:
        method = "GET" if self.orders.body == "none" else "POST"
        lines = [
            f"{method} {self.orders.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.orders.port}",
            f"Content-Type: application/{'x-protobuf' if self.orders.body == 'spans' else 'json'}",
            f"Content-Length: {length}",
        ]
        if self.orders.api_key:
            lines.append(f"Authorization: Bearer {self.orders.api_key}")
        return "\r\n".join([*lines, "", ""]).encode()


class Connection(asyncio.Protocol):
    """One connection that sends its next request when the last one is answered."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.received = bytearray()
        self.transport: asyncio.WriteTransport | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        # The transports of uvloop have no common base with those of asyncio.
        self.transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request as soon as the answer is complete."""
        self.received += data
        head_end = self.received.find(HEAD_END)
        if head_end < 0:
            return
        end = head_end + len(HEAD_END) + _content_length(self.received[:head_end])
        if len(self.received) < end:
            return
        status = self.received[9:12].decode()
        body = bytes(self.received[head_end + len(HEAD_END) : end])
        self.run.note_answer(status, body, (perf_counter() - self.sent_at) * 1_000)
        del self.received[:end]
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up when the server hung up on a request."""
        self.run.fail(f"the server closed a connection: {exc}")

    def _send(self) -> None:
        request = self.run.next_request()
        if request is not None and self.transport is not None:
            self.sent_at = perf_counter()
            self.transport.write(request)


def _bodies(orders: Orders) -> Iterator[bytes]:
    if orders.body == "check":
        return check_bodies()
    if orders.body == "hot check":
        return hot_check_bodies()
    if orders.body == "spans":
        return span_bodies(orders.first_number)
    return batch_bodies(orders.first_number) if orders.body == "batch" else repeat(b"")


def _content_length(head: bytearray) -> int:
    for line in bytes(head).lower().split(b"\r\n"):
        if line.startswith(LENGTH_NAME):
            return int(line.removeprefix(LENGTH_NAME))
    raise ValueError("the answer has no Content-Length")


async def _carry_out(orders: Orders) -> Load:
    run = Run(orders)
    loop = asyncio.get_running_loop()
    started = perf_counter()
    for _ in range(min(orders.connections, orders.requests)):
        await loop.create_connection(lambda: Connection(run), "127.0.0.1", orders.port)
    await run.finished
    seconds = perf_counter() - started
    cuts = quantiles(run.milliseconds, n=100)
    return Load(
        requests=orders.requests,
        seconds=seconds,
        p50_ms=cuts[49],
        p95_ms=cuts[94],
        p99_ms=cuts[98],
        statuses=dict(run.statuses),
        last_answer=run.last_answer.decode(errors="replace")[:2_000],
    )


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_carry_out(given))))

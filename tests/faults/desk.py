"""A caller of the quota API that is patient with workers that die and databases that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

CONNECTIONS = 200
TIMEOUT_SECONDS = 60
RETRY_SECONDS = 0.02
HOLD_SECONDS = 600
DONE, UNAVAILABLE = (200, 201), 503
NANO = Decimal("0.000000001")
# A million input tokens of this model cost 2.50 dollars.
PROVIDER, MODEL, TOKENS_PER_CENT = "openai", "gpt-4o", 4_000
NUMBERS = count()


class Reply(NamedTuple):
    """What a server answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Give the body, which is JSON."""
        return msgspec.json.decode(self.content)


@dataclass(slots=True)
class Line:
    """One kept connection, or none; hundreds of them cost less than those of a full client."""

    host: str
    port: int
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, content: bytes) -> Reply:
        """Give the reply to one request; raises OSError or EOFError when there is none."""
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self.streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        is_answered = False
        try:
            writer.write(head.encode() + content)
            reply = await _read_reply(reader)
            is_answered = True
        finally:
            if not is_answered:
                self.hang_up()
        return reply

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def _read_reply(reader: asyncio.StreamReader) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    content = await reader.readexactly(int(headers["content-length"]))
    return Reply(int(first.split(" ")[1]), headers, content)


class Desk:
    """Sends each request until it is answered; what is asked twice carries the same id."""

    def __init__(self, url: str, connections: int) -> None:
        address = urlsplit(url)
        self.lines = [Line(address.hostname or "", address.port or 0) for _ in range(connections)]
        self.free = asyncio.Queue[Line]()
        for line in self.lines:
            self.free.put_nowait(line)

    async def request(self, method: str, path: str, body: Any = None) -> Reply:
        """Give the reply to one request on a connection that is free; raises OSError, EOFError."""
        line = await self.free.get()
        content = b"" if body is None else msgspec.json.encode(body)
        try:
            return await asyncio.wait_for(line.request(method, path, content), TIMEOUT_SECONDS)
        finally:
            self.free.put_nowait(line)

    async def post(self, path: str, body: Any) -> Any:
        """Give the answer to a request that is sent again while nobody answers it."""
        return await self._answer("POST", path, body)

    async def get(self, path: str) -> Any:
        """Give the answer to a question, asked as patiently."""
        return await self._answer("GET", path, None)

    async def _answer(self, method: str, path: str, body: Any) -> Any:
        deadline = monotonic() + TIMEOUT_SECONDS
        while monotonic() < deadline:
            try:
                reply = await self.request(method, path, body)
            except (OSError, EOFError):
                reply = None
            if reply is not None and reply.status != UNAVAILABLE:
                assert reply.status in DONE, reply
                return reply.json()
            await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError(f"{path} was never answered")

    async def check(self, tags: dict[str, str], estimate: Decimal) -> dict[str, Any]:
        """Give the answer to a check for so many dollars."""
        check = {
            "provider": PROVIDER,
            "model": MODEL,
            "tags": tags,
            "estimate": str(estimate),
            "ttl_seconds": HOLD_SECONDS,
            "idempotency_key": f"check-{next(NUMBERS)}",
        }
        answer: dict[str, Any] = await self.post("/v1/quota/check", check)
        return answer

    async def settle(self, hold_id: str | None, tags: dict[str, str], cents: int) -> None:
        """Report usage of so many cents; that it was in already is an answer as good as any."""
        answer = await self.post("/v1/events", make_usage(tags, cents, hold_id=hold_id))
        assert answer["accepted"] + answer["duplicates"] == 1, answer

    async def release(self, hold_id: str) -> None:
        """Give a hold back."""
        await self.post(f"/v1/quota/holds/{hold_id}/release", None)

    async def fits_exactly(self, tags: dict[str, str], remainder: Decimal) -> bool:
        """Tell whether this much is granted, and after it nothing more."""
        if remainder < 0:
            return False
        if remainder:
            whole = await self.check(tags, remainder)
            if whole["decision"] != "allow":
                return False
        more = await self.check(tags, NANO)
        return bool(more["decision"] == "deny")


def make_usage(tags: dict[str, str], cents: int, **members: Any) -> dict[str, Any]:
    """Give an event of now that costs so many cents."""
    return {
        "event_id": f"event-{next(NUMBERS)}",
        "occurred_at": datetime.now(UTC).isoformat(),
        "provider": PROVIDER,
        "model": MODEL,
        "usage": {"input_tokens": cents * TOKENS_PER_CENT, "output_tokens": 0},
        "tags": tags,
        **members,
    }


async def make_budget(
    desk: Desk,
    selector: dict[str, str],
    limit: Decimal,
    *,
    name: str = "budget",
    split: Sequence[str] = (),
    fail_mode: str = "closed",
) -> str:
    """Set a hard budget for all time and give its id."""
    budget_id = "-".join((name, *selector.values()))
    budget = {
        "id": budget_id,
        "selector": selector,
        "split_by": split,
        "limit": str(limit),
        "window": "lifetime",
        "mode": "hard",
        "fail_mode": fail_mode,
    }
    await desk.post("/v1/budgets", budget)
    return budget_id


def granted_holds(answers: Iterable[dict[str, Any]]) -> list[str]:
    """Give the holds of what was allowed, each its own; everything else must be a denial."""
    answers = list(answers)
    assert {answer["decision"] for answer in answers} <= {"allow", "deny"}
    granted = [answer["hold_id"] for answer in answers if answer["decision"] == "allow"]
    assert len(set(granted)) == len(granted), "one hold was granted twice"
    return granted


@asynccontextmanager
async def open_desk(url: str, *, connections: int = CONNECTIONS) -> AsyncIterator[Desk]:
    """Give a desk with so many connections to a server."""
    desk = Desk(url, connections)
    try:
        yield desk
    finally:
        for line in desk.lines:
            line.hang_up()

"""Connections that ask for quota: what is answered without the framework is answered the same.

A real uvicorn serves on a socket, since that is what the protocol is part of.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from tests.builders import broken_rules, make_budget, make_check, set_budgets
from tokenbudget.api.app import create_app
from tokenbudget.api.hot_protocol import HotProtocol
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

PATIENCE_SECONDS = 10
CHECK = make_check(max_output_tokens=100)


class Watched:
    """The application, which tells what came to it by way of the framework."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.state = app.state
        self.came: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            self.came.append(scope["method"] + " " + scope["path"])
        await self.app(scope, receive, send)


class Desk:
    """A running server, its application and a key for it."""

    def __init__(self, services: Services, port: int, app: Watched) -> None:
        self.services = services
        self.port = port
        self.app = app
        self.key = create_key(
            services.database, name="app", scopes=["quota"], pinned_tags={}, now=services.clock()
        ).secret

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Give a connection."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as connection:
            yield connection

    def request(self, body: bytes | None = None, **headers: str) -> bytes:
        """Give the bytes of a check; headers by name with underscores."""
        body = json.dumps(CHECK).encode() if body is None else body
        named = {"authorization": f"Bearer {self.key}", "content_length": str(len(body)), **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items() if value]
        head = ["POST /v1/quota/check HTTP/1.1", "host: here", *lines, "", ""]
        return "\r\n".join(head).encode() + body

    def known(self) -> None:
        """Ask once, so that the key is remembered, and forget what came by the framework."""
        with self.connected() as connection:
            connection.sendall(self.request())
            assert read_answer(connection)[0] == 200
        self.app.came.clear()


@pytest.fixture
def desk(services: Services) -> Iterator[Desk]:
    """Give a server with a budget of a dollar."""
    set_budgets(
        services.database, make_budget(id="b", limit="1", mode="hard"), now=services.clock()
    )
    changed = services.settings.model_copy(update={"auth": "keys"})
    app = Watched(create_app(replace(services, settings=changed)))
    config = uvicorn.Config(
        app,
        http=HotProtocol,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = monotonic() + PATIENCE_SECONDS
        while not server.started and monotonic() < deadline:
            sleep(0.01)
        yield Desk(services, server.servers[0].sockets[0].getsockname()[1], app)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Give status, headers and JSON of the next answer, and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"the server hung up after {head!r}"
        head += piece
    first, *lines = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, json.loads(body) if body else None


def ask(desk: Desk, request: bytes) -> tuple[int, dict[str, str], Any]:
    with desk.connected() as connection:
        connection.sendall(request)
        return read_answer(connection)


def test_a_plain_check_does_not_come_by_the_framework(desk: Desk) -> None:
    desk.known()

    status, headers, answer = ask(desk, desk.request())

    assert desk.app.came == []
    assert status == 200
    assert answer["decision"] == "allow"
    assert headers["content-type"] == "application/json"
    assert headers["ratelimit-policy"].startswith('"b";q=1000000;')
    assert "date" in headers


def test_both_ways_give_the_same_answer(desk: Desk) -> None:
    desk.known()

    quick = ask(desk, desk.request())
    slow = ask(desk, desk.request(x_twice="1", X_TWICE="2"))

    assert desk.app.came == ["POST /v1/quota/check"]
    assert slow[0] == quick[0]
    assert set(slow[1]) == set(quick[1])
    assert set(slow[2]) == set(quick[2])
    assert slow[2]["binding"]["held"] > quick[2]["binding"]["held"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_body"),
        (b"", 400, "malformed_body"),
        (b"{}", 422, "invalid_input"),
        (b'{"provider": 1}', 422, "invalid_input"),
        (b'{"provider": "a", "model": "b", "input_tokens": 1, "unknown": 1}', 422, None),
    ],
)
def test_a_bad_check_is_told_what_is_wrong(
    desk: Desk, body: bytes, status: int, code: str | None
) -> None:
    desk.known()

    quick = ask(desk, desk.request(body))
    slow = ask(desk, desk.request(body, x_twice="1", X_TWICE="2"))

    assert desk.app.came == ["POST /v1/quota/check"]
    assert quick[0] == slow[0] == status
    assert quick[1]["content-type"] == "application/problem+json"
    assert quick[2] == slow[2]
    assert code in (None, quick[2]["code"])


def test_a_denial_says_when_to_come_back(desk: Desk) -> None:
    desk.known()
    large = json.dumps({**CHECK, "input_tokens": 10**8}).encode()

    status, headers, answer = ask(desk, desk.request(large))

    assert desk.app.came == []
    assert (status, answer["decision"], answer["hold_id"]) == (200, "deny", None)
    assert int(headers["retry-after"]) > 0


def test_a_check_in_pieces_is_one_check(desk: Desk) -> None:
    desk.known()
    request = desk.request()

    with desk.connected() as connection:
        for piece in (request[:40], request[40:-20], request[-20:-1], request[-1:]):
            connection.sendall(piece)
            sleep(0.05)
        status, _, answer = read_answer(connection)

    assert desk.app.came == []
    assert (status, answer["decision"]) == (200, "allow")


def test_checks_on_one_connection_follow_one_another(desk: Desk) -> None:
    desk.known()

    with desk.connected() as connection:
        answers = []
        for _ in range(3):
            connection.sendall(desk.request())
            answers.append(read_answer(connection))

    assert desk.app.came == []
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert len({answer["hold_id"] for _, _, answer in answers}) == 3


def test_checks_sent_at_once_are_answered_in_their_order(desk: Desk) -> None:
    desk.known()
    bodies = [json.dumps({**CHECK, "max_output_tokens": 100 + n}).encode() for n in range(3)]

    with desk.connected() as connection:
        connection.sendall(b"".join(map(desk.request, bodies)))
        answers = [read_answer(connection)[2] for _ in bodies]

    assert [answer["limits"]["max_output_tokens"] for answer in answers] == [100, 101, 102]


@pytest.mark.parametrize(
    "headers",
    [
        {"content_encoding": "gzip"},
        {"expect": "100-continue"},
        {"connection": "close"},
    ],
)
def test_other_ways_of_asking_are_served_too(desk: Desk, headers: dict[str, str]) -> None:
    desk.known()
    body = json.dumps(CHECK).encode()
    packed = gzip.compress(body) if "content_encoding" in headers else body

    with desk.connected() as connection:
        connection.sendall(desk.request(packed, **headers))
        if "expect" in headers:
            assert read_answer(connection)[0] == 100
        status, answered, answer = read_answer(connection)
        is_closed = answered.get("connection") == "close" and connection.recv(1) == b""

    assert (status, answer["decision"]) == (200, "allow")
    assert is_closed is ("connection" in headers)


def test_a_body_in_chunks_is_read(desk: Desk) -> None:
    desk.known()
    body = json.dumps(CHECK).encode()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    request = desk.request(b"", content_length="", transfer_encoding="chunked") + chunks

    status, _, answer = ask(desk, request)

    assert desk.app.came == ["POST /v1/quota/check"]
    assert (status, answer["decision"]) == (200, "allow")


def test_a_key_that_is_not_known_or_not_allowed_is_refused(desk: Desk) -> None:
    other = create_key(
        desk.services.database,
        name="other",
        scopes=["ingest"],
        pinned_tags={},
        now=desk.services.clock(),
    ).secret

    assert ask(desk, desk.request(authorization="Bearer nobody"))[0] == 401
    assert ask(desk, desk.request(authorization=""))[0] == 401
    assert ask(desk, desk.request(authorization=f"Bearer {other}"))[0] == 403
    assert ask(desk, desk.request(authorization=f"Bearer {other}"))[0] == 403


def test_who_leaves_before_the_body_is_complete_holds_nothing(desk: Desk) -> None:
    desk.known()

    with desk.connected() as connection:
        connection.sendall(desk.request()[:-5])
    status, _, answer = ask(desk, desk.request())

    assert status == 200
    held = 2 * int(answer["estimate"].replace(".", ""))
    assert int(answer["binding"]["held"].replace(".", "")) == held
    assert broken_rules(desk.services.database) == []


def test_other_paths_on_the_same_connection_go_the_usual_way(desk: Desk) -> None:
    desk.known()

    with desk.connected() as connection:
        connection.sendall(desk.request())
        first = read_answer(connection)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n")
        second = read_answer(connection)
        connection.sendall(b"GET /v1/quota/check HTTP/1.1\r\nhost: here\r\n\r\n")
        third = read_answer(connection)

    assert (first[0], second[0], third[0]) == (200, 200, 405)
    assert desk.app.came == ["GET /healthz", "GET /v1/quota/check"]

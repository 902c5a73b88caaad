"""A connection that answers quota checks as soon as they are decided.

By ASGI a request is a task, an event, a scope and four messages between server and application,
which together cost as much as the decision. A plain check needs none of them: it is read when its
body is complete, handed to the writer, and answered in one write by the writer's answer itself.

It owns which requests are plain: ``POST /v1/quota/check`` with a key that is known, a short body
of a stated length and nothing else under way on the connection. Everything else goes uvicorn's way
on the same connection. It refuses to decide or to word an answer; that is in ``quota``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle as Cycle

from tokenbudget.api.access import AppState, find_known_key
from tokenbudget.api.bodies import LARGE_BODY_BYTES
from tokenbudget.api.problems import problem_of_any
from tokenbudget.api.quota import CHECK_PATH, decision_of, quota_headers
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import Unavailable
from tokenbudget.domain.holds import CheckRequest
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.ledger import Answer
from tokenbudget.services.quota import CheckQuota

CHECK_URL: Final = CHECK_PATH.encode()
# A body in an encoding, in chunks or on request is for those who read bodies in general.
UNUSUAL_HEADERS: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})
JSON_HEADER: Final = (b"content-type", b"application/json")
NOBODY_WAITS: Final = asyncio.Event()


class HotProtocol(HttpToolsProtocol):
    """One connection; ``http=`` of uvicorn."""

    def on_headers_complete(self) -> None:
        """Take a plain check, or leave the request to uvicorn."""
        state = _state_behind(self.app) if self.url == CHECK_URL else None
        caller = self._plain_caller(state) if state is not None else None
        if state is None or caller is None:
            super().on_headers_complete()
        else:
            keep_alive = self.parser.should_keep_alive()
            self.cycle = CheckCycle(self, state, caller, keep_alive=keep_alive)

    def on_message_complete(self) -> None:
        """Hand over a plain check, or let uvicorn go on."""
        super().on_message_complete()
        if isinstance(self.cycle, CheckCycle):
            self.cycle.submit()

    def _plain_caller(self, state: AppState) -> Caller | None:
        """Give who asks, None when the request is not a plain check."""
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        previous: Cycle | None = self.cycle
        is_busy = previous is not None and not previous.response_complete
        if is_busy or self.flow.write_paused or self.config.access_log or self.root_path:
            return None
        if self.limit_concurrency is not None or self.parser.should_upgrade():
            return None
        headers = dict(self.headers)
        if len(headers) < len(self.headers) or not UNUSUAL_HEADERS.isdisjoint(headers):
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > LARGE_BODY_BYTES:
            return None
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        key = find_known_key(state, authorization, "quota")
        return None if key is None else key.caller


class CheckCycle(Cycle):
    """A plain check and its answer; to the writer it is what waits for the answer.

    It has of uvicorn's cycle what the connection looks at.
    """

    def __init__(
        self, connection: HotProtocol, state: AppState, caller: Caller, *, keep_alive: bool
    ) -> None:
        self.connection = connection
        self.ledger_state = state
        self.caller = caller
        self.keep_alive = keep_alive
        self.check: CheckRequest | None = None
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = NOBODY_WAITS

    def submit(self) -> None:
        """Read the check and queue it for the writer; what is wrong with it is answered at once."""
        if self.check is not None or self.more_body or self.response_complete:
            return
        try:
            self.check = parse_check(bytes(self.body))
            self.ledger_state.writer.send(CheckQuota(self.check, self.caller), self)
        except Exception as error:
            self.set_exception(error)

    def done(self) -> bool:
        """Tell whether nobody waits for an answer any more."""
        return self.response_complete or self.disconnected

    def set_result(self, answer: Answer) -> None:
        """Send the writer's answer."""
        try:
            self._send_decision(decision_of(answer))
        except Exception as error:
            self._send_problem(error)

    def set_exception(self, error: Exception) -> None:
        """Send what becomes of a check that could not be decided."""
        try:
            if not isinstance(error, Unavailable) or self.check is None:
                raise error
            state = self.ledger_state
            now = state.services.clock()
            self._send_decision(state.fail_modes.answer(self.check, self.caller, error, now=now))
        except Exception as failure:
            self._send_problem(failure)

    def _send_decision(self, decision: dict[str, Any]) -> None:
        headers = quota_headers(decision, self.ledger_state.services.clock())
        named = [(name.encode(), value.encode()) for name, value in headers.items()]
        body = msgspec.json.encode(decision)
        length = (b"content-length", str(len(body)).encode())
        self._send(HTTPStatus.OK, [JSON_HEADER, length, *named], body)

    def _send_problem(self, error: Exception) -> None:
        problem = problem_of_any(error)
        self._send(problem.status_code, problem.raw_headers, bytes(problem.body))

    def _send(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        transport = self.connection.transport
        self.response_complete = True
        if transport.is_closing():
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*self.connection.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        transport.write(b"".join(parts))
        if not self.keep_alive:
            transport.close()
        self.connection.on_response_complete()


def _state_behind(app: object) -> AppState | None:
    """Give the state of our application, None when something stands before it."""
    return getattr(getattr(app, "state", None), "tokenbudget", None)

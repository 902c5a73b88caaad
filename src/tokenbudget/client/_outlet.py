"""The way out for events: the spool, the thread that empties it, and the end of both."""

from __future__ import annotations

import atexit
import logging
import sqlite3
import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

import httpx

from tokenbudget.client._forks import survive_forks
from tokenbudget.client._manner import Manner
from tokenbudget.client._sender import SEND_SECONDS, Sender
from tokenbudget.client._service import headers_of
from tokenbudget.client._spool import Spool

logger = logging.getLogger("tokenbudget.client")

CLOSE_SECONDS: Final = 5.0


class Unfinished(Protocol):
    """A call whose end was not seen yet."""

    def abandon(self) -> None:
        """Take it that nobody will look at the rest."""


class Lender(Protocol):
    """What knows of holds for several calls, and when nothing of one is used any more."""

    def over(self) -> list[str]:
        """Give the holds to be given back, each once, after the events that name them."""

    def close(self) -> None:
        """Let nothing more be used."""


class Outlet:
    """Takes events at once and sends them later; never raises into the application."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        manner: Manner,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        def connect() -> httpx.Client:
            return httpx.Client(
                base_url=url,
                headers=headers_of(api_key),
                timeout=SEND_SECONDS,
                transport=transport,
            )

        self.spool = Spool(
            manner.spool_path(url, api_key),
            max_events=manner.max_spooled,
            max_bytes=manner.max_spooled_bytes,
        )
        self.connect = connect
        self._lender: Lender | None = None
        self._sender = Sender(self.spool, connect, self._over)
        self._unfinished: set[Unfinished] = set()
        self._is_closed = False
        self._closing = threading.Lock()
        atexit.register(self.close)
        survive_forks(self)

    def lend(self, lender: Lender) -> None:
        """Give back what a lender has over, when the events before it were taken."""
        self._lender = lender

    def attend(self) -> None:
        """Look after what was lent, from now on."""
        self._sender.ensure_running()

    def record(self, event: Mapping[str, Any]) -> bool:
        """Spool a usage event; False when the spool has no room and the event was dropped."""
        is_kept = self.spool.add(event)
        self._notice()
        return is_kept

    def leave(self, event: Mapping[str, Any]) -> None:
        """Take an event from a finalizer, which may run in the middle of anything."""
        self._sender.leave(event)

    def give_back(self, hold_id: str) -> None:
        """Have a hold released soon, without waiting for it."""
        self._sender.give_back(hold_id)

    def expect(self, call: Unfinished) -> None:
        """Know of a call that runs, so that the end of the process does not lose it."""
        self._unfinished.add(call)
        self._sender.ensure_running()

    def ended(self, call: Unfinished) -> None:
        """Forget a call that has ended."""
        self._unfinished.discard(call)

    def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Send what waits; False when time ran out or the service did not take it."""
        try:
            return self._sender.flush(timeout_seconds)
        except sqlite3.Error as error:
            logger.warning("the spool cannot be read: %s", error)
            return False

    def close(self) -> None:
        """Send what waits, for a bounded time, and stop; what is left stays on disk."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        atexit.unregister(self.close)
        if self._lender is not None:
            self._lender.close()
        for call in list(self._unfinished):
            call.abandon()
        self._sender.stop()
        self.flush()
        self.spool.close()
        self._sender.close()

    def before_fork(self) -> None:
        """Bring the spool to rest."""
        self.spool.before_fork()

    def after_fork(self, *, is_child: bool) -> None:
        """Go on; a child leaves the parent's calls to the parent and sends by itself."""
        self.spool.after_fork(is_child=is_child)
        if is_child:
            self._unfinished = set()
            self._closing = threading.Lock()
            self._sender.start_anew()

    def _over(self) -> list[str]:
        return [] if self._lender is None else self._lender.over()

    def _notice(self) -> None:
        try:
            self._sender.notice()
        except sqlite3.Error as error:
            logger.warning("the spool cannot be read: %s", error)

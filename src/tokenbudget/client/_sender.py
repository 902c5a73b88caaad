"""The thread that empties the spool. It owns batching, patience and what an answer means.

Nothing it does may hold up the application: it never raises into it and ends with the process.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, Final

import httpx

from tokenbudget.client._service import Deadline, release_path
from tokenbudget.client._spool import Spool, Waiting

logger = logging.getLogger("tokenbudget.client")

EVENTS_PATH: Final = "/v1/events"
BATCH_EVENTS: Final = 500
INTERVAL_SECONDS: Final = 0.5
STOP_SECONDS: Final = 1.0
SEND_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
OK: Final = 200
# The batch as a whole is what the service will not take; one of its events is at fault.
FAULTY_BATCH: Final = frozenset({400, 411, 413, 415, 422})


class Sender:
    """Sends what waits, oldest first, every moment or as soon as a batch is full.

    What must not touch the disk where it comes from (a finalizer, the end of a failed call) is
    left in memory for its thread: events as ``leave``, holds to give back as ``give_back``. The
    holds that ``over`` gives are given back when every event before them was taken.
    """

    def __init__(
        self, spool: Spool, connect: Callable[[], httpx.Client], over: Callable[[], list[str]]
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._over = over
        self._process_id = 0
        self._left: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        self._given_back: SimpleQueue[str] = SimpleQueue()
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the parent's thread, connections and locks, which a fork does not copy."""
        self._http = self._connect()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._batch_events = BATCH_EVENTS
        self._pause_seconds = 0.0
        self._thread: threading.Thread | None = None
        self._left = SimpleQueue()
        self._given_back = SimpleQueue()
        self._parting: deque[tuple[int, str]] = deque()

    def ensure_running(self) -> None:
        """Start the thread, once in each process."""
        if self._process_id == os.getpid():
            return
        with self._starting:
            if self._process_id != os.getpid() and not self._stopping.is_set():
                self._process_id = os.getpid()
                self._thread = threading.Thread(target=self._run, name="tokenbudget", daemon=True)
                self._thread.start()

    def notice(self) -> None:
        """Take note that an event waits."""
        self.ensure_running()
        if len(self._spool) >= self._batch_events:
            self._wake.set()

    def leave(self, event: Mapping[str, Any]) -> None:
        """Take an event in any place, even while memory is collected; the thread spools it."""
        self._left.put(event)

    def give_back(self, hold_id: str) -> None:
        """Have a hold released soon; one that cannot be is left to expire."""
        self._given_back.put(hold_id)
        self.ensure_running()
        self._wake.set()

    def flush(self, timeout_seconds: float) -> bool:
        """Send until nothing waits; False when time ran out or the service cannot take it."""
        deadline = monotonic() + timeout_seconds
        self._pause_seconds = 0.0
        self._drain(deadline)
        while len(self._spool):
            if monotonic() >= deadline:
                return False
            if self.send_once(deadline):
                continue
            if self._pause_seconds:
                return False
            # Another process sends; wait until it is done or gone.
            sleep(POLL_SECONDS)
        self._drain(deadline)
        return True

    def stop(self) -> None:
        """End the thread; what waits stays in the spool for the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._process_id == os.getpid():
            self._thread.join(STOP_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send_once(self, deadline: float | None = None) -> bool:
        """Send one batch; False when it must wait, or when another sends.

        With a deadline it takes no longer, be it for the lock or for the answer.
        """
        seconds = SEND_SECONDS if deadline is None else max(0.0, deadline - monotonic())
        if not self._lock.acquire(timeout=min(seconds, SEND_SECONDS)):
            return False
        try:
            with self._spool.sending() as is_ours:
                if not is_ours:
                    return False
                items = self._spool.oldest(self._batch_events)
                return not items or self._send(items, seconds)
        finally:
            self._lock.release()

    def _run(self) -> None:
        stopping, wake = self._stopping, self._wake
        while not stopping.is_set():
            if self._pause_seconds:
                stopping.wait(self._pause_seconds)
            else:
                wake.wait(INTERVAL_SECONDS)
            wake.clear()
            try:
                self._drain(monotonic() + SEND_SECONDS)
                while not stopping.is_set() and self._has_waiting() and self.send_once():
                    pass
            except sqlite3.Error as error:
                self._must_wait(f"the spool: {error}", None)

    def _has_waiting(self) -> bool:
        """Tell whether an event waits; when none does, the next one need not be patient."""
        if len(self._spool):
            return True
        self._pause_seconds = 0.0
        return False

    def _drain(self, deadline: float) -> None:
        """Spool what was left in memory and release the holds that are given back."""
        # In this order: the events that belong to what is over are in the spool before its mark.
        over = self._over()
        while (event := _next(self._left)) is not None:
            self._spool.add(event)
        if over or self._parting:
            waiting = self._spool.ends()
            self._parting.extend((waiting[1] if waiting else 0, hold_id) for hold_id in over)
            self._part(waiting[0] if waiting else None)
        while monotonic() < deadline and (hold_id := _next(self._given_back)) is not None:
            try:
                ends = {"timeout": Deadline(deadline - monotonic())}
                self._http.post(release_path(hold_id), extensions=ends)
            except (httpx.HTTPError, RuntimeError) as error:
                logger.info("a hold is left to expire: %s", type(error).__name__)

    def _part(self, oldest: int | None) -> None:
        """Let holds be given back whose events were all taken, ``oldest`` being what waits."""
        for _ in range(len(self._parting)):
            try:
                mark, hold_id = self._parting.popleft()
            except IndexError:
                # Whoever flushes has taken the rest.
                return
            if oldest is None or mark < oldest:
                self._given_back.put(hold_id)
            else:
                self._parting.append((mark, hold_id))

    def _send(self, items: Sequence[Waiting], seconds: float) -> bool:
        try:
            response = self._http.post(
                EVENTS_PATH,
                json=[item.event for item in items],
                extensions={"timeout": Deadline(seconds)},
            )
        except (httpx.HTTPError, RuntimeError) as error:
            # A client that was closed meanwhile is a RuntimeError of httpx.
            return self._must_wait(f"{type(error).__name__}: {error}", None)
        status = response.status_code
        if status == OK:
            return self._settle(items, response)
        if status in FAULTY_BATCH and len(items) > 1:
            self._batch_events = len(items) // 2
            return True
        if status in FAULTY_BATCH:
            self._spool.refuse(items[0], f"HTTP {status}: {response.text}")
            return True
        return self._must_wait(f"HTTP {status}", response.headers.get("retry-after"))

    def _settle(self, items: Sequence[Waiting], response: httpx.Response) -> bool:
        """Forget what the service has taken, and set aside what it never will."""
        try:
            rejected = {entry["index"]: entry for entry in response.json().get("rejected", ())}
        except (AttributeError, KeyError, TypeError, ValueError):
            return self._must_wait("an answer that is not the service's", None)
        self._spool.remove([item.number for n, item in enumerate(items) if n not in rejected])
        for place, item in enumerate(items):
            entry = rejected.get(place)
            if entry is not None:
                reason = f"{entry.get('code')}: {entry.get('detail')}"
                logger.warning("an event was rejected and set aside: %s", reason)
                self._spool.refuse(item, reason)
        self._pause_seconds = 0.0
        self._batch_events = min(BATCH_EVENTS, self._batch_events * 2)
        return True

    def _must_wait(self, why: str, retry_after: str | None) -> bool:
        longer = max(FIRST_PAUSE_SECONDS, self._pause_seconds * 2)
        asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        pause = min(LONGEST_PAUSE_SECONDS, max(longer, asked))
        # Spread, so that many clients do not return in the same moment.
        self._pause_seconds = pause * random.uniform(0.5, 1.0)
        logger.warning("events wait in the spool (%s); the next try follows", why)
        return False


def _next(queue: SimpleQueue[Any]) -> Any:
    try:
        return queue.get_nowait()
    except Empty:
        return None

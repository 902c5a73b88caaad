"""The queue before the writer: requests wait here, one thread writes them together.

Loop and writer take turns instead of contending for the interpreter. While the writer is idle, the
event loop gathers as many requests as were answered last time, for a bounded time; then the writer
starts, one commit serves all that came meanwhile, and everybody else waits for the next batch.

It owns the bounds on waiting and batching. It refuses to know what the work is: ``apply`` is handed
in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, Protocol, TypeAlias, TypeVar

import structlog

from tokenbudget.domain.errors import QueueFull, Unavailable

logger = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT")
STOP_TIMEOUT_SECONDS = 30
MILLISECONDS_PER_SECOND = 1000


class Weighted(Protocol):
    """Work that takes part of the queue's bound."""

    @property
    def weight(self) -> int:
        """Give how many items of the bound this takes."""


AwaitedT = TypeVar("AwaitedT", contravariant=True)


class Waiter(Protocol[AwaitedT]):
    """Who waits for an answer, such as a future; told on the event loop, it raises nothing."""

    def done(self) -> bool:
        """Tell whether nobody waits any more."""

    def set_result(self, result: AwaitedT, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: Exception, /) -> None:
        """Take what the writer raised."""


WorkT = TypeVar("WorkT", bound=Weighted)
Submitted: TypeAlias = tuple[WorkT, Waiter[AnswerT]]


class GroupCommit(Generic[WorkT, AnswerT]):
    """One writer thread for one event loop; ``submit`` is called on the loop."""

    def __init__(
        self,
        apply: Callable[[Sequence[WorkT]], Sequence[AnswerT]],
        *,
        queue_items: int,
        batch_items: int,
        batch_wait_milliseconds: int,
    ) -> None:
        self._apply = apply
        self._queue_items = queue_items
        self._batch_items = batch_items
        self._batch_wait_seconds = batch_wait_milliseconds / MILLISECONDS_PER_SECOND
        self._waiting: deque[Submitted[WorkT, AnswerT]] = deque()
        self._waiting_items = 0
        self._lock = threading.Lock()
        self._is_stopping = False
        self._batches: SimpleQueue[list[Submitted[WorkT, AnswerT]]] = SimpleQueue()
        self._has_turn_begun = False
        self._company = 0
        self._company_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer thread; called on the loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the writer finish what is waiting, then end it."""
        with self._lock:
            self._is_stopping = True
            self._batches.put([])
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    async def submit(self, work: WorkT) -> AnswerT:
        """Wait for the commit that holds this work and give its answer.

        Raises QueueFull when there is no room (nothing was accepted), and what the writer raised.
        """
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self.send(work, future)
        return await future

    def send(self, work: WorkT, waiter: Waiter[AnswerT]) -> None:
        """Queue the work and tell the waiter when the commit that holds it is done.

        Raises QueueFull when there is no room (nothing was accepted); called on the loop.
        """
        if self._loop is None:
            raise Unavailable("the writer has not started")
        with self._lock:
            if self._is_stopping:
                raise Unavailable("the service is stopping")
            if self._waiting and self._waiting_items + work.weight > self._queue_items:
                raise QueueFull(f"{self._waiting_items} items are waiting to be written")
            self._waiting.append((work, waiter))
            self._waiting_items += work.weight
        if self._company_timer is None:
            self._begin_turn(self._loop)
        elif self._has_company():
            self._send_batch()

    def _begin_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gather a batch for the writer, unless that or the writing itself is under way."""
        if not self._has_turn_begun and self._waiting:
            self._has_turn_begun = True
            loop.call_soon(self._gather, loop)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._has_company():
            self._send_batch()
        else:
            self._company_timer = loop.call_later(self._batch_wait_seconds, self._send_batch)

    def _has_company(self) -> bool:
        """Tell whether to start: as many wait as last time, a batch is full, or none is awaited."""
        return (
            len(self._waiting) >= self._company
            or self._waiting_items >= self._batch_items
            or not self._batch_wait_seconds
        )

    def _send_batch(self) -> None:
        if self._company_timer is not None:
            self._company_timer.cancel()
            self._company_timer = None
        with self._lock:
            # Once it is stopping, the writer takes what is waiting by itself.
            if not self._is_stopping:
                self._batches.put(self._take())

    def _take(self) -> list[Submitted[WorkT, AnswerT]]:
        """Give what is waiting, within the bound of a batch; the caller has the lock."""
        batch: list[Submitted[WorkT, AnswerT]] = []
        items = 0
        while self._waiting and (
            not batch or items + self._waiting[0][0].weight <= self._batch_items
        ):
            batch.append(self._waiting.popleft())
            items += batch[-1][0].weight
        self._waiting_items -= items
        return batch

    def _run(self) -> None:
        while batch := self._batches.get():
            self._write(batch)
        while batch := self._take_last():
            self._write(batch)

    def _take_last(self) -> list[Submitted[WorkT, AnswerT]]:
        with self._lock:
            return self._take()

    def _write(self, batch: list[Submitted[WorkT, AnswerT]]) -> None:
        outcomes = self._outcomes([work for work, _ in batch])
        waiters = [waiter for _, waiter in batch]
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_turn, self._loop, waiters, outcomes)

    def _end_turn(
        self,
        loop: asyncio.AbstractEventLoop,
        waiters: Sequence[Waiter[AnswerT]],
        outcomes: Sequence[AnswerT | Exception],
    ) -> None:
        """Answer every caller of a batch, then begin with those that arrived meanwhile."""
        for waiter, outcome in zip(waiters, outcomes, strict=True):
            if waiter.done():
                continue
            if isinstance(outcome, Exception):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)
        self._company = len(waiters) + len(self._waiting)
        self._has_turn_begun = False
        self._begin_turn(loop)

    def _outcomes(self, works: list[WorkT]) -> list[AnswerT | Exception]:
        """Apply the batch.

        When it fails for another reason than the database, find the item at fault.
        """
        try:
            return list(self._apply(works))
        except Unavailable as error:
            return [error] * len(works)
        except Exception as error:
            logger.exception("batch_failed", items=len(works))
            if len(works) == 1:
                return [error]
        return [self._outcomes([work])[0] for work in works]

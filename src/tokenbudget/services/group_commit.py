"""The queue before the writer.

Requests wait here, one thread takes what is waiting and answers after the commit.

It owns the bounds on waiting and batching. It refuses to know what the work is: ``apply`` is handed
in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

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


WorkT = TypeVar("WorkT", bound=Weighted)


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
        self._waiting: deque[tuple[WorkT, asyncio.Future[AnswerT]]] = deque()
        self._waiting_items = 0
        self._arrived = threading.Condition()
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer thread; called on the loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the writer finish what is waiting, then end it."""
        with self._arrived:
            self._is_stopping = True
            self._arrived.notify()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    async def submit(self, work: WorkT) -> AnswerT:
        """Wait for the commit that holds this work and give its answer.

        Raises QueueFull when there is no room (nothing was accepted), and what the writer raised.
        """
        if self._loop is None:
            raise Unavailable("the writer has not started")
        future: asyncio.Future[AnswerT] = self._loop.create_future()
        with self._arrived:
            if self._is_stopping:
                raise Unavailable("the service is stopping")
            if self._waiting and self._waiting_items + work.weight > self._queue_items:
                raise QueueFull(f"{self._waiting_items} items are waiting to be written")
            self._waiting.append((work, future))
            self._waiting_items += work.weight
            self._arrived.notify()
        return await future

    def _run(self) -> None:
        while batch := self._take():
            outcomes = self._outcomes([work for work, _ in batch])
            answered = [
                (future, outcome) for (_, future), outcome in zip(batch, outcomes, strict=True)
            ]
            self._hand_over(answered)

    def _take(self) -> list[tuple[WorkT, asyncio.Future[AnswerT]]]:
        """Wait for work and give what is waiting, within the bound; empty means stop."""
        with self._arrived:
            while not self._waiting and not self._is_stopping:
                self._arrived.wait()
            if self._batch_wait_seconds and not self._is_stopping:
                self._arrived.wait(self._batch_wait_seconds)
            batch: list[tuple[WorkT, asyncio.Future[AnswerT]]] = []
            items = 0
            while self._waiting and (
                not batch or items + self._waiting[0][0].weight <= self._batch_items
            ):
                batch.append(self._waiting.popleft())
                items += batch[-1][0].weight
            self._waiting_items -= items
            return batch

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

    def _hand_over(self, answered: list[tuple[asyncio.Future[AnswerT], Any]]) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in answered:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

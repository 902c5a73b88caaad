"""Requests that a gateway lets through: their attempts, and which of them settles the hold.

One request has one hold and as many attempts as the gateway makes. Each attempt becomes an event;
the last one carries the hold. What was never sent leaves no event. It is bookkeeping alone and
waits for nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from tokenbudget.client import Permit
from tokenbudget.client._attempts import Attempt
from tokenbudget.client._desks import Asked, Desk
from tokenbudget.client._failures import Failure, Reach

MAX_RUNNING: Final = 100_000
REFUSED_STATUS: Final = 400
TIMEOUT_STATUS: Final = 504
ERROR_STATUS: Final = 500


@dataclass(slots=True, eq=False)
class Request:
    """A request that was let through, with the attempt that runs now."""

    key: str
    call_type: str
    desk: Desk
    asked: Asked
    permit: Permit
    attempt: Attempt
    hides_usage: bool = False
    is_sent: bool = False
    number: int = 1
    failure: Failure | None = None
    began: float = field(default_factory=monotonic)

    def send(self, earlier: Failure | None = None) -> None:
        """Note that an attempt begins; one that ran has then failed, as ``earlier`` tells.

        An attempt that was never sent begins again; else its event goes without the hold.
        """
        failure = self.failure or earlier
        was_sent, self.is_sent, self.failure = self.is_sent, True, None
        if not was_sent or (failure is not None and failure.reach is Reach.NOT_SENT):
            return
        self.attempt.note(hold_id=None)
        _end_failed(self.attempt, failure)
        self.attempt, _ = self.desk.begin(self.asked, self.permit)
        self.number += 1

    def succeed(self, answer: dict[str, Any], **facts: object) -> None:
        """End the request with an answer."""
        self.attempt.note(**facts)
        self.attempt.succeed(answer)

    def fail(self, failure: Failure | None = None) -> None:
        """End the request with its last attempt; one that was never sent gives the hold back."""
        _end_failed(self.attempt, failure if self.is_sent else Failure("error", Reach.NOT_SENT))

    def give_up(self) -> None:
        """End the request whose end nobody told of."""
        if self.is_sent:
            self.attempt.abandon()
        else:
            self.attempt.not_sent()


class RunningRequests:
    """The requests that have not ended, oldest first.

    A request is taken from it once, by whoever sees its end first. One that nobody ends within
    ``longest_seconds`` is given up: its usage is then unknown.
    """

    def __init__(self, longest_seconds: float) -> None:
        self._longest_seconds = longest_seconds
        self._running: OrderedDict[str, Request] = OrderedDict()

    def __len__(self) -> int:
        """Give how many run."""
        return len(self._running)

    def add(self, request: Request) -> None:
        """Know of a request, and give up those that are too old or too many."""
        self._running[request.key] = request
        oldest_kept = monotonic() - self._longest_seconds
        while self._running:
            first = next(iter(self._running.values()))
            if first.began > oldest_kept and len(self._running) <= MAX_RUNNING:
                return
            self.take(first.key)
            first.give_up()

    def get(self, key: object) -> Request | None:
        """Give a request that runs; None when it is unknown or has ended."""
        return self._running.get(key) if isinstance(key, str) else None

    def take(self, key: object) -> Request | None:
        """Give a request that ends now, and forget it; None when it is unknown or has ended."""
        return self._running.pop(key, None) if isinstance(key, str) else None


def _end_failed(attempt: Attempt, failure: Failure | None) -> None:
    """End an attempt in this way; unknown where nobody told how it failed."""
    if failure is None:
        attempt.fail_by_status(ERROR_STATUS)
    elif failure.reach is Reach.NOT_SENT:
        attempt.not_sent()
    elif failure.reach is Reach.REFUSED:
        attempt.fail_by_status(REFUSED_STATUS)
    else:
        attempt.note(status=failure.status)
        attempt.fail_by_status(TIMEOUT_STATUS if failure.status == "timeout" else ERROR_STATUS)

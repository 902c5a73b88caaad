"""What an error says of the call it ended: its status, and whether the provider can bill it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tokenbudget.client._calls import ERROR

TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
CLIENT_ERRORS: Final = range(400, 500)
# The server gave up on a request that it may have worked on, so it is not known to be free.
MAYBE_WORKED: Final = frozenset({408, 499})
# Refused for lack of room, before any work.
OVERLOADED: Final = frozenset({503, 529})
NEVER_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
RETRY_HEADER: Final = "x-stainless-retry-count"
MAX_CAUSES: Final = 8


class Reach(Enum):
    """How far a failed call got, which is what it can have cost."""

    NOT_SENT = "not sent"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ended: the status of its event and how far it got."""

    status: str
    reach: Reach


def failure_of(error: BaseException) -> Failure:
    """Give what is known of a call that ended in this error, of an SDK, of httpx or of the task."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        return Failure(CANCELLED, Reach.UNKNOWN)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return failure_of_status(status)
    names = {name for cause in causes_of(error) for name in _class_names(cause)}
    # Of several attempts only the last is known not to have been sent.
    if names & NEVER_SENT and not retries_of(error):
        return Failure(ERROR, Reach.NOT_SENT)
    is_time_out = any("Timeout" in name for name in names - NEVER_SENT)
    return Failure(TIMEOUT if is_time_out else ERROR, Reach.UNKNOWN)


def failure_of_status(status: int) -> Failure:
    """Give what an HTTP status of a provider means."""
    if (status in CLIENT_ERRORS and status not in MAYBE_WORKED) or status in OVERLOADED:
        return Failure(ERROR, Reach.REFUSED)
    return Failure(TIMEOUT if status in (408, 504) else ERROR, Reach.UNKNOWN)


def retries_of(thing: object) -> int:
    """Give how often the SDK sent a call again, as its response, stream or error shows; else 0."""
    taken = getattr(thing, "retries_taken", None)
    if isinstance(taken, int):
        return taken
    response = getattr(thing, "response", None) or getattr(thing, "_response", None)
    try:
        request = getattr(thing, "request", None) or getattr(response, "request", None)
        count = request.headers.get(RETRY_HEADER) if request is not None else None
    except (AttributeError, RuntimeError):
        # A response that was made without its request says so with a RuntimeError.
        return 0
    return int(count) if isinstance(count, str) and count.isdigit() else 0


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Give the error and what it came of, one behind the other."""
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _class_names(error: BaseException) -> list[str]:
    return [parent.__name__ for parent in type(error).__mro__]

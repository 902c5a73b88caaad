"""A call that runs, from its permit to its event, whoever makes it: an SDK, a stream, a transport.

It ends once, in whatever way comes first, and then its event is spooled or its hold given back. All
of it is told and nothing awaited, so that programs that wait and event loops share it.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Final, Self

from tokenbudget.client._calls import UNKNOWN, RunningCall
from tokenbudget.client._failures import (
    CANCELLED,
    Failure,
    Reach,
    failure_of,
    failure_of_status,
    retries_of,
)
from tokenbudget.client._outlet import Outlet
from tokenbudget.client._responses import get, read_facts
from tokenbudget.client._stream_reading import StreamReading

# What a refused call used is known, and it is nothing.
NOTHING_USED: Final = {"input_tokens": 0, "output_tokens": 0}


class Attempt:
    """One call that was let through.

    As a context it ends the call when an error passes through it, and lets the error go on.
    ``shows_exchange`` when whoever makes the call tells of the answer before it is parsed.
    """

    def __init__(
        self, running: RunningCall, outlet: Outlet, *, shows_exchange: bool = False
    ) -> None:
        self._running = running
        self._outlet = outlet
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._has_ended = False
        self._is_answered = False
        # Wrong arguments are such errors; so may be an answer that cannot be parsed.
        self._unsent_errors = (TypeError, ValueError) if shows_exchange else (TypeError,)
        self.reading = StreamReading()
        outlet.expect(self)

    def __enter__(self) -> Self:
        """Give the attempt itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the call if it failed."""
        if isinstance(error, GeneratorExit):
            self.break_off()
        elif error is not None:
            self.fail(error)

    def note(self, **facts: object) -> None:
        """Set fields of the event that whoever makes the call knows better than its answer."""
        self._running.facts.update(facts)

    def answered(self, raw: object) -> None:
        """Note that the provider has answered, and after how many of the SDK's own retries."""
        self._is_answered = True
        self._running.attempt += retries_of(raw)

    def succeed(self, response: object) -> None:
        """End the call with a whole response."""
        facts = read_facts(response)
        self._running.note(facts)
        if facts.usage:
            self._running.usage(response)
        self._end()

    def see(self, event: object) -> None:
        """Take in an event of the call's stream."""
        self.reading.see(event)
        if self.reading.has_begun:
            self._running.token_came()

    def end_stream(self) -> None:
        """End the call with its stream: with what was seen of it, which may be nothing.

        A stream that ended before its answer did is unknown in what it cost.
        """
        self._tell_seen()
        if self.reading.is_failed:
            self._running.failed()
        elif self.reading.is_looked_at and not self.reading.is_complete:
            self._running.failed(UNKNOWN)
        self._end()

    def break_off(self) -> None:
        """End the call at a stream that was closed: an answer that was whole stays one."""
        self._tell_seen()
        if self.reading.is_failed:
            self._running.failed()
        elif not self.reading.is_complete:
            self._running.failed(CANCELLED)
        self._end()

    def leave(self) -> None:
        """End the call whose block was left: cut off, or unknown where nothing was looked at."""
        if self.reading.is_looked_at:
            self.break_off()
        else:
            self.end_stream()

    def abandon(self) -> None:
        """End the call that nobody looks at any more; safe while memory is collected."""
        self._tell_seen()
        if not self.reading.is_complete:
            self._running.failed(CANCELLED)
        self._end(is_left=True)

    def fail(self, error: BaseException) -> None:
        """End the call by an error of the SDK, of the transport or of the task."""
        # Errors of reading an answer carry it; it was billed whatever they say of it.
        carried = get(error, "completion")
        if carried is not None and read_facts(carried).usage:
            self._running.failed()
            self.succeed(carried)
            return
        if not self._is_answered:
            self._running.attempt += retries_of(error)
        is_argument = isinstance(error, self._unsent_errors) and not self._is_answered
        self._fail(Failure("error", Reach.NOT_SENT) if is_argument else failure_of(error))

    def fail_by_status(self, status: int) -> None:
        """End the call by an answer that is an error."""
        self._fail(failure_of_status(status))

    def not_sent(self) -> None:
        """End the call before it was made."""
        self._running.not_sent()
        self._end()

    def watch(self, thing: object) -> None:
        """End the call when this object, through which its end would be seen, is dropped."""
        weakref.finalize(thing, self.abandon).atexit = False

    def _fail(self, failure: Failure) -> None:
        self._tell_seen()
        self._running.failed(failure.status)
        if self._running.is_told or self._is_answered or failure.reach is Reach.UNKNOWN:
            self._end()
            return
        if failure.reach is Reach.NOT_SENT:
            self.not_sent()
            return
        self._running.usage(**NOTHING_USED)
        self._end()

    def _tell_seen(self) -> None:
        facts = self.reading.facts
        self._running.note(facts)
        if facts.usage and not self._running.is_told:
            self._running.usage({"usage": facts.usage})

    def _end(self, *, is_left: bool = False) -> None:
        # A child of a fork that still knows this call leaves its end to the parent.
        if self._process_id != os.getpid() or not self._is_first():
            return
        self._outlet.ended(self)
        hold_id = self._running.unused_hold
        if not self._running.is_unsent:
            (self._outlet.leave if is_left else self._outlet.record)(self._running.event())
        elif hold_id is not None:
            self._outlet.give_back(hold_id)
        self._running.leave_lease()

    def _is_first(self) -> bool:
        if not self._lock.acquire(blocking=False):
            return False
        try:
            is_first = not self._has_ended
            self._has_ended = True
        finally:
            self._lock.release()
        return is_first

"""Streams of an SDK whose events are read on their way to the caller, of both kinds of program."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Final

from tokenbudget.client._attempts import Attempt
from tokenbudget.client._plans import Plan
from tokenbudget.client._proxies import Proxy, named_like
from tokenbudget.client._responses import get
from tokenbudget.client._stream_reading import is_usage_only

FINAL_PREFIX: Final = "get_final_"
UNTIL_DONE: Final = "until_done"
TEXT_STREAM: Final = "text_stream"


class Flow:
    """What was read of a stream and not handed out yet, and the call that it belongs to.

    As a context around one step of reading it queues what ends the stream behind what came before
    it, so that an event is never lost to the error after it.
    """

    def __init__(self, attempt: Attempt, plan: Plan) -> None:
        self.attempt = attempt
        self._plan = plan
        self._ahead = deque[Any]()

    def __enter__(self) -> None:
        """Begin one step."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Take in how the step ended; what is no ordinary error goes on at once."""
        if error is None:
            return False
        if isinstance(error, StopIteration | StopAsyncIteration):
            self.attempt.end_stream()
        else:
            self.attempt.fail(error)
        if isinstance(error, Exception):
            self._ahead.append(error)
            return True
        return False

    @property
    def is_dry(self) -> bool:
        """Tell whether the next event must be read first.

        An event that says that the answer ends is held back until the one behind it is there, while
        usage is expected: it comes last, and a caller who has what they want may not wait for it.
        """
        if not self._ahead:
            return True
        reading = self.attempt.reading
        is_last = len(self._ahead) == 1 and not isinstance(self._ahead[0], Exception)
        expects_usage = self._plan.expects_usage and reading.facts.usage is None
        return is_last and expects_usage and reading.is_complete

    def take(self, event: Any) -> None:
        """Take in an event; the one that the caller did not ask for goes no further."""
        self.attempt.see(event)
        if not (self._plan.is_usage_added and is_usage_only(event)):
            self._ahead.append(event)

    def hand_out(self) -> Any:
        """Give the next event, or raise what ends the stream."""
        event = self._ahead.popleft()
        if isinstance(event, Exception):
            raise event
        return event


class WatchedStream(Proxy):
    """A stream that ends its call however it ends."""

    __slots__ = ("_tokenbudget_flow", "_tokenbudget_iterator")

    _tokenbudget_flow: Flow
    _tokenbudget_iterator: Iterator[Any]

    def __init__(self, target: Any, attempt: Attempt, plan: Plan) -> None:
        super().__init__(target)
        self._tokenbudget_flow = Flow(attempt, plan)
        self._tokenbudget_iterator = iter(target)
        attempt.watch(self)

    def __iter__(self) -> Iterator[Any]:
        """Give the events that are left."""
        return self

    def __next__(self) -> Any:
        """Give the next event."""
        flow = self._tokenbudget_flow
        while flow.is_dry:
            with flow:
                flow.take(next(self._tokenbudget_iterator))
        return flow.hand_out()

    def __enter__(self) -> Any:
        """Enter the stream, and give this in its place."""
        self._tokenbudget_target.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        """Close the stream; what was not read of it is known to be cut off."""
        try:
            return self._tokenbudget_target.__exit__(*error)
        finally:
            self._tokenbudget_flow.attempt.break_off()

    def close(self) -> None:
        """Close the stream; what was not read of it is known to be cut off."""
        try:
            self._tokenbudget_target.close()
        finally:
            self._tokenbudget_flow.attempt.break_off()

    def __getattr__(self, name: str) -> Any:
        """Give an attribute of the stream; what reads it to its end reads it through this."""
        value = getattr(self._tokenbudget_target, name)
        if name == TEXT_STREAM:
            return _texts(self)
        if not (name.startswith(FINAL_PREFIX) or name == UNTIL_DONE):
            return value

        def final(*arguments: Any, **options: Any) -> Any:
            for _ in self:
                pass
            result = value(*arguments, **options)
            return self if result is self._tokenbudget_target else result

        return named_like(final, value)


class AsyncWatchedStream(Proxy):
    """A stream of an event loop that ends its call however it ends."""

    __slots__ = ("_tokenbudget_flow", "_tokenbudget_iterator")

    _tokenbudget_flow: Flow
    _tokenbudget_iterator: AsyncIterator[Any]

    def __init__(self, target: Any, attempt: Attempt, plan: Plan) -> None:
        super().__init__(target)
        self._tokenbudget_flow = Flow(attempt, plan)
        self._tokenbudget_iterator = aiter(target)
        attempt.watch(self)

    def __aiter__(self) -> AsyncIterator[Any]:
        """Give the events that are left."""
        return self

    async def __anext__(self) -> Any:
        """Give the next event."""
        flow = self._tokenbudget_flow
        while flow.is_dry:
            with flow:
                flow.take(await anext(self._tokenbudget_iterator))
        return flow.hand_out()

    async def __aenter__(self) -> Any:
        """Enter the stream, and give this in its place."""
        await self._tokenbudget_target.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        """Close the stream; what was not read of it is known to be cut off."""
        try:
            return await self._tokenbudget_target.__aexit__(*error)
        finally:
            self._tokenbudget_flow.attempt.break_off()

    async def close(self) -> None:
        """Close the stream; what was not read of it is known to be cut off."""
        try:
            await self._tokenbudget_target.close()
        finally:
            self._tokenbudget_flow.attempt.break_off()

    async def aclose(self) -> None:
        """Close the stream, by its other name."""
        await self.close()

    def __getattr__(self, name: str) -> Any:
        """Give an attribute of the stream; what reads it to its end reads it through this."""
        value = getattr(self._tokenbudget_target, name)
        if name == TEXT_STREAM:
            return _async_texts(self)
        if not (name.startswith(FINAL_PREFIX) or name == UNTIL_DONE):
            return value

        async def final(*arguments: Any, **options: Any) -> Any:
            async for _ in self:
                pass
            result = await value(*arguments, **options)
            return self if result is self._tokenbudget_target else result

        return named_like(final, value)


def _text_of(event: object) -> str | None:
    """Give the piece of text that an event of Anthropic's helper carries, None without one."""
    delta = get(event, "delta")
    if get(event, "type") != "content_block_delta" or get(delta, "type") != "text_delta":
        return None
    text = get(delta, "text")
    return text if isinstance(text, str) else None


def _texts(events: Iterator[Any]) -> Iterator[str]:
    for event in events:
        text = _text_of(event)
        if text is not None:
            yield text


async def _async_texts(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for event in events:
        text = _text_of(event)
        if text is not None:
            yield text

"""Calls of an SDK that waits: checked before, followed to their end, recorded behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenbudget.client._attempts import Attempt
from tokenbudget.client._desks import Desk
from tokenbudget.client._families import RAW, STREAM, STREAMED_RAW, Method, takes_part
from tokenbudget.client._models import Call, Permit
from tokenbudget.client._plans import Plan
from tokenbudget.client._proxies import Proxy, WatchedRaw, named_like
from tokenbudget.client._streams import WatchedStream

BODY_METHODS = frozenset({"parse", "json"})


class Wrapping:
    """Gives, for each method of an SDK that costs, the function that stands for it."""

    def __init__(self, desk: Desk, check: Callable[[Call], Permit], provider: str) -> None:
        self._desk = desk
        self._check = check
        self._provider = provider

    def bind(self, method: Method) -> Callable[..., Any]:
        """Give the function that stands for a method."""

        def create(*args: Any, **arguments: Any) -> Any:
            if args or not takes_part(method, arguments):
                return method.function(*args, **arguments)
            if method.name == STREAM or method.mode == STREAMED_RAW:
                return WatchedBlock(lambda: self._enter(method, arguments))
            return self._make(method, arguments)

        return create

    def _begin(
        self, method: Method, arguments: Mapping[str, Any]
    ) -> tuple[Plan, Attempt, dict[str, Any]]:
        asked = self._desk.ask_method(method, arguments, self._provider)
        permit = self._check(asked.call)
        attempt, granted = self._desk.begin(asked, permit, shows_exchange=method.shows_exchange)
        return asked.plan, attempt, granted

    def _make(self, method: Method, arguments: Mapping[str, Any]) -> Any:
        plan, attempt, granted = self._begin(method, arguments)
        with attempt:
            answer = (method.raw or method.function)(**granted)
            attempt.answered(answer)
            response = answer.parse() if method.shows_exchange else answer
            if plan.is_streamed:
                stream = WatchedStream(response, attempt, plan)
                return WatchedRaw(answer, stream) if method.mode == RAW else stream
            attempt.succeed(response)
        return answer if method.mode == RAW else response

    def _enter(self, method: Method, arguments: Mapping[str, Any]) -> tuple[Any, Any, Attempt]:
        """Enter the manager of a stream or of an unread response, once the call may be made."""
        plan, attempt, granted = self._begin(method, arguments)
        with attempt:
            manager = method.function(**granted)
            entered = manager.__enter__()
            attempt.answered(entered)
            kind = WatchedBody if method.mode == STREAMED_RAW else WatchedStream
            return manager, kind(entered, attempt, plan), attempt


class WatchedBlock:
    """A context that makes its call when it is entered, as the SDK's own does."""

    def __init__(self, enter: Callable[[], tuple[Any, Any, Attempt]]) -> None:
        self._enter = enter
        self._manager: Any = None
        self._attempt: Attempt | None = None

    def __enter__(self) -> Any:
        """Check and make the call, and give its stream or response."""
        self._manager, watched, self._attempt = self._enter()
        return watched

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        """Leave the SDK's own context; what was not read is known to be cut off."""
        try:
            return self._manager.__exit__(kind, error, trace)
        finally:
            if self._attempt is not None:
                self._attempt.leave()


class WatchedBody(Proxy):
    """A response that is not read yet: its usage is known if the caller has it parsed."""

    __slots__ = ("_tokenbudget_attempt", "_tokenbudget_plan")

    _tokenbudget_attempt: Attempt
    _tokenbudget_plan: Plan

    def __init__(self, target: Any, attempt: Attempt, plan: Plan) -> None:
        super().__init__(target)
        self._tokenbudget_attempt = attempt
        self._tokenbudget_plan = plan
        attempt.watch(self)

    def __getattr__(self, name: str) -> Any:
        """Give an attribute of the response; what reads it whole is read along."""
        value = getattr(self._tokenbudget_target, name)
        if name not in BODY_METHODS:
            return value
        attempt, plan = self._tokenbudget_attempt, self._tokenbudget_plan

        def read(*arguments: Any, **options: Any) -> Any:
            with attempt:
                result = value(*arguments, **options)
                if plan.is_streamed:
                    return WatchedStream(result, attempt, plan)
                attempt.succeed(result)
            return result

        return named_like(read, value)

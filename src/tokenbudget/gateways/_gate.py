"""The gate in front of a LiteLLM proxy's calls: check, lower, follow and tell, without LiteLLM.

It owns the order of these steps and what LiteLLM's events mean for them. LiteLLM tells of a failed
attempt only once a request and of some broken streams never, so attempts are counted as they are
sent and streams are followed. It refuses to know LiteLLM's classes and HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from tokenbudget.client import AsyncClient, Decision, Permit, QuotaDenied, Reason
from tokenbudget.client._calls import OperationFacts, new_id, running
from tokenbudget.client._desks import Asked, Desk
from tokenbudget.client._failures import Failure, Reach
from tokenbudget.client._plans import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    UNSPECIFIED,
    Endpoint,
)
from tokenbudget.client._responses import get
from tokenbudget.gateways._records import (
    answer_of,
    event_of_record,
    facts_of,
    failure_of_attempt,
    remembered_failure,
    text_of,
)
from tokenbudget.gateways._requests import Request, RunningRequests
from tokenbudget.gateways._tags import (
    host_tag,
    object_of,
    tags_of_record,
    tags_of_request,
)

KEY_ENTRY: Final = "tokenbudget_call"
NOTES: Final = "metadata"
OTHER_NOTES: Final = "litellm_metadata"
CALLER_ENTRY: Final = "user_api_key_auth"
WIRE_TYPES: Final = (str, int, float, dict, list, type(None))
LOG_SECONDS: Final = 30.0
CLIENT_CLOSED: Final = 499
UNROUTED: Final = "model_not_routed"
# LiteLLM knows ``max_tokens`` for every provider and translates it.
LITELLM_CHAT: Final = replace(CHAT, limit_fields=("max_tokens", "max_completion_tokens"))
ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "completion": LITELLM_CHAT,
    "acompletion": LITELLM_CHAT,
    "text_completion": COMPLETIONS,
    "atext_completion": COMPLETIONS,
    "embedding": EMBEDDINGS,
    "embeddings": EMBEDDINGS,
    "aembedding": EMBEDDINGS,
    "responses": RESPONSES,
    "aresponses": RESPONSES,
    "anthropic_messages": MESSAGES,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom LiteLLM will call for a model's name; ``max_output_tokens`` is the deployment's own."""

    provider: str
    model: str
    max_output_tokens: int | None = None


class Routes(Protocol):
    """What the gateway's router knows."""

    def target_of(self, name: str) -> Target:
        """Give whom a call of this name goes to first."""

    def name_of(self, target: Target, allowed: Callable[[str], bool]) -> str | None:
        """Give an allowed name by which the router calls this target; None where there is none."""


class Gate:
    """Checks the requests of one proxy process and tells the ledger what became of them."""

    def __init__(
        self, client: AsyncClient, routes: Routes, *, log_seconds: float = LOG_SECONDS
    ) -> None:
        self._client = client
        self._routes = routes
        # How long LiteLLM's record of a stream may come behind the stream's end.
        self._log_seconds = log_seconds
        self.running = RunningRequests(client.manner.hold_seconds)

    async def admit(
        self, asked: dict[str, Any], call_type: str, allowed: Callable[[str], bool]
    ) -> None:
        """Check a request, and lower it where it stands to what is granted.

        ``allowed`` tells which names the caller's key may use. Calls of other kinds pass. Raises
        QuotaDenied, CheckRefused and, in fail mode closed, QuotaUnavailable.
        """
        for place in _places_of(asked):
            earlier = self.running.take(place.pop(KEY_ENTRY, None))
            if earlier is not None:
                earlier.give_up()
        endpoint = ENDPOINTS.get(call_type)
        if endpoint is None:
            return
        place = asked.setdefault(_own_place(asked), {})
        name = str(asked.get("model") or UNSPECIFIED)
        target = self._routes.target_of(name)
        tags = tags_of_request(asked, place)
        base, manner = self._client.tags, self._client.manner
        desk = Desk(self._client.outlet, manner, base, tags)
        operation_id = _operation_id(asked, place) or new_id()
        with running(OperationFacts({}, base, manner.baggage_keys, operation_id)):
            question = _ask(desk, endpoint, asked, target)
        permit = await self._client.check(question.call)
        attempt, granted = desk.begin(question, permit)
        request = Request(new_id(), call_type, desk, question, permit, attempt)
        request.hides_usage = question.plan.is_usage_added
        if granted["model"] != target.model:
            lowered = replace(target, model=granted["model"])
            other = self._routes.name_of(lowered, allowed)
            if other is None:
                attempt.not_sent()
                raise _unrouted(permit)
            name = other
        _lower(asked, question, {**granted, "model": name})
        place[KEY_ENTRY] = request.key
        self.running.add(request)

    def sending(self, arguments: Mapping[str, Any], call_type: str) -> None:
        """Take it that an attempt goes to a deployment with these arguments."""
        request = self._of(arguments)
        # A call may be made by way of another kind of call, which is no further attempt.
        if request is None or call_type != request.call_type:
            return
        call_id = arguments.get("litellm_call_id")
        noted = [place.get("previous_models") for place in _places_of(arguments)]
        told = (remembered_failure(each, call_id) for each in noted)
        request.send(next((failure for failure in told if failure is not None), None))

    def attempt_failed(self, details: Mapping[str, Any]) -> None:
        """Take LiteLLM's word that an attempt has failed, which may be followed by another."""
        request = self._of(object_of(details, "litellm_params"))
        error = details.get("exception")
        if request is not None and request.is_sent and isinstance(error, BaseException):
            request.failure = _failure_of(error, request)

    def request_failed(self, asked: Mapping[str, Any], error: BaseException) -> None:
        """Take it that the caller gets an error instead of an answer."""
        request = self._of(asked)
        if request is None:
            return
        if request.is_sent and not _is_of_provider(error):
            # Somebody in between refused; what the provider did may still be told.
            is_closed = getattr(error, "status_code", None) == CLIENT_CLOSED
            self._later(request, Failure("cancelled" if is_closed else "error", Reach.UNKNOWN))
            return
        self.running.take(request.key)
        request.fail(_failure_of(error, request))

    def succeeded(self, details: Mapping[str, Any]) -> None:
        """Take LiteLLM's record of a call that was answered; one that nobody checked counts too."""
        record = object_of(details, "standard_logging_object")
        if not record:
            return
        asked = object_of(details, "litellm_params")
        if not any(KEY_ENTRY in place for place in _places_of(asked)):
            tags = {**self._client.tags, **tags_of_record(record)}
            source = self._client.manner.source
            self._client.record(
                {**event_of_record(record, tags, source=source), "event_id": new_id()}
            )
            return
        request = self._of(asked)
        if request is None:
            return
        self.running.take(request.key)
        tags = {**request.asked.call.tags, **host_tag(record)}
        request.succeed(answer_of(record), **facts_of(record), tags=tags)

    async def follow(
        self, stream: AsyncIterator[Any], asked: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        """Hand on a stream, less the usage that only we asked for, and see how it ends."""
        request = self._of(asked)
        is_whole = False
        try:
            async for chunk in stream:
                if request is None or not _is_taken_in(chunk, request):
                    yield chunk
            is_whole = True
        finally:
            if request is not None:
                self._later(request, None if is_whole else Failure("cancelled", Reach.UNKNOWN))

    def _of(self, asked: Mapping[str, Any]) -> Request | None:
        found = (self.running.get(place.get(KEY_ENTRY)) for place in _places_of(asked))
        return next((request for request in found if request is not None), None)

    def _later(self, request: Request, failure: Failure | None) -> None:
        """End a request that has ended, once LiteLLM has had the time to tell what it used."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._log_seconds, self._end_untold, request.key, failure)

    def _end_untold(self, key: str, failure: Failure | None) -> None:
        request = self.running.take(key)
        if request is None:
            return
        if failure is None:
            request.attempt.end_stream()
        elif failure.status == "cancelled":
            request.attempt.leave()
        else:
            request.fail(failure)


def _places_of(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the places where LiteLLM may keep its notes on a request; callers write there, too."""
    return [asked[name] for name in (NOTES, OTHER_NOTES) if isinstance(asked.get(name), dict)]


def _own_place(asked: Mapping[str, Any]) -> str:
    """Give the name of the place where LiteLLM's own word stands; the other one is the caller's.

    It depends on the path of the request. What LiteLLM knows of the caller is an object there,
    which no caller can send.
    """
    for name in (NOTES, OTHER_NOTES):
        if not isinstance(object_of(asked, name).get(CALLER_ENTRY), WIRE_TYPES):
            return name
    return NOTES


def _ask(desk: Desk, endpoint: Endpoint, asked: Mapping[str, Any], target: Target) -> Asked:
    """Plan the call as the deployment will get it."""
    arguments = {**asked, "model": target.model}
    if target.max_output_tokens is not None and not any(
        arguments.get(name) for name in endpoint.limit_fields
    ):
        arguments.update(dict.fromkeys(endpoint.limit_fields[:1], target.max_output_tokens))
    return desk.ask(endpoint, arguments, target.provider, is_streamed=bool(arguments.get("stream")))


def _lower(asked: dict[str, Any], question: Asked, granted: Mapping[str, Any]) -> None:
    """Write into the request what the permit changed; the rest of it stays LiteLLM's."""
    planned = question.plan.arguments
    names = (*question.plan.endpoint.limit_fields, "thinking")
    asked.update({name: granted[name] for name in names if granted.get(name) != planned.get(name)})
    asked["model"] = granted["model"]
    if question.plan.is_usage_added:
        asked["stream_options"] = granted["stream_options"]


def _operation_id(asked: Mapping[str, Any], notes: Mapping[str, Any]) -> str | None:
    """Give what ties attempts together, as the door for LiteLLM's callback finds it."""
    caller = object_of(notes, "requester_metadata")
    session, trace = text_of(caller.get("session_id")), text_of(caller.get("trace_id"))
    group = text_of(getattr(asked.get("litellm_logging_obj"), "litellm_trace_id", None))
    return trace if session is not None and group in (None, session) else group


def _unrouted(permit: Permit) -> QuotaDenied:
    detail = f"only {permit.model} fits the budget, and no model that this key may use leads to it"
    return QuotaDenied(
        replace(permit, decision=Decision.DENY, hold_id=None, reasons=(Reason(UNROUTED, detail),))
    )


def _failure_of(error: BaseException, request: Request) -> Failure:
    return failure_of_attempt(error, is_first=request.number == 1)


def _is_of_provider(error: BaseException) -> bool:
    """Tell whether a provider's call ended in this error; others come from hooks and callers."""
    return getattr(error, "llm_provider", None) is not None


def _is_taken_in(chunk: object, request: Request) -> bool:
    """See a chunk of a stream; tell whether it carries nothing but usage that we asked for."""
    if not request.attempt.reading.is_looked_at:
        request.attempt.answered(None)
    choices, usage = get(chunk, "choices"), get(chunk, "usage")
    if choices is None:
        return False
    # The chunk's model may be the caller's name for it, so that it is left out.
    request.attempt.see({"choices": choices, "usage": usage, "id": get(chunk, "id")})
    return request.hides_usage and usage is not None and not any(map(_says_anything, choices))


def _says_anything(choice: object) -> bool:
    if get(choice, "finish_reason") is not None:
        return True
    delta = get(choice, "delta")
    parts = (get(delta, name) for name in ("content", "tool_calls", "reasoning_content", "role"))
    return any(parts)

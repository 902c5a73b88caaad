"""The gate without LiteLLM: what is asked, lowered, followed and told of each kind of end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.fake_service import DENIED, FakeService, reduced
from tokenbudget.client import AsyncClient, QuotaDenied, QuotaUnavailable
from tokenbudget.gateways._gate import KEY_ENTRY, Gate, Target
from tokenbudget.gateways._requests import RunningRequests

pytestmark = pytest.mark.anyio
PROMPT = "words that stay here"
USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
TARGETS = {
    "smart": Target("openai", "gpt-4o"),
    "cheap": Target("openai", "gpt-4o-mini"),
    "bounded": Target("openai", "gpt-4o", 50),
}


class Caller:
    """LiteLLM's own word on who calls, which is an object where the wire has text."""


class FakeRoutes:
    """A router that knows three names."""

    def target_of(self, name: str) -> Target:
        return TARGETS[name]

    def name_of(self, target: Target, allowed: Callable[[str], bool]) -> str | None:
        names = (name for name, known in TARGETS.items() if known == target and allowed(name))
        return next(names, None)


@dataclass(slots=True)
class Desk:
    """A gate, the service behind it and the client between them."""

    service: FakeService
    client: AsyncClient
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.client, FakeRoutes(), log_seconds=0.01)

    async def admit(
        self, asked: dict[str, Any], call_type: str = "acompletion", *names: str
    ) -> dict[str, Any]:
        await self.gate.admit(asked, call_type, lambda name: not names or name in names)
        return asked

    def send(self, asked: dict[str, Any], **more: Any) -> None:
        self.gate.sending({**asked, **more}, "acompletion")

    def told(self) -> list[dict[str, Any]]:
        return self.service.told_by(self.client)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    service = FakeService()
    return Desk(service, service.async_client(tmp_path, hold_seconds=60, source="litellm-gateway"))


def chat(model: str = "smart", **more: Any) -> dict[str, Any]:
    """Give a request as the proxy hands it to its hooks."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 200,
        "litellm_call_id": "call-1",
        "metadata": {"user_api_key_auth": Caller(), "user_api_key_team_alias": "support"},
        **more,
    }


def details(asked: dict[str, Any], **record: Any) -> dict[str, Any]:
    """Give what LiteLLM logs of an answered request."""
    return {
        "litellm_params": {"metadata": asked["metadata"]},
        "standard_logging_object": {
            "id": "chatcmpl-1",
            "litellm_call_id": "call-1",
            "custom_llm_provider": "openai",
            "model": "openai/gpt-4o",
            "model_group": "smart",
            "call_type": "acompletion",
            "startTime": 1_795_176_000.25,
            "endTime": 1_795_176_001.5,
            "response_cost": 2.16e-05,
            "api_base": "https://api.openai.com/v1?key=secret",
            "metadata": {"usage_object": USAGE},
            **record,
        },
    }


class ProviderError(Exception):
    """An error as LiteLLM raises it for a provider's answer."""

    llm_provider = "openai"

    def __init__(self, status_code: int) -> None:
        super().__init__("no")
        self.status_code = status_code


def failed(asked: dict[str, Any], error: Exception) -> dict[str, Any]:
    return {"litellm_params": {"metadata": asked["metadata"]}, "exception": error}


async def chunks_of(*chunks: Any, error: Exception | None = None) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


def chunk(content: str | None = None, *, ends: bool = False, usage: Any = None) -> dict[str, Any]:
    choice = {"delta": {"content": content}, "finish_reason": "stop" if ends else None}
    return {"id": "chatcmpl-1", "model": "smart", "choices": [choice], "usage": usage}


async def test_an_allowed_call_is_settled_by_litellms_record(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    desk.gate.succeeded(details(asked))

    (check,) = desk.service.checks
    assert (check["provider"], check["model"], check["max_output_tokens"]) == (
        "openai",
        "gpt-4o",
        200,
    )
    assert check["tags"] == {"team": "support"}
    assert (asked["model"], asked["max_tokens"]) == ("smart", 200)
    (event,) = desk.told()
    assert event["source"] == "litellm-gateway"
    assert event["operation_id"] == check["operation_id"]
    assert event["hold_id"] == "hold-1"
    assert event["response_id"] == "chatcmpl-1"
    assert event["provider_usage"] == USAGE
    assert event["reported_cost"] == "0.0000216"
    assert (event["model"], event["request_model"]) == ("gpt-4o", "smart")
    assert (event["status"], event["attempt"], event["latency_ms"]) == ("ok", 1, 1_250)
    assert event["tags"] == {"team": "support", "api_host": "api.openai.com"}
    assert len(desk.gate.running) == 0
    assert not any(PROMPT.encode() in body for body in desk.service.bodies)


async def test_a_reduced_call_is_lowered_where_it_stands(desk: Desk) -> None:
    desk.service.answer = reduced(64, "gpt-4o-mini")

    asked = await desk.admit(chat())

    assert (asked["model"], asked["max_tokens"]) == ("cheap", 64)


async def test_the_deployments_own_bound_is_asked_for_and_never_raised(desk: Desk) -> None:
    asked = chat("bounded")
    del asked["max_tokens"]

    await desk.admit(asked)
    assert desk.service.checks[0]["max_output_tokens"] == 50
    assert "max_tokens" not in asked

    desk.service.answer = reduced(20, "gpt-4o")
    await desk.admit(asked)
    assert asked["max_tokens"] == 20


async def test_a_model_that_the_key_may_not_use_is_no_way_out(desk: Desk) -> None:
    desk.service.answer = reduced(64, "gpt-4o-mini")

    with pytest.raises(QuotaDenied) as denied:
        await desk.admit(chat(), "acompletion", "smart")

    assert denied.value.permit.reasons[0].code == "model_not_routed"
    assert desk.told() == []
    assert desk.service.released == ["hold-1"]


async def test_a_denied_call_leaves_nothing_behind(desk: Desk) -> None:
    desk.service.answer = DENIED
    asked = chat()

    with pytest.raises(QuotaDenied):
        await desk.admit(asked)

    desk.gate.request_failed(asked, RuntimeError("the answer of the proxy"))
    assert desk.told() == []
    assert KEY_ENTRY not in asked["metadata"]


async def test_a_service_that_is_down_is_answered_by_the_fail_mode(tmp_path: Path) -> None:
    service = FakeService(is_down=True)
    closed = Desk(service, service.async_client(tmp_path / "closed", fail_mode="closed"))
    opened = Desk(service, service.async_client(tmp_path / "open"))

    with pytest.raises(QuotaUnavailable):
        await closed.admit(chat())
    asked = await opened.admit(chat())
    opened.send(asked)
    opened.gate.succeeded(details(asked))

    service.is_down = False
    (event,) = opened.told()
    assert "hold_id" not in event
    assert event["provider_usage"] == USAGE


async def test_a_refused_attempt_costs_nothing_and_the_next_one_has_the_hold(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    desk.gate.attempt_failed(failed(asked, ProviderError(429)))
    desk.send(asked)
    desk.gate.succeeded(details(asked))

    first, second = desk.told()
    assert (first["attempt"], first["status"]) == (1, "error")
    assert first["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert "hold_id" not in first
    assert (second["attempt"], second["status"], second["hold_id"]) == (2, "ok", "hold-1")
    assert first["operation_id"] == second["operation_id"]


async def test_later_failures_are_found_in_the_routers_notes(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    desk.gate.attempt_failed(failed(asked, ProviderError(500)))
    desk.send(asked)
    notes = [
        {"litellm_call_id": "call-1", "exception_type": "RateLimitError"},
        {"litellm_call_id": "another", "exception_type": "Timeout"},
    ]
    asked["metadata"]["previous_models"] = notes
    desk.send(asked)
    asked["metadata"]["previous_models"] = [*notes, {**notes[1], "litellm_call_id": "call-1"}]
    desk.send(asked)
    desk.gate.request_failed(asked, ProviderError(503))

    told = desk.told()
    assert [event["status"] for event in told] == ["error", "error", "timeout", "error"]
    assert ["usage" in event for event in told] == [False, True, False, True]
    assert [event.get("hold_id") for event in told] == [None, None, None, "hold-1"]


async def test_what_was_never_sent_gives_the_hold_back(desk: Desk) -> None:
    stopped = await desk.admit(chat())
    desk.gate.request_failed(stopped, ValueError("another hook said no"))
    unreached = await desk.admit(chat())
    desk.send(unreached)
    error = ProviderError(500)
    error.__cause__ = httpx.ConnectError("nobody listens")
    desk.gate.request_failed(unreached, error)

    assert desk.told() == []
    assert desk.service.released == ["hold-1", "hold-1"]


async def test_an_attempt_without_connection_is_made_again_with_the_same_hold(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    error = ProviderError(500)
    error.__cause__ = httpx.ConnectError("nobody listens")
    desk.gate.attempt_failed(failed(asked, error))
    desk.send(asked)
    desk.gate.succeeded(details(asked))

    (event,) = desk.told()
    assert (event["attempt"], event["hold_id"]) == (1, "hold-1")


async def test_a_guardrails_refusal_waits_for_what_the_provider_did(desk: Desk) -> None:
    billed, lost = await desk.admit(chat()), await desk.admit(chat())
    for asked in (billed, lost):
        desk.send(asked)
        desk.gate.request_failed(asked, ValueError("a guardrail said no"))
    desk.gate.succeeded(details(billed))
    await asyncio.sleep(0.1)

    answered, unknown = desk.told()
    assert answered["provider_usage"] == USAGE
    assert (unknown["status"], unknown["hold_id"]) == ("error", "hold-1")
    assert "usage" not in unknown


async def test_a_stream_is_asked_for_usage_that_the_caller_does_not_see(desk: Desk) -> None:
    asked = await desk.admit(chat(stream=True))
    assert asked["stream_options"] == {"include_usage": True}
    desk.send(asked)
    stream = chunks_of(chunk("A"), chunk(ends=True), chunk(usage=USAGE))

    passed = [each async for each in desk.gate.follow(stream, asked)]
    desk.gate.succeeded(details(asked, stream=True, completionStartTime=1_795_176_000.75))
    await asyncio.sleep(0.1)

    assert passed == [chunk("A"), chunk(ends=True)]
    (event,) = desk.told()
    assert (event["provider_usage"], event["time_to_first_token_ms"]) == (USAGE, 500)


async def test_a_callers_own_wish_for_usage_is_theirs(desk: Desk) -> None:
    asked = await desk.admit(chat(stream=True, stream_options={"include_usage": True}))
    desk.send(asked)
    stream = chunks_of(chunk("A", ends=True), chunk(usage=USAGE))

    assert len([each async for each in desk.gate.follow(stream, asked)]) == 2


async def test_streams_that_litellm_says_nothing_of_are_told_by_what_was_seen(desk: Desk) -> None:
    whole, cut, left = [await desk.admit(chat(stream=True)) for _ in range(3)]
    for asked in (whole, cut, left):
        desk.send(asked)
    seen = chunks_of(chunk("A", ends=True), chunk(usage=USAGE))
    assert [each async for each in desk.gate.follow(seen, whole)]
    assert [each async for each in desk.gate.follow(chunks_of(chunk("A")), cut)]
    stream = desk.gate.follow(chunks_of(chunk("A"), chunk("B")), left)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)

    told = desk.told()
    assert [event["status"] for event in told] == ["ok", "unknown", "cancelled"]
    assert [event.get("provider_usage") for event in told] == [USAGE, None, None]
    assert {event["model"] for event in told} == {"gpt-4o"}
    assert len(desk.gate.running) == 0


async def test_a_stream_that_breaks_with_an_error_is_never_free(desk: Desk) -> None:
    asked = await desk.admit(chat(stream=True))
    desk.send(asked)
    broken = chunks_of(chunk("A"), error=ProviderError(503))

    with pytest.raises(ProviderError) as raised:
        [each async for each in desk.gate.follow(broken, asked)]
    desk.gate.request_failed(asked, raised.value)

    (event,) = desk.told()
    assert (event["status"], event["hold_id"]) == ("error", "hold-1")
    assert "usage" not in event


async def test_a_call_made_by_way_of_another_kind_is_one_attempt(desk: Desk) -> None:
    asked = await desk.admit(chat(), "anthropic_messages")
    desk.gate.sending(asked, "anthropic_messages")
    desk.gate.sending(asked, "aresponses")
    desk.gate.succeeded(details(asked))

    (event,) = desk.told()
    assert event["attempt"] == 1


async def test_calls_of_other_kinds_pass_unchecked_and_are_recorded(desk: Desk) -> None:
    asked = await desk.admit(chat(), "aimage_generation")
    asked["metadata"]["user_api_key_team_alias"] = "support"
    record = details(asked, id="call-1", call_type="aimage_generation")
    record["standard_logging_object"]["metadata"]["user_api_key_team_alias"] = "support"
    desk.gate.succeeded(record)
    desk.gate.succeeded({"litellm_params": {}})

    assert desk.service.checks == []
    (event,) = desk.told()
    assert event["tags"] == {"team": "support", "api_host": "api.openai.com"}
    assert event["operation"] == "aimage_generation"
    assert event["occurred_at"] == "2026-11-20T12:00:00.250000+00:00"
    assert "response_id" not in event


async def test_an_answer_that_came_after_the_end_is_not_counted_again(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    for _ in range(2):
        desk.gate.succeeded(details(asked))

    assert len(desk.told()) == 1


async def test_a_cached_answer_has_no_id_of_its_own(desk: Desk) -> None:
    asked = await desk.admit(chat())
    desk.send(asked)
    desk.gate.succeeded(details(asked, cache_hit=True, response_cost=0))

    (event,) = desk.told()
    assert (event["cache_hit"], event["reported_cost"]) == (True, "0")
    assert "response_id" not in event


async def test_the_callers_word_is_not_taken_for_litellms(desk: Desk) -> None:
    forged = {"user_api_key_auth": "me", "user_api_key_team_alias": "rich", KEY_ENTRY: "x"}

    asked = await desk.admit(chat(litellm_metadata=forged))
    await desk.admit(chat(metadata=forged, litellm_metadata=chat()["metadata"]))

    assert [check["tags"] for check in desk.service.checks] == [{"team": "support"}] * 2
    assert KEY_ENTRY not in asked["litellm_metadata"]


async def test_a_request_that_is_checked_again_gives_its_first_hold_back(desk: Desk) -> None:
    asked = await desk.admit(chat())
    await desk.admit(asked)

    assert desk.told() == []
    assert desk.service.released == ["hold-1"]
    assert len(desk.gate.running) == 1


async def test_requests_that_nobody_ends_are_given_up(desk: Desk) -> None:
    desk.gate.running = RunningRequests(0.05)
    sent = await desk.admit(chat())
    desk.send(sent)
    await desk.admit(chat())
    await asyncio.sleep(0.1)
    await desk.admit(chat())

    (event,) = desk.told()
    assert event["status"] == "cancelled"
    assert desk.service.released == ["hold-1"]
    assert len(desk.gate.running) == 1

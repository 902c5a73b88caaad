"""OpenAI's own SDK for event loops, wrapped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.client.fake_provider import FakeProvider
from tests.client.fake_service import DENIED, FakeService, reduced
from tokenbudget.client import AsyncClient, QuotaDenied

MESSAGES: Any = [{"role": "user", "content": "A secret question of a customer."}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}


@dataclass(slots=True)
class Bench:
    """A wrapped SDK with the provider and the service that it speaks with."""

    client: AsyncClient
    sdk: openai.AsyncOpenAI


Run = Callable[[Callable[[Bench], Awaitable[None]]], list[dict[str, Any]]]


@pytest.fixture
def run(provider: FakeProvider, service: FakeService, tmp_path: Path) -> Run:
    """Give a function that runs a test on an event loop and gives the events that it told."""

    async def whole(test: Callable[[Bench], Awaitable[None]]) -> None:
        sdk = openai.AsyncOpenAI(
            api_key="x", base_url=f"{provider.url}/v1", max_retries=1, timeout=1.0
        )
        async with service.async_client(tmp_path) as client, sdk:
            await test(Bench(client, client.wrap(sdk, provider="openai", feature="summarise")))
            assert await client.flush(10)

    def told_by(test: Callable[[Bench], Awaitable[None]]) -> list[dict[str, Any]]:
        asyncio.run(whole(test))
        return service.events

    return told_by


def test_calls_of_every_kind_are_checked_and_recorded(run: Run, service: FakeService) -> None:
    async def calls(bench: Bench) -> None:
        assert isinstance(bench.sdk, openai.AsyncOpenAI)
        chat = await bench.sdk.chat.completions.create(**CHAT, max_tokens=9)
        assert chat.id == "chatcmpl-1"
        response = await bench.sdk.responses.create(model="gpt-4o", input="A question.")
        assert response.id == "resp_1"
        embedded = await bench.sdk.embeddings.create(model="text-embedding-3-small", input="a")
        assert embedded.data[0].embedding == [0.5]
        raw = await bench.sdk.chat.completions.with_raw_response.create(**CHAT)
        assert raw.parse().id == "chatcmpl-1"

    events = run(calls)

    assert [event["status"] for event in events] == ["ok"] * 4
    assert all(event["provider_usage"] for event in events)
    assert service.checks[0]["max_output_tokens"] == 9
    assert {event["tags"]["feature"] for event in events} == {"summarise"}
    assert not any(b"secret" in body for body in service.bodies)


def test_streams_of_every_kind_tell_their_usage(run: Run, provider: FakeProvider) -> None:
    async def calls(bench: Bench) -> None:
        stream = await bench.sdk.chat.completions.create(**CHAT, stream=True)
        assert len([chunk async for chunk in stream]) == 5
        async with bench.sdk.chat.completions.stream(**CHAT) as helped:
            assert (await helped.get_final_completion()).id == "chatcmpl-1"
        async with bench.sdk.responses.stream(model="gpt-4o", input="A question.") as response:
            assert await response.until_done() is response
        raw = await bench.sdk.chat.completions.with_raw_response.create(**CHAT, stream=True)
        async with raw.parse() as parsed:
            assert len([chunk async for chunk in parsed]) == 5
        unread = bench.sdk.chat.completions.with_streaming_response
        async with unread.create(**CHAT) as body:
            assert (await body.parse()).id == "chatcmpl-1"
        async with unread.create(**CHAT, stream=True) as body:
            assert len([chunk async for chunk in await body.parse()]) == 5

    events = run(calls)

    assert provider.asked[0]["stream_options"] == {"include_usage": True}
    assert [event["status"] for event in events] == ["ok"] * 6
    assert all(event["provider_usage"] for event in events)


def test_streams_that_are_left_are_cancelled(run: Run) -> None:
    async def calls(bench: Bench) -> None:
        async with await bench.sdk.chat.completions.create(**CHAT, stream=True) as stream:
            await anext(stream)
        closed = await bench.sdk.chat.completions.create(**CHAT, stream=True)
        await anext(closed)
        await closed.close()
        async with bench.sdk.chat.completions.stream(**CHAT) as helped:
            await anext(aiter(helped))

    assert [event["status"] for event in run(calls)] == ["cancelled"] * 3


def test_a_task_that_is_cancelled_cancels_its_call(run: Run) -> None:
    async def calls(bench: Bench) -> None:
        slow = bench.sdk.chat.completions.create(model="slow", messages=MESSAGES)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.2)

    (event,) = run(calls)

    assert event["status"] == "cancelled"
    assert not {"usage", "provider_usage"} & event.keys()


@pytest.mark.parametrize(
    ("model", "status", "attempt"),
    [("status-400", "error", 1), ("status-500", "error", 2), ("slow", "timeout", 2)],
)
def test_failures_are_told(run: Run, model: str, status: str, attempt: int) -> None:
    async def calls(bench: Bench) -> None:
        with pytest.raises(openai.APIError):
            await bench.sdk.chat.completions.create(model=model, messages=MESSAGES)

    (event,) = run(calls)

    assert (event["status"], event["attempt"]) == (status, attempt)
    assert ("usage" in event) == (model == "status-400")


def test_a_stream_that_is_cut_off_raises_and_is_an_error(run: Run) -> None:
    async def calls(bench: Bench) -> None:
        stream = await bench.sdk.chat.completions.create(
            model="cut", messages=MESSAGES, stream=True
        )
        for _ in range(3):
            await anext(stream)
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)

    (event,) = run(calls)

    assert event["status"] == "error"


def test_a_denied_call_is_not_made_and_a_reduced_one_is_lowered(
    run: Run, service: FakeService, provider: FakeProvider
) -> None:
    async def calls(bench: Bench) -> None:
        service.answer = DENIED
        with pytest.raises(QuotaDenied):
            await bench.sdk.chat.completions.create(**CHAT)
        with pytest.raises(QuotaDenied):
            await bench.sdk.chat.completions.stream(**CHAT).__aenter__()
        service.answer = reduced(8)
        with pytest.raises(QuotaDenied):
            await bench.sdk.responses.create(model="gpt-4o", input="A question.")
        await bench.sdk.chat.completions.create(**CHAT, max_tokens=100)

    (event,) = run(calls)

    assert [request["max_tokens"] for request in provider.asked] == [8]
    assert event["status"] == "ok"
    assert service.released == ["hold-1"]


def test_operations_hold_for_concurrent_tasks_each(run: Run) -> None:
    async def calls(bench: Bench) -> None:
        async def work(tenant: str) -> None:
            async with bench.client.operation(tenant=tenant):
                await bench.sdk.chat.completions.create(**CHAT)
                await bench.sdk.chat.completions.create(**CHAT)

        await asyncio.gather(*(work(f"t{number}") for number in range(5)))

    events = run(calls)

    by_tenant = {event["tags"]["tenant"]: event["operation_id"] for event in events}
    assert len(events) == 10
    assert len(set(by_tenant.values())) == 5
    assert sorted(event["attempt"] for event in events) == [1] * 5 + [2] * 5


def test_an_sdk_that_waits_is_refused(run: Run) -> None:
    async def calls(bench: Bench) -> None:
        with pytest.raises(TypeError, match="wrap it with Client"):
            bench.client.wrap(openai.OpenAI(api_key="x"))

    assert run(calls) == []


def test_calls_by_hand_are_recorded_or_given_back(run: Run, service: FakeService) -> None:
    async def calls(bench: Bench) -> None:
        async with bench.client.operation(tenant="acme") as operation:
            with pytest.raises(ZeroDivisionError):
                async with operation.call(provider="openai", model="gpt-4o", input_tokens=1):
                    raise ZeroDivisionError
            async with operation.call(provider="openai", model="gpt-4o", input_tokens=1) as call:
                call.not_sent()
        service.is_down = True
        assert not await bench.client.release("hold-2")
        service.is_down = False

    (event,) = run(calls)

    assert (event["status"], event["tags"]["tenant"]) == ("error", "acme")
    assert service.released == ["hold-1"]


def test_what_costs_nothing_passes(run: Run, service: FakeService) -> None:
    async def calls(bench: Bench) -> None:
        untyped: Any = bench.sdk.chat.completions
        with pytest.raises(TypeError):
            await untyped.create("positional")
        with pytest.raises(TypeError):
            untyped.stream("positional")

    assert run(calls) == []
    assert service.checks == []

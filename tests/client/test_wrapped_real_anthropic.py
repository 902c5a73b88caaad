"""Anthropic's own SDK, wrapped, against a provider on loopback.

The finer points are in ``test_wrapped_anthropic``, with a client of the same shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.client.fake_provider import MESSAGES_USAGE, FakeProvider
from tests.client.fake_service import DENIED, FakeService, reduced
from tests.client.test_wrapped_anthropic import ASK as USUAL
from tests.server_process import free_port
from tokenbudget.client import Client, QuotaDenied

# The SDK warns of models that are about to be switched off.
ASK: dict[str, Any] = {**USUAL, "model": "claude-of-tomorrow"}


@pytest.fixture
def sdk(client: Client, provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="none", base_url=provider.url, max_retries=0, timeout=1.0
    ) as original:
        yield client.wrap(original, feature="summarise")


def told_usage(event: dict[str, Any]) -> dict[str, Any]:
    """Give what an event says of the provider's usage, without what the SDK adds as None."""
    usage = event["provider_usage"]
    return {name: usage.get(name) for name in MESSAGES_USAGE}


def test_a_message_is_checked_before_and_recorded_behind(
    sdk: anthropic.Anthropic, client: Client, service: FakeService
) -> None:
    answer = sdk.messages.create(**ASK)

    assert isinstance(answer, anthropic.types.Message)
    assert answer.to_dict()["content"] == [{"type": "text", "text": "A short secret answer."}]
    (check,) = service.checks
    assert (check["provider"], check["max_output_tokens"]) == ("anthropic", 100)
    (event,) = service.told_by(client)
    assert told_usage(event) == MESSAGES_USAGE
    assert (event["response_id"], event["status"]) == ("msg_1", "ok")
    assert not any(b"secret" in body for body in service.bodies)


def test_streams_tell_their_last_usage_however_they_are_read(
    sdk: anthropic.Anthropic, client: Client, service: FakeService
) -> None:
    events = list(sdk.messages.create(**ASK, stream=True))
    with sdk.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "A short secret answer."
    with sdk.messages.stream(**ASK) as stream:
        assert stream.get_final_message().usage.output_tokens == MESSAGES_USAGE["output_tokens"]

    assert events[-1].type == "message_stop"
    told = service.told_by(client)
    assert [told_usage(event) for event in told] == [MESSAGES_USAGE] * 3
    assert [event["status"] for event in told] == ["ok"] * 3


def test_a_stream_that_is_left_tells_what_was_seen(
    sdk: anthropic.Anthropic, client: Client, service: FakeService
) -> None:
    with sdk.messages.stream(**ASK) as stream:
        for text in stream.text_stream:
            assert text == "A "
            break

    (event,) = service.told_by(client)
    assert event["status"] == "cancelled"
    assert event["provider_usage"]["output_tokens"] == 1


def test_refusals_overloads_and_errors_are_told(
    sdk: anthropic.Anthropic, client: Client, service: FakeService
) -> None:
    for status in (400, 529, 500):
        with pytest.raises(anthropic.APIStatusError):
            sdk.messages.create(**{**ASK, "model": f"status-{status}"})
    with pytest.raises(anthropic.APIConnectionError):
        sdk.messages.create(**{**ASK, "model": "slow"})

    refused, overloaded, failed, late = service.told_by(client)
    assert refused["usage"] == overloaded["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert "usage" not in failed
    assert "usage" not in late
    assert [event["status"] for event in (refused, failed, late)] == ["error", "error", "timeout"]


def test_a_call_that_the_sdk_retries_is_one_hold(
    client: Client, service: FakeService, provider: FakeProvider
) -> None:
    with anthropic.Anthropic(api_key="none", base_url=provider.url) as original:
        client.wrap(original).messages.create(**{**ASK, "model": "once-429"})

    (event,) = service.told_by(client)
    assert (event["status"], event["attempt"]) == ("ok", 2)
    assert len(service.checks) == 1


def test_a_call_that_cannot_connect_is_released(client: Client, service: FakeService) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with anthropic.Anthropic(api_key="none", base_url=nowhere, max_retries=0) as original:
        wrapped = client.wrap(original)
        with pytest.raises(anthropic.APIConnectionError):
            wrapped.messages.create(**ASK)

    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_denied_message_is_not_made(
    sdk: anthropic.Anthropic, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = DENIED

    with pytest.raises(QuotaDenied):
        sdk.messages.create(**ASK)
    with pytest.raises(QuotaDenied), sdk.messages.stream(**ASK):
        pass

    assert provider.asked == []


def test_a_reduced_message_is_shorter(
    sdk: anthropic.Anthropic, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(40, "claude-haiku-4-5", "anthropic")

    sdk.messages.create(**ASK)

    assert (provider.asked[0]["max_tokens"], provider.asked[0]["model"]) == (40, "claude-haiku-4-5")


def test_messages_on_an_event_loop(
    service: FakeService, provider: FakeProvider, tmp_path: Path
) -> None:
    async def calls() -> list[dict[str, Any]]:
        original = anthropic.AsyncAnthropic(
            api_key="none", base_url=provider.url, max_retries=0, timeout=1.0
        )
        async with service.async_client(tmp_path) as client, original:
            wrapped = client.wrap(original, feature="summarise")
            assert (await wrapped.messages.create(**ASK)).id == "msg_1"
            stream = await wrapped.messages.create(**ASK, stream=True)
            assert [event.type async for event in stream][-1] == "message_stop"
            async with wrapped.messages.stream(**ASK) as helped:
                texts = [text async for text in helped.text_stream]
            assert "".join(texts) == "A short secret answer."
            async with wrapped.messages.stream(**ASK) as helped:
                await anext(aiter(helped))
            with pytest.raises(anthropic.BadRequestError):
                await wrapped.messages.create(**{**ASK, "model": "status-400"})
            assert await client.flush(10)
            return service.events

    events = asyncio.run(calls())

    assert [event["status"] for event in events] == ["ok", "ok", "ok", "cancelled", "error"]
    assert [told_usage(event) for event in events[:3]] == [MESSAGES_USAGE] * 3

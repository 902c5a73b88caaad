"""A client with the shape of Anthropic's SDK, wrapped; the SDK itself is in the test beside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.anthropic_stand_in import (
    Anthropic,
    APIConnectionError,
    APIStatusError,
    AsyncAnthropic,
)
from tests.client.fake_provider import MESSAGES_USAGE, FakeProvider
from tests.client.fake_service import DENIED, FakeService, reduced
from tests.server_process import free_port
from tokenbudget.client import Client, QuotaDenied

ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "system": "Be secret.",
    "messages": [{"role": "user", "content": "A secret question."}],
}


@pytest.fixture
def sdk(client: Client, provider: FakeProvider) -> Iterator[Anthropic]:
    with Anthropic(provider.url) as original:
        yield client.wrap(original, feature="summarise")


def test_a_message_is_checked_before_and_recorded_behind(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    answer = sdk.messages.create(**ASK)

    assert answer.content[0].text == "A short secret answer."
    (check,) = service.checks
    assert (check["provider"], check["max_output_tokens"]) == ("anthropic", 100)
    (event,) = service.told_by(client)
    assert event["provider_usage"] == MESSAGES_USAGE
    assert (event["response_id"], event["status"]) == ("msg_1", "ok")
    assert not any(b"secret" in body for body in service.bodies)


def test_a_version_without_raw_responses_is_counted_too(
    client: Client, service: FakeService, provider: FakeProvider
) -> None:
    with Anthropic(provider.url, is_old=True) as original:
        client.wrap(original).messages.create(**ASK)

    (event,) = service.told_by(client)
    assert event["provider_usage"]["output_tokens"] == 100


def test_a_stream_of_events_tells_the_last_usage_of_each_kind(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    events = list(sdk.messages.create(**ASK, stream=True))

    assert events[-1].type == "message_stop"
    (event,) = service.told_by(client)
    assert event["provider_usage"] == MESSAGES_USAGE
    assert event["status"] == "ok"
    assert "time_to_first_token_ms" in event


def test_the_helper_is_read_along_however_it_is_read(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    with sdk.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "A short secret answer."
    with sdk.messages.stream(**ASK) as stream:
        assert stream.get_final_text() == "A short secret answer."
    with sdk.messages.stream(**ASK) as stream:
        assert next(event.type for event in stream) == "message_start"
        stream.until_done()

    events = service.told_by(client)
    assert [event["provider_usage"] for event in events] == [MESSAGES_USAGE] * 3


def test_a_stream_that_is_left_tells_what_was_seen(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    with sdk.messages.stream(**ASK) as stream:
        for text in stream.text_stream:
            assert text == "A "
            break

    (event,) = service.told_by(client)
    assert event["status"] == "cancelled"
    assert event["provider_usage"] == {**MESSAGES_USAGE, "output_tokens": 1}


def test_a_stream_that_is_cut_off_tells_what_was_seen(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    with pytest.raises(APIConnectionError):
        list(sdk.messages.create(**{**ASK, "model": "cut"}, stream=True))

    (event,) = service.told_by(client)
    assert event["status"] == "error"
    assert event["provider_usage"]["input_tokens"] == 300


def test_refusals_overloads_errors_and_time_outs_are_told(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    for status in (400, 529, 500):
        with pytest.raises(APIStatusError):
            sdk.messages.create(**{**ASK, "model": f"status-{status}"})
    with pytest.raises(APIConnectionError):
        sdk.messages.create(**{**ASK, "model": "slow"})

    refused, overloaded, failed, late = service.told_by(client)
    assert refused["usage"] == overloaded["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert "usage" not in failed
    assert "usage" not in late
    assert [event["status"] for event in (refused, failed, late)] == ["error", "error", "timeout"]


def test_a_retried_call_is_one_hold(sdk: Anthropic, client: Client, service: FakeService) -> None:
    sdk.messages.create(**{**ASK, "model": "once-429"})

    (event,) = service.told_by(client)
    assert event["attempt"] == 2
    assert len(service.checks) == 1


def test_a_call_that_cannot_connect_is_released(client: Client, service: FakeService) -> None:
    with Anthropic(f"http://127.0.0.1:{free_port()}") as original:
        wrapped = client.wrap(original)
        with pytest.raises(APIConnectionError):
            wrapped.messages.create(**ASK)

    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_arguments_that_the_sdk_refuses_were_never_sent(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    with pytest.raises(ValueError, match="streamed"):
        sdk.messages.create(**{**ASK, "max_tokens": 50_000})

    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_denied_message_is_not_made(
    sdk: Anthropic, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = DENIED

    with pytest.raises(QuotaDenied):
        sdk.messages.create(**ASK)
    with pytest.raises(QuotaDenied), sdk.messages.stream(**ASK):
        pass

    assert provider.asked == []


def test_a_reduced_message_is_shorter_and_thinks_less(
    sdk: Anthropic, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(2_000)
    thinking = {"type": "enabled", "budget_tokens": 4_000}
    ask = {**ASK, "max_tokens": 8_000, "thinking": thinking}

    sdk.messages.create(**ask)

    assert provider.asked[0]["max_tokens"] == 2_000
    assert provider.asked[0]["thinking"]["budget_tokens"] == 1_999
    assert thinking["budget_tokens"] == 4_000


def test_a_message_that_can_no_longer_think_is_denied(
    sdk: Anthropic, client: Client, service: FakeService
) -> None:
    service.answer = reduced(1_024)
    thinking = {"type": "enabled", "budget_tokens": 4_000}

    with pytest.raises(QuotaDenied):
        sdk.messages.create(**{**ASK, "max_tokens": 8_000, "thinking": thinking})

    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_call_that_may_only_go_to_another_provider_is_denied_and_released(
    sdk: Anthropic, client: Client, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(300, "gpt-4o-mini", "openai")

    with pytest.raises(QuotaDenied, match="openai/gpt-4o-mini") as denied:
        sdk.messages.create(**ASK)

    assert denied.value.permit.reasons[0].code == "model_not_replaceable"
    assert provider.asked == []
    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_model_of_the_same_provider_is_used_though_the_provider_is_told(
    sdk: Anthropic, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(300, "claude-haiku-4-5", "anthropic")

    sdk.messages.create(**ASK)

    assert provider.asked[0]["model"] == "claude-haiku-4-5"


def test_what_costs_nothing_passes(sdk: Anthropic, service: FakeService) -> None:
    assert sdk.messages.count_tokens(**ASK) == "counted"
    assert service.checks == []


def test_messages_on_an_event_loop(
    service: FakeService, provider: FakeProvider, tmp_path: Path
) -> None:
    async def calls() -> list[dict[str, Any]]:
        async with service.async_client(tmp_path) as client, AsyncAnthropic(provider.url) as sdk:
            wrapped = client.wrap(sdk, feature="summarise")
            assert (await wrapped.messages.create(**ASK)).id == "msg_1"
            stream = await wrapped.messages.create(**ASK, stream=True)
            assert [event.type async for event in stream][-1] == "message_stop"
            async with wrapped.messages.stream(**ASK) as helped:
                texts = [text async for text in helped.text_stream]
            assert "".join(texts) == "A short secret answer."
            async with wrapped.messages.stream(**ASK) as helped:
                assert await helped.get_final_text() == "A short secret answer."
            async with wrapped.messages.stream(**ASK) as helped:
                await anext(aiter(helped))
            with pytest.raises(APIStatusError):
                await wrapped.messages.create(**{**ASK, "model": "status-400"})
            assert await client.flush(10)
            return service.events

    events = asyncio.run(calls())

    assert [event["status"] for event in events] == ["ok", "ok", "ok", "ok", "cancelled", "error"]
    assert [event.get("provider_usage") for event in events[:4]] == [MESSAGES_USAGE] * 4
    assert events[4]["provider_usage"]["output_tokens"] == 1

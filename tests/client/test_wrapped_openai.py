"""OpenAI's own SDK, wrapped, against a provider and a service on this machine."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.client.fake_provider import CHAT_USAGE, FakeProvider
from tests.client.fake_service import DENIED, FakeService, reduced
from tests.server_process import free_port
from tokenbudget.client import Client, QuotaDenied, QuotaUnavailable, tagged

MESSAGES: Any = [{"role": "user", "content": "A secret question of a customer."}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}
TOOL: Any = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(slots=True)
class Bench:
    """A wrapped SDK with the provider and the service that it speaks with."""

    client: Client
    service: FakeService
    provider: FakeProvider
    original: openai.OpenAI
    sdk: openai.OpenAI

    @property
    def event(self) -> dict[str, Any]:
        """Give the one event that was told."""
        (event,) = self.service.told_by(self.client)
        return event


@pytest.fixture
def bench(provider: FakeProvider, tmp_path: Path) -> Iterator[Bench]:
    provider.asked.clear()
    provider.headers.clear()
    service = FakeService()
    original = openai.OpenAI(api_key="x", base_url=f"{provider.url}/v1", max_retries=1, timeout=1.0)
    with original, service.client(tmp_path) as client:
        wrapped = client.wrap(original, provider="openai", feature="summarise")
        yield Bench(client, service, provider, original, wrapped)


def chunks_of(stream: Any) -> list[Any]:
    return list(stream)


def test_a_chat_is_checked_before_and_recorded_behind(bench: Bench) -> None:
    answer = bench.sdk.chat.completions.create(**CHAT, max_tokens=100)

    assert answer.choices[0].message.content == "A short secret answer."
    (check,) = bench.service.checks
    assert (check["provider"], check["model"], check["max_output_tokens"]) == (
        "openai",
        "gpt-4o",
        100,
    )
    assert check["input_tokens"] > len(MESSAGES[0]["content"]) // 4
    assert check["tags"] == {"team": "growth", "feature": "summarise"}
    event = bench.event
    assert event["provider_usage"]["prompt_tokens"] == 1_000
    assert (event["status"], event["attempt"]) == ("ok", 1)
    assert (event["hold_id"], event["response_id"]) == ("hold-1", "chatcmpl-1")
    assert event["latency_ms"] >= 0


def test_no_text_is_ever_sent_to_the_service(bench: Bench) -> None:
    bench.sdk.chat.completions.create(**CHAT, tools=[TOOL])
    chunks_of(bench.sdk.chat.completions.create(**CHAT, stream=True))
    bench.sdk.responses.create(model="gpt-4o", input="a secret", instructions="be secret")
    with pytest.raises(openai.BadRequestError):
        bench.sdk.chat.completions.create(model="status-400", messages=MESSAGES)

    assert len(bench.service.told_by(bench.client)) == 4
    assert not any(b"secret" in body for body in bench.service.bodies)


def test_the_wrapper_looks_like_what_it_wraps_and_changes_nothing_of_it(bench: Bench) -> None:
    assert isinstance(bench.sdk, openai.OpenAI)
    assert isinstance(bench.sdk.chat.completions, type(bench.original.chat.completions))
    assert inspect.signature(bench.sdk.chat.completions.create) == inspect.signature(
        bench.original.chat.completions.create
    )
    assert bench.sdk.base_url == bench.original.base_url
    assert "chat" in dir(bench.sdk)
    assert "OpenAI" in repr(bench.sdk)

    bench.original.chat.completions.create(**CHAT)

    assert bench.service.checks == []


def test_a_copy_of_the_wrapper_is_wrapped(bench: Bench) -> None:
    bench.sdk.with_options(timeout=2).chat.completions.create(**CHAT)
    with bench.sdk.copy() as entered:
        entered.chat.completions.create(**CHAT)

    assert len(bench.service.checks) == 2


def test_wrapping_twice_counts_once_with_the_later_tags(bench: Bench) -> None:
    again = bench.client.wrap(bench.sdk, provider="openai", feature="search")

    again.chat.completions.create(**CHAT)

    assert len(bench.service.checks) == 1
    assert bench.event["tags"]["feature"] == "search"


def test_an_attribute_set_on_the_wrapper_is_set_on_the_sdk(bench: Bench) -> None:
    bench.sdk.max_retries = 7

    assert bench.original.max_retries == 7


def test_what_costs_nothing_is_not_checked(bench: Bench) -> None:
    assert bench.sdk.with_raw_response.models is not None
    with pytest.raises(TypeError):
        bench.sdk.chat.completions.create("positional")  # type: ignore[call-overload]

    assert bench.service.checks == []


def test_a_stream_tells_its_usage_and_the_caller_sees_no_more_than_asked_for(bench: Bench) -> None:
    chunks = chunks_of(bench.sdk.chat.completions.create(**CHAT, stream=True))

    assert bench.provider.asked[0]["stream_options"] == {"include_usage": True}
    assert len(chunks) == 5
    assert all(chunk.choices for chunk in chunks)
    event = bench.event
    assert event["provider_usage"]["completion_tokens"] == 100
    assert event["status"] == "ok"
    assert 0 <= event["time_to_first_token_ms"] <= event["latency_ms"]


@pytest.mark.parametrize(("is_wanted", "count"), [(True, 6), (False, 5)])
def test_a_caller_who_chose_whether_usage_is_streamed_is_obeyed(
    bench: Bench, is_wanted: bool, count: int
) -> None:
    options: Any = {"include_usage": is_wanted}
    stream = bench.sdk.chat.completions.create(**CHAT, stream=True, stream_options=options)

    assert len(chunks_of(stream)) == count
    assert bench.provider.asked[0]["stream_options"] == options
    event = bench.event
    assert ("provider_usage" in event) == is_wanted
    assert event["status"] == ("ok" if is_wanted else "unknown")


def test_a_caller_who_stops_at_the_end_of_the_answer_has_its_usage_told(bench: Bench) -> None:
    for chunk in bench.sdk.chat.completions.create(**CHAT, stream=True):
        if chunk.choices[0].finish_reason:
            break

    assert bench.event["provider_usage"]["completion_tokens"] == 100
    assert bench.event["status"] == "ok"


def test_a_stream_that_is_closed_half_way_is_cancelled_with_usage_unknown(bench: Bench) -> None:
    with bench.sdk.chat.completions.create(**CHAT, stream=True) as stream:
        next(stream)

    event = bench.event
    assert event["status"] == "cancelled"
    assert not {"usage", "provider_usage"} & event.keys()
    assert event["hold_id"] == "hold-1"


def test_a_stream_that_is_closed_by_name_is_cancelled(bench: Bench) -> None:
    stream = bench.sdk.chat.completions.create(**CHAT, stream=True)
    next(stream)
    stream.close()
    stream.close()

    assert bench.event["status"] == "cancelled"


def test_a_stream_that_is_dropped_is_cancelled_when_it_is_collected(bench: Bench) -> None:
    stream = bench.sdk.chat.completions.create(**CHAT, stream=True)
    next(iter(stream))
    stream.response.close()
    del stream
    gc.collect()

    assert bench.event["status"] == "cancelled"


def test_a_stream_that_is_still_open_when_the_client_closes_is_told(bench: Bench) -> None:
    with bench.sdk.chat.completions.create(**CHAT, stream=True) as stream:
        next(stream)
        bench.client.close()

    (event,) = bench.service.events
    assert event["status"] == "cancelled"


def test_a_stream_that_the_provider_cuts_off_raises_and_is_an_error(bench: Bench) -> None:
    seen: list[Any] = []
    stream = bench.sdk.chat.completions.create(model="cut", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIConnectionError):
        seen.extend(stream)

    assert next(stream, None) is None
    assert bench.event["status"] == "error"
    assert "provider_usage" not in bench.event


def test_an_error_inside_the_reading_of_a_stream_ends_it(bench: Bench) -> None:
    def read() -> None:
        with bench.sdk.chat.completions.create(**CHAT, stream=True) as stream:
            next(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()

    assert bench.event["status"] == "cancelled"


def test_the_helper_of_a_stream_is_read_along(bench: Bench) -> None:
    with bench.sdk.chat.completions.stream(**CHAT) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()

    assert "content.delta" in events
    assert final.choices[0].message.content == "A short secret answer."
    assert bench.event["provider_usage"]["completion_tokens"] == 100


def test_the_final_answer_of_a_helper_is_enough(bench: Bench) -> None:
    with bench.sdk.chat.completions.stream(**CHAT) as stream:
        assert stream.until_done() is stream
        assert stream.get_final_completion().id == "chatcmpl-1"

    assert bench.event["status"] == "ok"


def test_a_helper_that_is_left_half_way_is_cancelled(bench: Bench) -> None:
    with bench.sdk.chat.completions.stream(**CHAT) as stream:
        next(iter(stream))

    assert bench.event["status"] == "cancelled"


def test_a_response_is_counted_whole_streamed_and_helped(bench: Bench) -> None:
    ask: Any = {"model": "gpt-4o", "input": "A question.", "max_output_tokens": 50}

    bench.sdk.responses.create(**ask)
    chunks_of(bench.sdk.responses.create(**ask, stream=True))
    with bench.sdk.responses.stream(**ask) as stream:
        assert stream.get_final_response().id == "resp_1"

    events = bench.service.told_by(bench.client)
    assert [event["provider_usage"]["output_tokens"] for event in events] == [100, 100, 100]
    assert {event["response_id"] for event in events} == {"resp_1"}
    assert [check["max_output_tokens"] for check in bench.service.checks] == [50, 50, 50]


def test_a_response_that_failed_in_its_stream_is_an_error_with_its_usage(bench: Bench) -> None:
    chunks_of(bench.sdk.responses.create(model="failed", input="A question.", stream=True))

    assert bench.event["status"] == "error"
    assert bench.event["provider_usage"]["output_tokens"] == 100


def test_an_embedding_is_held_for_its_input_alone(bench: Bench) -> None:
    model = "text-embedding-3-small"
    answer = bench.sdk.embeddings.create(model=model, input=["a", "b"])
    bench.sdk.embeddings.create(model=model, input=[[1] * 500])

    assert answer.data[0].embedding == [0.5]
    first, second = bench.service.checks
    assert first["max_output_tokens"] == 0
    assert 500 < second["input_tokens"] < 700
    assert bench.service.told_by(bench.client)[0]["operation"] == "embeddings"


class City(BaseModel):
    name: str


def test_a_parsed_chat_is_counted_even_when_its_answer_was_cut_short(bench: Bench) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        bench.sdk.chat.completions.parse(
            model="length", messages=MESSAGES, response_format=City, max_tokens=5
        )

    assert bench.event["status"] == "error"
    assert bench.event["provider_usage"]["completion_tokens"] == 100


def test_raw_responses_are_counted_and_given_as_they_are(bench: Bench) -> None:
    raw = bench.sdk.chat.completions.with_raw_response.create(**CHAT)
    streamed = bench.sdk.with_raw_response.chat.completions.create(**CHAT, stream=True)

    assert raw.parse().id == "chatcmpl-1"
    assert raw.http_response.status_code == 200
    assert len(chunks_of(streamed.parse())) == 5
    assert [event["status"] for event in bench.service.told_by(bench.client)] == ["ok", "ok"]


def test_an_unread_response_is_counted_when_it_is_parsed_and_unknown_when_not(
    bench: Bench,
) -> None:
    unread = bench.sdk.chat.completions.with_streaming_response
    with unread.create(**CHAT) as response:
        assert response.parse().id == "chatcmpl-1"
    with unread.create(**CHAT) as response:
        assert b"secret" in b"".join(response.iter_bytes())
    with unread.create(**CHAT, stream=True) as response:
        assert len(chunks_of(response.parse())) == 5

    statuses = [event["status"] for event in bench.service.told_by(bench.client)]
    assert statuses == ["ok", "unknown", "ok"]


def test_retries_of_the_sdk_are_attempts_of_one_hold(bench: Bench) -> None:
    bench.sdk.chat.completions.create(model="once-429", messages=MESSAGES)

    assert len(bench.service.checks) == 1
    assert bench.provider.count("once-429") == 2
    assert (bench.event["status"], bench.event["attempt"]) == ("ok", 2)


def test_retries_show_in_streams_and_helpers_too(bench: Bench) -> None:
    with bench.sdk.chat.completions.stream(model="once-429", messages=MESSAGES) as stream:
        stream.until_done()

    assert bench.event["attempt"] == 2


@pytest.mark.parametrize("status", [400, 404, 429])
def test_a_refused_call_cost_nothing_and_frees_its_hold(bench: Bench, status: int) -> None:
    with pytest.raises(openai.APIStatusError):
        bench.sdk.chat.completions.create(model=f"status-{status}", messages=MESSAGES)

    event = bench.event
    assert event["status"] == "error"
    assert event["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert event["hold_id"] == "hold-1"


def test_an_error_of_the_provider_leaves_the_usage_unknown(bench: Bench) -> None:
    with pytest.raises(openai.InternalServerError):
        bench.sdk.chat.completions.create(model="status-500", messages=MESSAGES)

    assert (bench.event["status"], bench.event["attempt"]) == ("error", 2)
    assert not {"usage", "provider_usage"} & bench.event.keys()


def test_a_time_out_leaves_the_usage_unknown(bench: Bench) -> None:
    with pytest.raises(openai.APITimeoutError):
        bench.sdk.with_options(max_retries=0).chat.completions.create(
            model="slow", messages=MESSAGES
        )

    assert bench.event["status"] == "timeout"
    assert "usage" not in bench.event


def test_a_call_that_was_never_sent_is_released_and_not_recorded(bench: Bench) -> None:
    absent = bench.sdk.with_options(base_url=f"http://127.0.0.1:{free_port()}", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        absent.chat.completions.create(**CHAT)
    with pytest.raises(TypeError):
        bench.sdk.chat.completions.create(model="gpt-4o")  # type: ignore[call-overload]

    assert bench.service.told_by(bench.client) == []
    assert bench.service.released == ["hold-1", "hold-1"]


def test_a_denied_call_is_not_made(bench: Bench) -> None:
    bench.service.answer = DENIED

    with pytest.raises(QuotaDenied) as denied:
        bench.sdk.chat.completions.create(**CHAT)
    with pytest.raises(QuotaDenied), bench.sdk.chat.completions.stream(**CHAT):
        pass

    assert denied.value.permit.binding is not None
    assert denied.value.permit.binding.budget == "small"
    assert bench.provider.asked == []
    assert bench.service.told_by(bench.client) == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"max_completion_tokens": 30}),
        ({"max_tokens": 100}, {"max_tokens": 30}),
        ({"max_completion_tokens": 20}, {"max_completion_tokens": 20}),
        ({"max_tokens": 100, "n": 3}, {"max_tokens": 10, "n": 3}),
    ],
)
def test_a_reduced_call_is_made_with_less_output(
    bench: Bench, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    bench.service.answer = reduced(30)

    bench.sdk.chat.completions.create(**CHAT, **given)

    assert {name: bench.provider.asked[0].get(name) for name in sent} == sent
    assert bench.event["status"] == "ok"


def test_the_output_of_all_answers_is_held(bench: Bench) -> None:
    bench.sdk.chat.completions.create(**CHAT, max_tokens=100, n=3)

    assert bench.service.checks[0]["max_output_tokens"] == 300


def test_a_call_that_may_use_another_model_uses_it(bench: Bench) -> None:
    bench.service.answer = reduced(30, "gpt-4o-mini")

    bench.sdk.chat.completions.create(**CHAT)

    assert bench.provider.asked[0]["model"] == "gpt-4o-mini"
    assert bench.event["model"] == "gpt-4o-mini"


def test_a_call_reduced_below_what_the_provider_takes_is_denied_and_released(
    bench: Bench,
) -> None:
    bench.service.answer = reduced(8)

    with pytest.raises(QuotaDenied, match="8 tokens"):
        bench.sdk.responses.create(model="gpt-4o", input="A question.", max_output_tokens=100)

    assert bench.provider.asked == []
    assert bench.service.told_by(bench.client) == []
    assert bench.service.released == ["hold-1"]


def test_calls_belong_to_the_running_operation_and_its_tags(bench: Bench) -> None:
    with bench.client.operation(feature="chat", tenant="acme") as operation:
        bench.sdk.chat.completions.create(**CHAT)
        with tagged(tenant="inner"):
            bench.sdk.chat.completions.create(**CHAT)
    bench.sdk.chat.completions.create(**CHAT)

    first, second, third = bench.service.told_by(bench.client)
    checked = [check["operation_id"] for check in bench.service.checks]
    assert checked == [event["operation_id"] for event in (first, second, third)]
    assert first["operation_id"] == second["operation_id"] == operation.facts.operation_id
    assert (first["attempt"], second["attempt"], third["attempt"]) == (1, 2, 1)
    assert first["tags"] == {"team": "growth", "feature": "chat", "tenant": "acme"}
    assert second["tags"]["tenant"] == "inner"
    assert third["tags"] == {"team": "growth", "feature": "summarise"}
    assert third["operation_id"] != first["operation_id"]


def test_a_service_that_is_down_lets_calls_through_or_not(bench: Bench, tmp_path: Path) -> None:
    bench.service.is_down = True
    with bench.service.client(tmp_path / "closed", fail_mode="closed") as closed:
        with pytest.raises(QuotaUnavailable):
            closed.wrap(bench.original).chat.completions.create(**CHAT)
        assert bench.provider.asked == []

    bench.sdk.chat.completions.create(**CHAT)
    bench.service.is_down = False

    assert "hold_id" not in bench.event
    assert bench.event["provider_usage"]["prompt_tokens"] == CHAT_USAGE["prompt_tokens"]


def test_messages_that_can_be_read_once_reach_the_provider(bench: Bench) -> None:
    bench.sdk.chat.completions.create(model="gpt-4o", messages=(message for message in MESSAGES))

    assert bench.provider.asked[0]["messages"] == MESSAGES
    assert bench.service.checks[0]["input_tokens"] > 64


def test_an_sdk_of_the_other_kind_and_anything_else_is_refused(bench: Bench) -> None:
    with pytest.raises(TypeError, match="AsyncClient"):
        bench.client.wrap(openai.AsyncOpenAI(api_key="x"))
    with pytest.raises(TypeError, match="transport"):
        bench.client.wrap(object())

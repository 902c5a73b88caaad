"""Which spans are a billable call, and what an event says of its call besides its usage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from tests.formats.otlp.span_builders import START, TRACE, chat, event_of, make_span, span_id
from tokenbudget.domain.usage import Witness
from tokenbudget.formats.otlp import Reading, read_spans
from tokenbudget.formats.otlp.shapes import SpanEvent
from tokenbudget.formats.otlp.traces import milliseconds

OPERATION = "gen_ai.operation.name"
READING = Reading()


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({OPERATION: "chat"}, "chat"),
        ({OPERATION: "text_completion"}, "text_completion"),
        ({OPERATION: "generate_content"}, "generate_content"),
        ({OPERATION: "embeddings"}, "embeddings"),
        ({"openinference.span.kind": "LLM"}, "chat"),
        ({"openinference.span.kind": "EMBEDDING"}, "embeddings"),
        ({"ai.operationId": "ai.generateText.doGenerate"}, "chat"),
        ({"ai.operationId": "ai.streamText.doStream"}, "chat"),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, "embeddings"),
        ({"langfuse.observation.type": "generation"}, "chat"),
        ({"langfuse.observation.type": "embedding"}, "embeddings"),
        ({"llm.request.type": "completion"}, "text_completion"),
    ],
)
def test_model_calls_count(attributes: dict[str, Any], operation: str) -> None:
    event = event_of(make_span(attributes=attributes))

    assert event.operation == operation


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"feature": "summarise"},
        {"http.method": "POST", "http.url": "http://127.0.0.1/v1/chat/completions"},
        {**chat({}), OPERATION: "invoke_agent"},
        {**chat({}), OPERATION: "execute_tool"},
        {**chat({}), OPERATION: 7},
        {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5},
        {"ai.operationId": "ai.generateText", "ai.usage.inputTokens": 5},
        {"langfuse.observation.type": "span"},
        {"gen_ai.usage.input_tokens": 5},
        {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-5"},
    ],
)
def test_everything_else_is_ignored_and_remembered(attributes: dict[str, Any]) -> None:
    read = read_spans([make_span(attributes=attributes)], READING)

    assert read.events == ()
    assert read.ignored == 1
    assert [span.call for span in read.spans] == [None]


def test_a_span_without_operation_counts_when_it_names_provider_model_and_tokens() -> None:
    event = event_of(make_span(attributes=chat({OPERATION: None})))

    assert event.operation == "chat"


def test_claude_codes_request_counts_when_it_has_an_id() -> None:
    attributes: dict[str, Any] = {
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.response.id": "req_1",
        "input_tokens": "2",
        "output_tokens": 1_200,
        "cache_read_tokens": 84_562,
        "cache_creation_tokens": 7_096,
        "speed": "fast",
        "attempt": 2,
        "ttft_ms": 900,
    }
    span = make_span(attributes=attributes, name="claude_code.llm_request")
    nameless = replace(span, attributes={**attributes, "gen_ai.response.id": ""})

    event = event_of(span)

    assert event.quantities == {
        "input_tokens": 91_660,
        "cached_input_tokens": 84_562,
        "cache_write_tokens": 7_096,
        "output_tokens": 1_200,
    }
    assert (event.response_ref, event.service_tier) == ("req_1", "fast")
    assert (event.attempt, event.time_to_first_token_ms) == (2, 900)
    assert read_spans([nameless], READING).ignored == 1


def test_an_event_says_who_what_when_and_how_long() -> None:
    attributes = chat(
        {
            "gen_ai.response.model": "gpt-5-mini-2025-08-07",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.time_to_first_chunk": Decimal("0.0105"),
        }
    )

    event = event_of(make_span(7, attributes, start_ms=250, end_ms=1_750))

    assert event.source == "otlp:support-bot"
    assert event.event_ref == f"{TRACE}:{span_id(7)}"
    assert (event.trace_ref, event.span_ref) == (TRACE, span_id(7))
    assert (event.model, event.request_model) == ("gpt-5-mini-2025-08-07", "gpt-5-mini")
    assert (event.occurred_at - START).total_seconds() * 1_000 == 250
    assert (event.latency_ms, event.time_to_first_token_ms) == (1_500, 10)
    assert event.witness is Witness.OTLP
    assert event.status == "ok"


def test_a_nameless_service_is_a_source_too() -> None:
    assert event_of(make_span(resource={})).source == "otlp"


def test_a_span_told_twice_in_one_request_is_one_event() -> None:
    assert len(read_spans([make_span(), make_span()], READING).events) == 1


def test_content_is_the_same_however_it_was_tagged() -> None:
    tagged = make_span(attributes=chat({"feature": "summarise"}))

    assert event_of(tagged).content_hash == event_of(make_span()).content_hash
    assert event_of(tagged).tags != event_of(make_span()).tags


def test_other_counts_are_other_content() -> None:
    other = make_span(attributes=chat({"gen_ai.usage.output_tokens": 101}))

    assert event_of(other).content_hash != event_of(make_span()).content_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"trace_ref": ""},
        {"trace_ref": "0" * 32},
        {"span_ref": "ab"},
        {"span_ref": "0" * 16},
        {"started_at": None, "ended_at": None},
    ],
)
def test_a_call_without_ids_or_times_is_unusable(changes: dict[str, Any]) -> None:
    read = read_spans([replace(make_span(), **changes)], READING)

    assert (read.events, read.spans, read.unusable, read.ignored) == ((), (), 1, 0)


def test_a_call_with_one_time_happened_then() -> None:
    event = event_of(replace(make_span(), started_at=None))

    assert event.occurred_at == make_span().ended_at
    assert event.latency_ms is None


def test_a_clock_that_ran_back_gives_no_latency() -> None:
    assert milliseconds(make_span().ended_at, make_span().started_at) is None


@pytest.mark.parametrize(
    ("attributes", "provider", "model", "flags"),
    [
        ({"gen_ai.provider.name": None}, "openai", "gpt-5-mini", ("provider_inferred",)),
        (
            {"gen_ai.provider.name": None, "gen_ai.request.model": "house"},
            "unknown",
            "house",
            ("provider_unnamed",),
        ),
        ({"gen_ai.request.model": None}, "openai", "unknown", ("model_unnamed",)),
        ({"gen_ai.request.model": "models/gemini-3"}, "openai", "gemini-3", ()),
        (
            {"gen_ai.request.model": None, "llm.invocation_parameters": '{"model": "gpt-9"}'},
            "openai",
            "gpt-9",
            (),
        ),
        (
            {"gen_ai.request.model": None, "llm.invocation_parameters": '{"model": 9}'},
            "openai",
            "unknown",
            ("model_unnamed",),
        ),
        ({"server.address": "house.openai.azure.com"}, "azure", "gpt-5-mini", ()),
        ({"gen_ai.openai.api_base": "https://llm.corp:8443/v1"}, "together", "gpt-5-mini", ()),
        ({"server.address": "127.0.0.1"}, "openai", "gpt-5-mini", ()),
        ({"server.address": "http://[bad"}, "openai", "gpt-5-mini", ()),
        ({"server.address": ("a", "b")}, "openai", "gpt-5-mini", ()),
    ],
)
def test_provider_and_model_come_from_the_best_place(
    attributes: dict[str, Any], provider: str, model: str, flags: tuple[str, ...]
) -> None:
    reading = Reading(hosts={"llm.corp": "together"})

    event = event_of(make_span(attributes=chat(attributes)), reading)

    assert (event.provider, event.model, event.flags) == (provider, model, flags)


UNKNOWN = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}


@pytest.mark.parametrize(
    ("attributes", "message", "status", "is_refused"),
    [
        ({"error.type": "openai.NotFoundError"}, "", "error", True),
        ({"error.type": "RateLimitError"}, "", "error", True),
        ({"error.type": "429"}, "", "error", True),
        ({"error.type": "ValueError"}, "", "error", False),
        ({"http.response.status_code": 500}, "", "error", True),
        ({"http.response.status_code": 200}, "broken pipe", "error", False),
        ({}, "Error code: 404 - no such model", "error", True),
        ({}, "", "error", False),
        ({"error.type": "APITimeoutError"}, "", "timeout", False),
        ({"http.response.status_code": 504}, "", "timeout", False),
        ({}, "Request timed out.", "timeout", False),
        ({"error.type": "CancelledError"}, "", "cancelled", False),
        ({}, "stream aborted by the user", "cancelled", False),
    ],
)
def test_a_failed_call_used_nothing_only_where_it_was_refused(
    attributes: dict[str, Any], message: str, status: str, is_refused: bool
) -> None:
    span = make_span(
        attributes=chat({**UNKNOWN, **attributes}), is_error=True, status_message=message
    )

    event = event_of(span)

    assert event.status == status
    if is_refused:
        assert event.quantities == {"input_tokens": 0, "output_tokens": 0}
        assert event.flags == ("call_refused",)
    else:
        assert event.quantities is None


def test_an_exception_tells_how_a_call_failed() -> None:
    events = (SpanEvent("exception", {"exception.type": "anthropic.OverloadedError"}),)

    event = event_of(make_span(attributes=chat(UNKNOWN), is_error=True, events=events))

    assert event.flags == ("call_refused",)


def test_a_failed_call_with_usage_keeps_it() -> None:
    event = event_of(make_span(is_error=True, status_message="Error code: 500"))

    assert event.status == "error"
    assert event.quantities is not None
    assert event.quantities["input_tokens"] == 1_000


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gen_ai.server.time_to_first_token", Decimal("0.5"), 500),
        ("ai.response.msToFirstChunk", Decimal("44.888"), 45),
        ("gen_ai.response.time_to_first_chunk", Decimal(-1), None),
        ("gen_ai.response.time_to_first_chunk", "soon", None),
    ],
)
def test_the_time_to_the_first_token_is_in_milliseconds(
    name: str, value: Any, expected: int | None
) -> None:
    event = event_of(make_span(attributes=chat({name: value})))

    assert event.time_to_first_token_ms == expected


def test_an_attempt_that_is_no_number_is_the_first() -> None:
    assert event_of(make_span(attributes=chat({"attempt": 5_000}))).attempt == 1

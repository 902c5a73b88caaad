"""What the attributes of one call's span come to in our units, and which flags say what is odd."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.formats.otlp.span_builders import chat, event_of, make_span
from tokenbudget.formats.otlp import Reading

TRACELOOP_GEMINI = "opentelemetry.instrumentation.google_generativeai"
OPENLIT_ANTHROPIC = "openlit.instrumentation.anthropic"
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHE_READ, CACHE_WRITE = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
)
TOTAL = "gen_ai.usage.total_tokens"


def quantities_of(changes: dict[str, Any], scope: str = "app") -> dict[str, int] | None:
    quantities = event_of(make_span(attributes=chat(changes), scope=scope)).quantities
    return None if quantities is None else dict(quantities)


def flags_of(changes: dict[str, Any], scope: str = "app") -> tuple[str, ...]:
    return event_of(make_span(attributes=chat(changes), scope=scope)).flags


def test_input_and_output_hold_their_parts() -> None:
    changes = {CACHE_READ: 600, "gen_ai.usage.reasoning.output_tokens": 40}

    assert quantities_of(changes) == {
        "input_tokens": 1_000,
        "cached_input_tokens": 600,
        "output_tokens": 100,
        "reasoning_tokens": 40,
    }


@pytest.mark.parametrize(
    ("sent", "count"),
    [
        (7, 7),
        ("7", 7),
        (" 7 ", 7),
        ("seven", None),
        ("7" * 100, None),
        (True, None),
        (Decimal("7"), 7),
        (Decimal("7.5"), None),
        ("7.0", 7),
        (-7, None),
    ],
)
def test_counts_may_be_text_and_must_be_whole(sent: Any, count: int | None) -> None:
    quantities = quantities_of({INPUT: sent})

    assert quantities is not None
    assert quantities.get("input_tokens") == count


@pytest.mark.parametrize(
    ("input_name", "output_name"),
    [
        ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
        ("llm.token_count.prompt", "llm.token_count.completion"),
        ("ai.usage.inputTokens", "ai.usage.outputTokens"),
        ("ai.usage.promptTokens", "ai.usage.completionTokens"),
        ("llm.usage.prompt_tokens", "llm.usage.completion_tokens"),
    ],
)
def test_older_names_are_read_as_well(input_name: str, output_name: str) -> None:
    changes = {INPUT: None, OUTPUT: None, CACHE_READ: None, input_name: 11, output_name: 5}

    assert quantities_of(changes) == {"input_tokens": 11, "output_tokens": 5}


def test_of_several_names_of_one_field_the_newest_is_read() -> None:
    quantities = quantities_of({"gen_ai.usage.prompt_tokens": 1, "llm.token_count.prompt": 2})

    assert quantities is not None
    assert quantities["input_tokens"] == 1_000


def test_no_counts_are_unknown_and_not_zero() -> None:
    assert quantities_of({INPUT: None, OUTPUT: None}) is None


def test_cache_counts_alone_are_no_usage() -> None:
    assert quantities_of({INPUT: None, OUTPUT: None, CACHE_READ: 5}) is None


def test_cache_writes_by_lifetime_are_parts_of_those_written() -> None:
    prefix = "anthropic.usage.cache_creation.ephemeral_"

    quantities = quantities_of(
        {CACHE_WRITE: 500, f"{prefix}5m_input_tokens": 300, f"{prefix}1h_input_tokens": 150}
    )

    assert quantities is not None
    assert quantities["cache_write_5m_tokens"] == 300
    assert quantities["cache_write_1h_tokens"] == 150
    assert quantities["cache_write_tokens"] == 50


def test_modalities_above_zero_are_kept() -> None:
    quantities = quantities_of(
        {"gen_ai.usage.audio.input_tokens": 30, "gen_ai.usage.image.output_tokens": 0}
    )

    assert quantities is not None
    assert quantities["input_audio_tokens"] == 30
    assert "output_image_tokens" not in quantities


def test_an_emitter_known_to_leave_out_the_cache_gets_it_back() -> None:
    changes = {INPUT: 28, CACHE_READ: 18_944, CACHE_WRITE: 1_048, TOTAL: 128}

    assert quantities_of(changes, OPENLIT_ANTHROPIC) == {
        "input_tokens": 20_020,
        "cached_input_tokens": 18_944,
        "cache_write_tokens": 1_048,
        "output_tokens": 100,
    }
    assert flags_of(changes, OPENLIT_ANTHROPIC) == ()


def test_more_cache_than_input_shows_that_it_was_left_out() -> None:
    changes = {INPUT: 28, CACHE_READ: 900, TOTAL: 128}

    quantities = quantities_of(changes)

    assert quantities is not None
    assert quantities["input_tokens"] == 928
    assert flags_of(changes) == ("input_exclusive",)


def test_thoughts_that_traceloop_leaves_out_follow_from_the_total() -> None:
    changes = {TOTAL: 1_500}

    quantities = quantities_of(changes, TRACELOOP_GEMINI)

    assert quantities is not None
    assert (quantities["output_tokens"], quantities["reasoning_tokens"]) == (500, 400)
    assert flags_of(changes, TRACELOOP_GEMINI) == ("reasoning_from_total",)


def test_reasoning_beside_the_output_is_put_into_it_where_the_total_says_so() -> None:
    changes = {TOTAL: 1_140, "gen_ai.usage.reasoning_tokens": 40}

    quantities = quantities_of(changes)

    assert quantities is not None
    assert quantities["output_tokens"] == 140
    assert flags_of(changes) == ("reasoning_from_total",)


def test_another_total_is_flagged_and_nothing_is_guessed() -> None:
    quantities = quantities_of({TOTAL: 1_300})

    assert quantities is not None
    assert quantities["output_tokens"] == 100
    assert flags_of({TOTAL: 1_300}) == ("usage_total_mismatch",)


def test_counts_that_cannot_be_true_are_flagged() -> None:
    changes = {"gen_ai.usage.reasoning_tokens": 500}

    assert flags_of(changes) == ("usage_inconsistent",)


def test_counts_out_of_range_are_unknown() -> None:
    changes = {INPUT: 10**12}

    assert quantities_of(changes) is None
    assert flags_of(changes) == ("usage_out_of_range",)


def test_the_cache_is_unknown_where_an_unknown_emitter_does_not_tell_of_it() -> None:
    assert flags_of({CACHE_READ: None}) == ("cache_unknown",)
    assert flags_of({CACHE_READ: None}, "pydantic-ai") == ()
    assert flags_of({CACHE_READ: None, "gen_ai.operation.name": "embeddings"}) == ()


def test_a_streamed_guess_is_told_from_usage_by_the_missing_cache() -> None:
    streamed = {"gen_ai.request.stream": True, CACHE_READ: None, "gen_ai.usage.cost": 0}
    span = make_span(attributes=chat(streamed), scope="openlit.instrumentation.openai")

    guess = event_of(span)
    accepted = event_of(span, Reading(accepts_guesses=True))

    assert (guess.quantities, guess.flags) == (None, ("usage_estimated_by_emitter",))
    assert accepted.quantities == {"input_tokens": 1_000, "output_tokens": 100}
    assert accepted.flags == ("usage_estimated_by_emitter", "estimated_by_emitter")
    assert accepted.basis == "estimated"
    assert guess.reported_nanos is None


@pytest.mark.parametrize(("streaming", "flags"), [(True, 1), (None, 1), (False, 0)])
def test_traceloops_anthropic_output_is_inexact_unless_it_was_not_streamed(
    streaming: bool | None, flags: int
) -> None:
    scope = "opentelemetry.instrumentation.anthropic"

    assert len(flags_of({"gen_ai.is_streaming": streaming}, scope)) == flags


@pytest.mark.parametrize(
    ("attributes", "nanos"),
    [
        ({"gen_ai.usage.cost": Decimal("0.0123")}, 12_300_000),
        ({"operation.cost": "0.5"}, 500_000_000),
        ({"gen_ai.usage.total_cost": 2}, 2_000_000_000),
        ({"gen_ai.usage.cost": 0}, None),
        ({"gen_ai.usage.cost": Decimal("NaN")}, None),
        ({"gen_ai.usage.cost": Decimal("-1")}, None),
        ({"gen_ai.usage.cost": Decimal("1e12")}, None),
        ({"gen_ai.usage.cost": Decimal("1e-12")}, None),
        ({"gen_ai.usage.cost": "free"}, None),
        ({"langfuse.observation.cost_details": '{"total": 0.0128}'}, 12_800_000),
        ({"langfuse.observation.cost_details": '{"input": 0.01}'}, None),
        ({"langfuse.observation.cost_details": "none"}, None),
        ({}, None),
    ],
)
def test_an_emitters_cost_is_kept_when_it_says_anything(
    attributes: dict[str, Any], nanos: int | None
) -> None:
    assert event_of(make_span(attributes=chat(attributes))).reported_nanos == nanos


@pytest.mark.parametrize(
    ("name", "tier", "expected"),
    [
        ("openai.response.service_tier", "default", "standard"),
        ("gen_ai.openai.response.service_tier", "Flex", "flex"),
        ("anthropic.response.service_tier", "priority", "priority"),
    ],
)
def test_the_service_tier_is_in_our_words(name: str, tier: str, expected: str) -> None:
    assert event_of(make_span(attributes=chat({name: tier}))).service_tier == expected


OPENAI_USAGE = {
    "prompt_tokens": 1_825,
    "completion_tokens": 313,
    "total_tokens": 2_138,
    "prompt_tokens_details": {"cached_tokens": 1_536},
}
OPENAI_QUANTITIES = {"input_tokens": 1_825, "cached_input_tokens": 1_536, "output_tokens": 313}
ANTHROPIC_USAGE = {
    "input_tokens": 25,
    "cache_read_input_tokens": 18_944,
    "output_tokens": 209,
    "server_tool_use": {"web_search_requests": 2},
}
RAW = "gen_ai.usage.raw"
LANGFUSE = "langfuse.observation.usage_details"
VERCEL = "ai.response.providerMetadata"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({RAW: json.dumps(OPENAI_USAGE)}, OPENAI_QUANTITIES),
        ({RAW: OPENAI_USAGE}, OPENAI_QUANTITIES),
        ({LANGFUSE: json.dumps(OPENAI_USAGE)}, OPENAI_QUANTITIES),
        (
            {VERCEL: json.dumps({"anthropic": {"usage": ANTHROPIC_USAGE}})},
            {
                "input_tokens": 18_969,
                "cached_input_tokens": 18_944,
                "output_tokens": 209,
                "web_searches": 2,
            },
        ),
        (
            {LANGFUSE: '{"input": 21, "output": 205, "cache_read_input_tokens": 900}'},
            {"input_tokens": 921, "cached_input_tokens": 900, "output_tokens": 205},
        ),
        (
            {LANGFUSE: '{"input": 21, "output": 5, "output_reasoning_tokens": 4, "total": 30}'},
            {"input_tokens": 21, "reasoning_tokens": 4, "output_tokens": 9},
        ),
        (
            {LANGFUSE: '{"input": 21, "output": 5, "input_cached_tokens": 4, "total": 26}'},
            {"input_tokens": 21, "cached_input_tokens": 4, "output_tokens": 5},
        ),
        (
            {LANGFUSE: '{"input": 3, "calls": 7, "note": true}'},
            {"input_tokens": 3, "output_tokens": 0},
        ),
    ],
)
def test_a_providers_own_usage_beats_the_attributes(
    attributes: dict[str, Any], expected: dict[str, int]
) -> None:
    assert quantities_of(attributes) == expected


@pytest.mark.parametrize(
    "attributes",
    [
        {RAW: "{"},
        {RAW: "[]"},
        {RAW: "{}"},
        {RAW: '{"colour": 1}'},
        {RAW: '{"prompt_tokens": -1}'},
        {RAW: json.dumps({**OPENAI_USAGE, "completion_tokens": 10**12})},
        {VERCEL: '{"openai": {"acceptedPredictionTokens": 0}}'},
        {VERCEL: '{"openai": null}'},
        {VERCEL: "none"},
        {"openinference.span.kind": "LLM", "output.value": "Hello"},
        {"openinference.span.kind": "LLM"},
    ],
)
def test_usage_that_cannot_be_read_leaves_the_attributes(attributes: dict[str, Any]) -> None:
    quantities = quantities_of(attributes)

    assert quantities is not None
    assert quantities["input_tokens"] == 1_000


def test_a_response_passed_on_whole_gives_id_tier_and_usage() -> None:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "service_tier": "flex",
        "choices": [{"message": {"content": "secret"}}],
        "usage": OPENAI_USAGE,
    }

    event = event_of(
        make_span(
            attributes={
                "openinference.span.kind": "LLM",
                "llm.system": "openai",
                "llm.model_name": "gpt-5-mini",
                "output.value": json.dumps(body),
            }
        )
    )

    assert event.response_ref == "chatcmpl-1"
    assert event.service_tier == "flex"
    assert event.quantities == OPENAI_QUANTITIES


def test_the_id_of_another_object_is_no_response_id() -> None:
    body = {"id": "run-1", "type": "LLMResult", "usage": None}

    event = event_of(
        make_span(
            attributes=chat({"openinference.span.kind": "LLM", "output.value": json.dumps(body)})
        )
    )

    assert event.response_ref is None

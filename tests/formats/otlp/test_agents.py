"""Requests of coding agents, told by their log events, count once each.

The attributes are those their documentation and sources name (see ``agents.py``).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.formats.otlp.captured_runs import list_exports
from tests.formats.otlp.span_builders import START, TRACE, event_of, make_record, make_span, span_id
from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.otlp import Reading, decode_log_records, read_log_records
from tokenbudget.formats.otlp.shapes import LogRecord

READING = Reading()
CLAUDE: dict[str, Any] = {
    "event.name": "api_request",
    "event.timestamp": "2026-11-21T03:00:05.250Z",
    "event.sequence": 3,
    "session.id": "s-1",
    "user.account_uuid": "u-1",
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": "28",
    "output_tokens": "212",
    "cache_read_tokens": 18_944,
    "cache_creation_tokens": 1_048,
    "cost_usd": "0.0128",
    "duration_ms": 1_500,
    "request_id": "req_011",
    "speed": "normal",
}
CODEX: dict[str, Any] = {
    "event.name": "codex.sse_event",
    "event.kind": "response.completed",
    "event.timestamp": "2026-11-21T03:00:05Z",
    "conversation.id": "c-1",
    "model": "gpt-5.2-codex",
    "input_token_count": "1829",
    "output_token_count": "317",
    "cached_token_count": 1_536,
    "reasoning_token_count": 192,
    "tool_token_count": "2146",
}
GEMINI: dict[str, Any] = {
    "event.name": "gemini_cli.api_response",
    "event.timestamp": "2026-11-21T03:00:05Z",
    "session.id": "s-2",
    "model": "gemini-2.5-pro",
    "duration_ms": 900,
    "input_token_count": 12_000,
    "output_token_count": 350,
    "cached_content_token_count": 8_000,
    "thoughts_token_count": 420,
    "tool_token_count": 30,
    "total_token_count": 12_800,
    "prompt_id": "p-1",
}


def claude_record(changes: dict[str, Any] | None = None, **fields: Any) -> LogRecord:
    attributes = {**CLAUDE, **(changes or {})}
    return make_record("", attributes, body="claude_code.api_request", **fields)


def event_in(record: LogRecord) -> UsageEvent:
    (event,) = read_log_records([record], READING).events
    return event


def test_a_request_of_claude_code_holds_its_cache() -> None:
    event = event_in(claude_record())

    assert (event.provider, event.model) == ("anthropic", "claude-sonnet-4-5-20250929")
    assert event.quantities == {
        "input_tokens": 20_020,
        "cached_input_tokens": 18_944,
        "cache_write_tokens": 1_048,
        "output_tokens": 212,
    }
    assert event.response_ref == "req_011"
    assert (event.latency_ms, event.reported_nanos) == (1_500, 12_800_000)
    assert event.occurred_at == START + timedelta(milliseconds=3_750)
    assert event.tags == {
        "service": "agent",
        "team": "platform",
        "session_id": "s-1",
        "user": "u-1",
    }
    assert (event.witness, event.source) == (Witness.OTLP, "otlp:agent")


def test_a_request_in_fast_mode_has_its_own_tier() -> None:
    assert event_in(claude_record({"speed": "fast"})).service_tier == "fast"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock"),
        ("claude-sonnet-4-5@20250929", "google"),
        ("house-model", "anthropic"),
    ],
)
def test_claude_served_elsewhere_is_told_by_the_models_name(model: str, provider: str) -> None:
    assert event_in(claude_record({"model": model})).provider == provider


def test_the_span_of_the_same_request_has_the_same_response_id() -> None:
    span = make_span(
        name="claude_code.llm_request",
        attributes={
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5-20250929",
            "gen_ai.response.id": "req_011",
            "input_tokens": 28,
            "output_tokens": 212,
            "cache_read_tokens": 18_944,
            "cache_creation_tokens": 1_048,
        },
    )

    told, traced = event_in(claude_record()), event_of(span)

    assert (told.provider, told.response_ref) == (traced.provider, traced.response_ref)
    assert told.quantities == traced.quantities


def test_trace_and_span_of_the_turn_do_not_identify_a_request() -> None:
    event = event_in(claude_record(trace_ref=TRACE, span_ref=span_id(1)))

    assert (event.trace_ref, event.span_ref) == (TRACE, None)


def test_a_request_sent_again_is_the_same_and_the_next_is_another() -> None:
    first, again = claude_record(), claude_record()
    following = claude_record({"event.sequence": 4})

    read = read_log_records([first, again, following], READING)

    assert len(read.events) == 2
    assert event_in(first).event_ref == event_in(again).event_ref
    assert event_in(first).content_hash == event_in(again).content_hash
    assert event_in(first).event_ref != event_in(following).event_ref


def test_a_completed_response_of_codex_is_a_request() -> None:
    event = event_in(make_record("", CODEX))

    assert (event.provider, event.model) == ("openai", "gpt-5.2-codex")
    assert event.quantities == {
        "input_tokens": 1_829,
        "cached_input_tokens": 1_536,
        "output_tokens": 317,
        "reasoning_tokens": 192,
    }
    assert event.tags["conversation_id"] == "c-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"event.kind": "response.output_item.done"},
        {name: None for name in CODEX if name.endswith("_token_count")},
    ],
)
def test_other_events_of_codex_are_none(changes: dict[str, Any]) -> None:
    read = read_log_records([make_record("", {**CODEX, **changes})], READING)

    assert (read.events, read.ignored) == ((), 1)


def test_a_response_of_gemini_cli_holds_thoughts_and_tools() -> None:
    event = event_in(make_record("gemini_cli.api_response", GEMINI))

    assert event.provider == "google"
    assert event.quantities == {
        "input_tokens": 12_030,
        "cached_input_tokens": 8_000,
        "output_tokens": 770,
        "reasoning_tokens": 420,
    }
    assert event.flags == ()


def test_a_total_that_does_not_add_up_is_flagged() -> None:
    event = event_in(make_record("", {**GEMINI, "total_token_count": 99}))

    assert event.flags == ("usage_total_mismatch",)


def test_counts_out_of_range_are_unknown() -> None:
    event = event_in(make_record("", {**GEMINI, "input_token_count": 10**12}))

    assert event.quantities is None


@pytest.mark.parametrize(
    ("name", "attributes", "status", "is_refused"),
    [
        ("claude_code.api_error", {"status_code": "429", "error": "rate limited"}, "error", True),
        (
            "claude_code.api_error",
            {"status_code": "undefined", "error": "ECONNRESET"},
            "error",
            False,
        ),
        ("claude_code.api_error", {"error": "Request timed out."}, "timeout", False),
        ("claude_code.api_error", {"error": "Request was aborted."}, "cancelled", False),
        ("gemini_cli.api_error", {"status_code": 503, "error_type": "ServerError"}, "error", True),
        ("gemini_cli.api_error", {}, "error", False),
    ],
)
def test_a_failed_request_used_nothing_only_where_it_was_refused(
    name: str, attributes: dict[str, Any], status: str, is_refused: bool
) -> None:
    event = event_in(make_record(name, {"model": "m", **attributes}))

    assert event.status == status
    assert event.quantities == ({"input_tokens": 0, "output_tokens": 0} if is_refused else None)


def test_usage_that_a_request_does_not_tell_is_unknown() -> None:
    event = event_in(make_record("claude_code.api_request", {}))

    assert (event.quantities, event.model) == (None, "unknown")
    assert event.flags == ("model_unnamed",)
    assert event_in(make_record("gemini_cli.api_response", {})).quantities is None


@pytest.mark.parametrize("told", ["yesterday", "2026-11-21T03:00:05"])
def test_a_time_that_is_none_leaves_the_records_own(told: str) -> None:
    event = event_in(claude_record({"event.timestamp": told, "duration_ms": None}))

    assert event.occurred_at == START


def test_a_request_without_any_time_is_unusable() -> None:
    record = replace(claude_record({"event.timestamp": None}), occurred_at=None)

    read = read_log_records([record], READING)

    assert (read.events, read.unusable) == ((), 1)


@pytest.mark.parametrize("export", list_exports("openlit_1.45.0", "logs"), ids=lambda e: e.name)
def test_events_that_repeat_a_span_are_ignored(export: Any) -> None:
    records = decode_log_records(export.body, export.encoding)

    read = read_log_records(records, READING)

    assert read.events == ()
    assert read.ignored == len(records) > 0


@pytest.mark.parametrize("body", ["printed a line", 7, None])
def test_plain_log_lines_are_ignored(body: Any) -> None:
    read = read_log_records([make_record("", {}, body=body)], READING)

    assert read.ignored == 1

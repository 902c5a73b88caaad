"""Files of single calls as usage events: who tells, what of, and by what they are joined."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.formats.calls.call_cases import (
    GENERATIONS,
    OBSERVATIONS,
    SPEND_LOGS,
    read_events,
    write_lines,
)
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.calls import find_call_format

GENERATION = {
    "generation_id": "gen-1",
    "created_at": "2026-09-01 00:00:00.113",
    "cost_total": "0.5",
    "tokens_prompt": "100",
    "tokens_completion": "10",
    "model_permaslug": "acme/plain",
}
LOG: dict[str, Any] = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "hash",
    "spend": 0.5,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "startTime": "2026-09-01 10:00:00.5+00",
    "endTime": "2026-09-01 10:00:02.5+00",
    "model": "plain",
    "custom_llm_provider": "acme",
    "status": "success",
}
OBSERVATION: dict[str, Any] = {
    "id": "b7ad6b7169203331",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "type": "GENERATION",
    "start_time": "2026-09-01 10:00:00.123000",
    "provided_model_name": "gpt-4.1",
    "usage_details": {"input": 70, "output": 10},
}


def read_one(directory: Path, row: dict[str, Any], **overrides: Any) -> UsageEvent:
    [event] = read_events(write_lines(directory, {**row, **overrides}))
    return event


def test_a_generation_is_told_by_the_provider_itself() -> None:
    first, second = read_events(GENERATIONS)

    assert (first.provider, first.model) == ("openrouter", "anthropic/claude-4.5-sonnet-20250929")
    assert (first.witness, first.response_ref) == (Witness.PROVIDER, "gen-1788220800-aaa")
    assert first.occurred_at == datetime(2026, 9, 1, 0, 0, 0, 113_000, tzinfo=UTC)
    assert first.quantities == {
        "input_tokens": 10_389,
        "cached_input_tokens": 8_000,
        "output_tokens": 137,
        "reasoning_tokens": 0,
    }
    assert (first.reported_nanos, first.account, first.status) == (12_300_000, "prod", "ok")
    assert (first.latency_ms, first.time_to_first_token_ms) == (2_210, 340)
    assert (second.status, second.reported_nanos) == ("cancelled", 4_200_000)
    assert second.tags == {
        "user": "u-17",
        "key_alias": "byok",
        "upstream_provider": "OpenAI",
        "byok": "true",
    }


@pytest.mark.parametrize(
    ("variant", "slug", "model"),
    [
        ("free", "acme/plain", "acme/plain:free"),
        ("free", "acme/plain:free", "acme/plain:free"),
        ("standard", "acme/plain", "acme/plain"),
        (None, "acme/plain", "acme/plain"),
    ],
)
def test_the_variant_of_a_generation_is_part_of_its_model(
    tmp_path: Path, variant: str | None, slug: str, model: str
) -> None:
    event = read_one(tmp_path, GENERATION, variant=variant, model_permaslug=slug)

    assert event.model == model


def test_replayed_hits_beyond_the_input_are_not_inside_of_it(tmp_path: Path) -> None:
    event = read_one(tmp_path, GENERATION, tokens_cached="150")

    assert event.quantities == {"input_tokens": 100, "output_tokens": 10}


def test_a_spend_log_is_told_by_a_gateway_like_its_callback() -> None:
    first, refused, cached = read_events(SPEND_LOGS)

    assert (first.source, first.witness) == ("litellm", Witness.GATEWAY)
    assert (first.provider, first.model, first.request_model) == (
        "openai",
        "gpt-4.1-2025-04-14",
        "gpt-4.1",
    )
    assert first.quantities == {
        "input_tokens": 1_500,
        "cached_input_tokens": 300,
        "output_tokens": 225,
    }
    assert (first.response_ref, first.operation_ref) == ("chatcmpl-ex1", "s1")
    assert (first.reported_nanos, first.latency_ms) == (4_350_000, 2_333)
    assert first.tags["team"] == "search"
    assert first.tags["env"] == "prod"
    assert first.tags["litellm_key"].startswith("88dc28d0")
    assert (refused.provider, refused.status) == ("unknown", "error")
    assert (refused.response_ref, refused.quantities) == (
        None,
        {"input_tokens": 0, "output_tokens": 0},
    )
    assert (cached.cache_hit, cached.response_ref, cached.reported_nanos) == (True, None, 0)
    assert cached.tags["team"] == "team-1"


def test_a_spend_log_may_be_a_table_with_json_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    cells = {
        **LOG,
        "metadata": '{""user_api_key_team_alias"": ""growth""}',
        "request_tags": '[""env:prod""]',
    }
    values = [str(cell) for cell in cells.values()]
    path.write_text(",".join(cells) + "\n" + ",".join(f'"{value}"' for value in values) + "\n")

    [event] = read_events(path)

    assert event.tags == {"team": "growth", "env": "prod", "litellm_key": "hash"}
    assert event.occurred_at == datetime(2026, 9, 1, 10, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("metadata", "quantities"),
    [
        (
            {"error_information": {"error_class": "RateLimitError"}},
            {"input_tokens": 0, "output_tokens": 0},
        ),
        ({"error_information": {"error_code": "500"}}, None),
        ({"error_information": {"error_class": "Other"}}, None),
        ({"error_information": "broken"}, None),
        ({}, None),
    ],
)
def test_a_failure_is_known_to_have_used_nothing_or_not_known(
    tmp_path: Path, metadata: dict[str, Any], quantities: dict[str, int] | None
) -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    event = read_one(tmp_path, LOG, status="failure", metadata=metadata, **zeros)

    assert (event.status, event.quantities) == ("error", quantities)


def test_what_metadata_of_a_spend_log_says_comes_before_its_columns(tmp_path: Path) -> None:
    metadata = {
        "user_api_key_team_id": "alpha",
        "status": "success",
        "spend_logs_metadata": {"feature": "search"},
    }
    row = {name: value for name, value in LOG.items() if name not in ("status", "api_key")}

    event = read_one(tmp_path, row, metadata=metadata, team_id="beta", api_key="", request_tags=7)

    assert event.tags == {"team": "alpha", "feature": "search"}


def test_a_spend_log_may_not_say_how_it_ended(tmp_path: Path) -> None:
    row = {name: value for name, value in LOG.items() if name != "status"}

    assert read_one(tmp_path, row).status == "ok"


def test_an_observation_stands_for_the_span_it_was() -> None:
    first, failed = read_events(OBSERVATIONS)

    assert (first.provider, first.model) == ("openai", "gpt-4.1-2025-04-14")
    assert (first.witness, first.trace_ref, first.span_ref) == (Witness.GATEWAY, "tr-1", "obs-1")
    assert first.quantities == {
        "input_tokens": 1_500,
        "cached_input_tokens": 300,
        "output_tokens": 225,
    }
    assert (first.reported_nanos, first.latency_ms) == (4_350_000, 2_333)
    assert (first.tags["environment"], first.tags["tenant"]) == ("production", "acme")
    assert (failed.provider, failed.status) == ("unknown", "error")
    assert (failed.quantities, failed.reported_nanos) == (None, None)


def test_only_calls_of_models_are_events(tmp_path: Path) -> None:
    rows = [{**OBSERVATION, "id": kind, "type": kind} for kind in ("SPAN", "EMBEDDING", "TOOL")]

    assert [event.event_ref for event in read_events(write_lines(tmp_path, *rows))] == ["EMBEDDING"]


def test_an_observation_that_litellm_made_names_the_response(tmp_path: Path) -> None:
    event = read_one(tmp_path, OBSERVATION, id="time-10-00-00-123000_chatcmpl-17")

    assert event.response_ref == "chatcmpl-17"


def test_metadata_names_the_provider_before_the_model_does(tmp_path: Path) -> None:
    event = read_one(tmp_path, OBSERVATION, metadata={"ls_provider": "azure"}, tags=["b", "a", 7])

    assert event.provider == "azure"
    assert event.tags == {"langfuse_tags": "a,b"}


def test_an_observation_may_not_know_its_model(tmp_path: Path) -> None:
    event = read_one(tmp_path, OBSERVATION, provided_model_name=None)

    assert (event.provider, event.model) == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("details", "quantities", "flags"),
    [
        (
            {"input": 70, "input_cached_tokens": 30, "output": 6, "output_reasoning_tokens": 4},
            {
                "input_tokens": 100,
                "cached_input_tokens": 30,
                "output_tokens": 10,
                "reasoning_tokens": 4,
            },
            (),
        ),
        (
            {"input": 100, "cache_read_input_tokens": 30, "output": 10, "total": 110},
            {"input_tokens": 100, "cached_input_tokens": 30, "output_tokens": 10},
            (),
        ),
        (
            {"input": 50, "cache_creation_input_tokens": 20, "input_audio": 5, "total": 75},
            {"input_tokens": 75, "cache_write_tokens": 20, "input_audio_tokens": 5},
            (),
        ),
        (
            {"input": 5, "output": 1, "output_audio": 2, "images": 9, "total": 99},
            {"input_tokens": 5, "output_tokens": 3, "output_audio_tokens": 2},
            ("langfuse_total_differs",),
        ),
    ],
)
def test_classes_of_an_observation_stand_apart_unless_its_total_says_otherwise(
    tmp_path: Path, details: dict[str, int], quantities: dict[str, int], flags: tuple[str, ...]
) -> None:
    event = read_one(tmp_path, OBSERVATION, usage_details=details)

    assert (event.quantities, event.flags) == (quantities, flags)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**GENERATION, "created_at": "today"}, "row 1, column created_at: 'today' is not a UTC"),
        ({**GENERATION, "tokens_prompt": "-5"}, "row 1, column tokens_prompt: '-5' is not a count"),
        ({**GENERATION, "generation_id": ""}, "row 1, column generation_id: must not be null"),
        (
            {**GENERATION, "created_at": "2027-09-01T00:00:00Z"},
            "row 1, column occurred_in_future: occurred_at 2027",
        ),
        ({**LOG, "startTime": None}, "row 1, column startTime: must not be null"),
        ({**LOG, "startTime": 17}, "row 1, column startTime: '17' is not a UTC time"),
        ({**LOG, "metadata": "{"}, "row 1, column metadata: '{' is not JSON"),
        ({**LOG, "metadata": "[1]"}, r"row 1, column metadata: '\[1\]' is not a JSON object"),
        ({**OBSERVATION, "usage_details": {"input": -1}}, "column usage_details.input: -1 is not"),
    ],
)
def test_a_wrong_row_is_refused_naming_the_place_and_the_rule(
    tmp_path: Path, row: dict[str, Any], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"calls\.jsonl: .*{rule}"):
        read_events(write_lines(tmp_path, row))


def test_a_file_of_something_else_is_no_file_of_calls(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_text("date,amount\n")

    assert find_call_format(path, None) is None
    assert find_call_format(path, "openai-costs") is None


def test_a_source_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="column id is missing"):
        read_events(GENERATIONS, "langfuse")

"""A record of LiteLLM's callback: which fields are read, what they mean and what is never kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.litellm_samples import PROMPT, make_record
from tokenbudget.domain.errors import TooLarge
from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.events import Door, Rejection
from tokenbudget.formats.foreign_records import Reading
from tokenbudget.formats.litellm import CallbackDoor, read_callback, reread_callback

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = CallbackDoor(Door(NOW, timedelta(days=1)), {"gemini": "google"}.get)


def read_one(record: object) -> Reading:
    """Give the reading of one record."""
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    [reading] = read_callback(body, DOOR, max_records=10)
    return reading


def read_event(**overrides: Any) -> UsageEvent:
    """Give the usage of ``make_record(**overrides)``."""
    item = read_one(make_record(**overrides)).item
    assert isinstance(item, UsageEvent), item
    return item


def with_usage(usage: object, **overrides: Any) -> dict[str, Any]:
    """Give a record with this usage object and no totals beside it."""
    totals = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    return make_record(**{"metadata": {"usage_object": usage}, **totals, **overrides})


def test_a_record_is_usage_as_a_gateway_tells_it() -> None:
    event = read_event()

    assert (event.source, event.event_ref, event.witness) == ("litellm", "call-1", Witness.GATEWAY)
    assert (event.provider, event.model, event.request_model) == ("acme", "plain", "the-plain-one")
    assert event.quantities == {"input_tokens": 10_000, "output_tokens": 5_000}
    assert event.occurred_at == datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
    assert (event.latency_ms, event.time_to_first_token_ms) == (1250, None)
    assert (event.operation, event.service_tier, event.status) == ("chat", None, "ok")
    assert (event.reported_nanos, event.response_ref) == (20_000_000, "chatcmpl-1")
    assert (event.operation_ref, event.trace_ref, event.attempt) == ("trace-1", None, 1)
    assert event.tags == {"team": "growth", "user": "u-1", "api_host": "api.acme.test"}


def test_the_provider_is_named_as_the_price_book_names_it() -> None:
    event = read_event(custom_llm_provider="gemini", model="gemini/gemini-2.5-flash")

    assert (event.provider, event.model) == ("google", "gemini-2.5-flash")


@pytest.mark.parametrize(
    ("seconds", "micros"),
    [("1795176000.358375", 358_375), ("1795176000.3583754", 358_375), ("1795176000", 0)],
)
def test_times_are_read_by_their_digits(seconds: str, micros: int) -> None:
    body = json.dumps(make_record()).replace("1795176000.25", seconds).encode()

    item = read_one(body).item

    assert isinstance(item, UsageEvent)
    assert item.occurred_at == NOW.replace(microsecond=micros)


def test_a_stream_tells_when_its_first_token_came() -> None:
    assert read_event(stream=True).time_to_first_token_ms == 500
    assert read_event(stream=True, completionStartTime=None).time_to_first_token_ms is None
    assert read_event(endTime=1795175999).latency_ms is None


def test_without_a_start_the_end_is_the_time_and_without_both_there_is_none() -> None:
    ended = read_event(startTime=None)
    never = read_one(make_record(startTime=None, endTime=10**14)).item

    assert ended.occurred_at == datetime(2026, 11, 20, 12, 0, 1, 500_000, tzinfo=UTC)
    assert isinstance(never, Rejection)
    assert (never.code, "occurred_at" in never.detail) == ("missing_field", True)


def test_details_of_the_usage_are_in_our_units() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {
            "cached_tokens": 40,
            "cache_write_tokens": 30,
            "audio_tokens": 7,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": 10,
                "ephemeral_1h_input_tokens": 20,
            },
        },
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": None},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "priority",
    }

    item = read_one(with_usage(usage)).item

    assert isinstance(item, UsageEvent)
    assert item.service_tier == "priority"
    assert item.quantities == {
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "cache_write_5m_tokens": 10,
        "cache_write_1h_tokens": 20,
        "input_audio_tokens": 7,
        "output_tokens": 50,
        "reasoning_tokens": 5,
        "web_searches": 2,
    }


def test_a_usage_object_of_many_levels_is_kept_to_a_few() -> None:
    deep: dict[str, Any] = {"note": PROMPT * 20, "big": 1e300, "nothing": 0.0}
    for _ in range(10):
        deep = {"inside": deep}

    reading = read_one(make_record(metadata={"usage_object": {**deep, "odd": 0.5, "no": 0.0}}))

    assert json.loads(reading.record.kept or "")["metadata"]["usage_object"] == {
        "odd": 0.5,
        "no": 0.0,
    }


def test_totals_stand_in_for_a_usage_object_that_cannot_be_read() -> None:
    event = read_event(metadata={"usage_object": {"tokens_of_some_kind": 3}})

    assert event.quantities == {"input_tokens": 10_000, "output_tokens": 5_000}
    assert "usage_object_unread" in event.flags


def test_counts_that_nobody_can_read_are_set_aside() -> None:
    item = read_one(with_usage({"tokens_of_some_kind": 3})).item

    assert isinstance(item, Rejection)
    assert (item.code, item.event_id) == ("usage_invalid", "call-1")


@pytest.mark.parametrize("usage", [{}, None, {"prompt_tokens": 0, "details": {"audio": 0}}])
def test_usage_that_was_never_told_is_unknown_and_not_zero(usage: object) -> None:
    item = read_one(with_usage(usage)).item

    assert isinstance(item, UsageEvent)
    assert (item.quantities, item.status) == (None, "ok")


@pytest.mark.parametrize(
    ("code", "error_class", "status", "quantities"),
    [
        ("404", "NotFoundError", "error", {"input_tokens": 0, "output_tokens": 0}),
        ("429", "RateLimitError", "error", {"input_tokens": 0, "output_tokens": 0}),
        ("500", "InternalServerError", "error", None),
        ("", "APIConnectionError", "error", None),
        ("408", "Timeout", "timeout", None),
        ("504", "GatewayTimeout", "timeout", None),
        ("", "APITimeoutError", "timeout", None),
        ("499", "ClientDisconnect", "cancelled", None),
        ("", "CancelledError", "cancelled", None),
    ],
)
def test_a_failure_costs_nothing_only_where_the_provider_refused_the_work(
    code: str, error_class: str, status: str, quantities: dict[str, int] | None
) -> None:
    error = {"error_code": code, "error_class": error_class}

    item = read_one(
        with_usage({}, status="failure", response_cost=0.0, error_information=error)
    ).item

    assert isinstance(item, UsageEvent)
    assert (item.status, item.quantities, item.reported_nanos) == (status, quantities, None)


def test_a_failure_that_was_counted_keeps_its_counts() -> None:
    error = {"error_code": "499", "error_class": "ClientDisconnect"}

    event = read_event(status="failure", error_information=error)

    assert (event.status, event.quantities) == (
        "cancelled",
        {"input_tokens": 10_000, "output_tokens": 5_000},
    )


def test_an_answer_from_the_proxys_cache_is_a_call_of_its_own_for_nothing() -> None:
    event = read_event(cache_hit=True, response_cost=0.0)

    assert (event.cache_hit, event.response_ref, event.reported_nanos) == (True, None, 0)
    assert read_event(response_cost=0.0).reported_nanos is None
    assert read_event(response_cost=True).reported_nanos is None


def test_an_id_that_repeats_the_calls_is_no_response_id() -> None:
    assert read_event(id="call-1").response_ref is None


def test_a_record_without_a_call_id_goes_by_its_own() -> None:
    assert read_event(litellm_call_id=None).event_ref == "chatcmpl-1"


@pytest.mark.parametrize(
    ("call_type", "operation"),
    [
        ("acompletion", "chat"),
        ("anthropic_messages", "chat"),
        ("aresponses", "chat"),
        ("embedding", "embeddings"),
        ("aembedding", "embeddings"),
        ("aimage_generation", "aimage_generation"),
        (None, None),
    ],
)
def test_call_types_are_operations(call_type: str | None, operation: str | None) -> None:
    assert read_event(call_type=call_type).operation == operation


def test_tier_and_region_are_those_the_call_was_served_from() -> None:
    event = read_event(
        response={"service_tier": "flex"}, cost_breakdown={"vertex_location": "europe-west1"}
    )

    assert (event.service_tier, event.region) == ("flex", "europe-west1")
    assert read_event(response={}, cost_breakdown={"service_tier": "auto"}).service_tier is None


def test_retries_and_fallbacks_are_attempts() -> None:
    headers = {"x-litellm-attempted-retries": 2, "x-litellm-attempted-fallbacks": 1}

    assert read_event(hidden_params={"additional_headers": headers}).attempt == 4
    headers["x-litellm-attempted-retries"] = 10**9
    assert read_event(hidden_params={"additional_headers": headers}).attempt == 1000


def test_a_session_is_a_tag_and_not_the_operation() -> None:
    asked = {"session_id": "s-7", "trace_id": "tr-1"}

    event = read_event(trace_id="s-7", metadata={"requester_metadata": asked})

    assert (event.operation_ref, event.trace_ref) == ("tr-1", "tr-1")
    assert event.tags["session_id"] == "s-7"


def test_the_keys_own_fields_beat_what_a_caller_can_set() -> None:
    metadata = {
        "user_api_key_team_alias": "support",
        "user_api_key_team_id": "t-1",
        "user_api_key_org_id": "org-1",
        "user_api_key_project_id": "p-1",
        "user_api_key_alias": "bot",
        "user_api_key_user_id": "u-9",
        "spend_logs_metadata": {"tenant": "globex", "team": "forged", "deep": {"no": 1}, "n": 7},
        "requester_custom_headers": {"X-Feature": "search", "x-api-key": "secret", "x-team": "x"},
        "usage_object": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    tags = ["team:forged", "feature:summarise", "beta", "alpha", "User-Agent: curl/8", "odd:", " "]

    event = read_event(metadata=metadata, request_tags=tags, end_user=None, api_base=None)

    assert event.tags == {
        "team": "support",
        "organization": "org-1",
        "project": "p-1",
        "key_alias": "bot",
        "user": "u-9",
        "feature": "summarise",
        "request_tags": "alpha,beta,odd:",
        "tenant": "globex",
        "n": "7",
    }


def test_headers_named_like_a_dimension_are_tags_where_nothing_else_is() -> None:
    headers = {"X-Feature": "search", "x-request-type": "batch", "x-api-key": "secret"}

    reading = read_one(make_record(metadata={"requester_custom_headers": headers}))

    assert isinstance(reading.item, UsageEvent)
    assert (reading.item.tags["feature"], reading.item.tags["request_type"]) == ("search", "batch")
    assert "secret" not in str(reading.record.kept)


def test_the_default_user_is_nobody_and_flags_are_words() -> None:
    event = read_event(
        end_user="",
        metadata={
            "user_api_key_user_id": "default_user_id",
            "spend_logs_metadata": {"is_beta": True},
        },
    )

    assert "user" not in event.tags
    assert event.tags["is_beta"] == "true"


def test_tags_that_do_not_fit_are_dropped_and_the_call_still_counts() -> None:
    many = read_event(request_tags=[f"tag-{number}:x" for number in range(100)])
    odd = read_event(request_tags=["nul\0:x", "team:growth"])

    assert len(many.tags) == 64
    assert {"user", "api_host"} <= many.tags.keys()
    assert many.flags == odd.flags == ("tag_dropped",)
    assert odd.tags["team"] == "growth"


def test_nothing_but_the_listed_fields_is_kept() -> None:
    record = make_record(proxy_server_request={"body": PROMPT}, user_agent=PROMPT, model="m" * 300)

    reading = read_one(record)

    assert reading.record.kept is not None
    kept = json.loads(reading.record.kept)
    assert PROMPT not in reading.record.kept
    assert "secret" not in reading.record.kept
    assert "model" not in kept
    assert kept["api_base"] == "api.acme.test"
    assert isinstance(reading.item, Rejection)
    assert reading.record.size_bytes > len(reading.record.kept)


def test_fields_of_other_types_than_expected_are_not_kept() -> None:
    record = make_record(
        request_tags="team:growth",
        api_base=7,
        metadata=[PROMPT],
        response=PROMPT,
        cost_breakdown=None,
        prompt_tokens="many",
        model=[PROMPT],
    )

    reading = read_one(record)

    assert PROMPT not in str(reading.record.kept)
    assert isinstance(reading.item, Rejection)
    assert read_one(make_record(api_base="http://[")).item.tags.keys() == {"team", "user"}  # type: ignore[union-attr]
    no_headers = make_record(metadata={"requester_custom_headers": 7, "spend_logs_metadata": 7})
    assert isinstance(read_one(no_headers).item, UsageEvent)


def test_a_record_that_was_kept_is_read_the_same_again() -> None:
    reading = read_one(make_record(response_cost=0.1))

    assert reread_callback(reading.record.kept or "", DOOR) == reading.item


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "1e999999999",
        "1e-999999999",
        "0e99",
        "1e9999999999999999999",
        "9" * 4000,
        "9" * 5000,
    ],
)
def test_numbers_made_to_hurt_do_not(number: str) -> None:
    body = json.dumps(make_record()).replace("0.02", number).encode()

    item = read_one(body).item

    assert isinstance(item, Rejection) or item.reported_nanos in (None, 0)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 0),
        (b" \n", 0),
        (b"[]", 0),
        (b"nonsense\nin\nlines", 1),
        (b"[{]", 1),
        (b'"text"', 1),
        (b"\xff\xfe", 1),
        (b'{"id": 1}\nnonsense\n{"id": 2}\n', 3),
        (b"nonsense\n" + b'{"id": 1}\n', 2),
        (b"[" * 100_000, 1),
        (b'[1, "two", null, {}]', 4),
    ],
)
def test_a_body_is_split_by_its_shape(body: bytes, count: int) -> None:
    readings = read_callback(body, DOOR, max_records=10)

    assert len(readings) == count
    assert all(isinstance(reading.item, Rejection) for reading in readings)


def test_too_many_records_are_too_many() -> None:
    with pytest.raises(TooLarge, match="3 records; the limit is 2"):
        read_callback(b"[1,2,3]", DOOR, max_records=2)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@given(ANY_JSON, st.sampled_from(sorted(make_record())))
def test_any_value_of_any_field_is_usage_or_set_aside(value: object, field: str) -> None:
    reading = read_one(make_record(**{field: value}))

    assert isinstance(reading.item, UsageEvent | Rejection)
    assert PROMPT not in (reading.record.kept or "")

"""Events as they are sent to OpenMeter: which are usage of a model, and what they count."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import Door, ParsedItem, Rejection
from tokenbudget.formats.openmeter import MeterDoor, read_meters, reread_meter

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KNOWN = {"acme": "acme", "openai": "openai", "azure_openai": "azure"}
DOOR = MeterDoor(Door(NOW, timedelta(days=1)), "tenant", None, KNOWN.get)
PROMPT = "the words of the prompt"


def make_meter(content: object = None, **overrides: Any) -> dict[str, Any]:
    """Give an event in OpenMeter's own example of a language model."""
    return {
        "specversion": "1.0",
        "type": "prompt",
        "id": "00001",
        "time": "2026-11-20T11:00:00.001Z",
        "source": "chat-app",
        "subject": "customer-1",
        "data": {"tokens": "10000", "model": "plain", "provider": "acme", "type": "input"}
        if content is None
        else content,
        **overrides,
    }


def read_one(event: dict[str, Any], door: MeterDoor = DOOR) -> ParsedItem:
    """Give what one event is read as."""
    [reading] = read_meters(json.dumps(event).encode(), door, max_records=10)
    return reading.item


def read_event(content: object = None, door: MeterDoor = DOOR, **overrides: Any) -> UsageEvent:
    """Give the usage of ``make_meter``."""
    item = read_one(make_meter(content, **overrides), door)
    assert isinstance(item, UsageEvent), item
    return item


def test_tokens_of_a_kind_are_usage_of_the_subject() -> None:
    event = read_event()

    assert (event.source, event.event_ref) == ("chat-app", "00001")
    assert (event.provider, event.model) == ("acme", "plain")
    assert event.quantities == {"input_tokens": 10_000, "requests": 1}
    assert event.occurred_at == datetime(2026, 11, 20, 11, 0, 0, 1000, tzinfo=UTC)
    assert event.tags == {"tenant": "customer-1"}


@pytest.mark.parametrize(
    ("kind", "quantities"),
    [
        ("input", {"input_tokens": 7, "requests": 1}),
        ("prompt", {"input_tokens": 7, "requests": 1}),
        ("system", {"input_tokens": 7, "requests": 0}),
        ("output", {"output_tokens": 7, "requests": 0}),
        ("completion", {"output_tokens": 7, "requests": 0}),
    ],
)
def test_each_kind_counts_its_tokens_and_one_counts_the_call(
    kind: str, quantities: dict[str, int]
) -> None:
    content = {"tokens": 7, "model": "plain", "provider": "acme"}

    assert read_event({**content, "type": kind}).quantities == quantities
    assert read_event(content, type=kind).quantities == quantities


def test_the_counts_of_a_response_are_read_as_the_provider_means_them() -> None:
    content = {
        "model": "plain",
        "provider": "acme",
        "prompt_tokens": 13,
        "completion_tokens": "7",
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 5},
        "cost": 0.5,
        "team": "growth",
    }

    event = read_event(content, id="chatcmpl-abc123")

    assert event.quantities == {"input_tokens": 13, "output_tokens": 7, "cached_input_tokens": 5}
    assert (event.response_ref, event.reported_nanos) == ("chatcmpl-abc123", 500_000_000)
    assert event.tags == {"tenant": "customer-1", "team": "growth"}
    assert read_event({**content, "response_id": "r-1"}).response_ref == "r-1"
    assert read_event({**content, "cost": 0}).reported_nanos is None


@pytest.mark.parametrize(
    ("content", "provider", "model"),
    [
        ({"model": "plain", "provider": "azure_openai"}, "azure", "plain"),
        ({"model": "plain", "provider": "nobody"}, "nobody", "plain"),
        ({"model": "openai/gpt"}, "openai", "gpt"),
        ({"model": "nobody/gpt"}, "usual", "nobody/gpt"),
        ({"model": "gpt"}, "usual", "gpt"),
    ],
)
def test_the_provider_is_named_by_the_event_the_model_or_the_operator(
    content: dict[str, Any], provider: str, model: str
) -> None:
    door = MeterDoor(DOOR.door, "tenant", "usual", KNOWN.get)

    event = read_event({**content, "tokens": 7, "type": "input"}, door)

    assert (event.provider, event.model) == (provider, model)


def test_a_model_of_no_named_provider_is_not_guessed() -> None:
    item = read_one(make_meter({"tokens": 7, "type": "input", "model": "gpt"}))

    assert isinstance(item, Rejection)
    assert (item.code, item.event_id) == ("missing_field", "00001")


@pytest.mark.parametrize(
    "content",
    [
        {"duration_seconds": "12", "route": "/hello"},
        {"model": "plain", "provider": "acme"},
        {"model": "plain", "provider": "acme", "tokens": 7, "type": "cached"},
        {"model": "plain", "provider": "acme", "tokens": "many", "type": "input"},
        {"provider": "acme", "tokens": 7, "type": "input"},
        7,
        {},
    ],
)
def test_meters_of_other_things_are_no_usage(content: object) -> None:
    item = read_one(make_meter(content, type="request"))

    assert isinstance(item, Rejection)
    assert item.code == "meter_unknown"


def test_counts_that_cannot_be_read_are_no_usage() -> None:
    content = {"model": "plain", "provider": "acme", "prompt_tokens": 1.5}

    item = read_one(make_meter(content))
    negative = read_one(
        make_meter({**content, "prompt_tokens": None, "tokens": -1, "type": "input"})
    )

    assert isinstance(item, Rejection)
    assert isinstance(negative, Rejection)
    assert (item.code, negative.code) == ("usage_invalid", "usage_negative")


@pytest.mark.parametrize(
    "overrides", [{"id": ""}, {"source": None}, {"type": 7}, {"specversion": "0.3"}]
)
def test_an_envelope_that_lacks_something_is_no_usage(overrides: dict[str, Any]) -> None:
    item = read_one(make_meter(**overrides))

    assert isinstance(item, Rejection)
    assert item.code == "cloudevent_invalid"


def test_an_event_without_a_time_occurred_when_it_came_and_stays_the_same_event() -> None:
    event = make_meter()
    del event["time"]
    later = MeterDoor(Door(NOW + timedelta(minutes=1), timedelta(days=1)), "", None, KNOWN.get)

    first, second = read_one(event), read_one({**event, "subject": None}, later)
    again = read_one(event, MeterDoor(later.door, "tenant", None, KNOWN.get))

    assert isinstance(first, UsageEvent)
    assert isinstance(second, UsageEvent)
    assert isinstance(again, UsageEvent)
    assert (first.occurred_at, again.occurred_at) == (NOW, NOW + timedelta(minutes=1))
    assert first.content_hash == again.content_hash
    assert (second.tags, first.tags) == ({}, {"tenant": "customer-1"})


def test_no_text_is_kept_but_the_words_that_are_read() -> None:
    content = {"prompt": PROMPT, "model": "plain", "note": "a" * 20, "n": "12", "deep": {"x": 1}}
    body = json.dumps([make_meter(content), 7]).encode()

    first, second = read_meters(body, DOOR, max_records=10)

    assert json.loads(first.record.kept or "")["data"] == {
        "model": "plain",
        "n": 12,
        "deep": {"x": 1},
    }
    assert (second.record.kept, isinstance(second.item, Rejection)) == (None, True)


def test_an_event_that_was_kept_is_read_the_same_again() -> None:
    [reading] = read_meters(json.dumps(make_meter()).encode(), DOOR, max_records=1)

    assert reread_meter(reading.record.kept or "", DOOR) == reading.item


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@given(
    ANY_JSON, st.sampled_from(["id", "source", "type", "time", "subject", "data", "specversion"])
)
def test_any_value_of_any_attribute_is_usage_or_not(value: object, name: str) -> None:
    assert isinstance(read_one(make_meter(**{name: value})), UsageEvent | Rejection)


@given(ANY_JSON, st.sampled_from(["tokens", "model", "provider", "type", "cost", "prompt_tokens"]))
def test_any_value_of_any_field_is_usage_or_not(value: object, name: str) -> None:
    content = {**make_meter()["data"], name: value}

    assert isinstance(read_one(make_meter(content)), UsageEvent | Rejection)

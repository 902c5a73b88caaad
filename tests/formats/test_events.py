"""Usage events on the wire: what is read from them, when two say the same, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.builders import make_event
from tokenbudget.domain.errors import MalformedBody, TooLarge
from tokenbudget.domain.usage import Basis, UsageEvent, Witness
from tokenbudget.formats.events import (
    Door,
    Rejection,
    parse_items,
    parse_objects,
    split_body,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = Door(now=NOON, future_tolerance=timedelta(hours=1))


def parse(event: dict[str, Any], *, door: Door = DOOR) -> UsageEvent | Rejection:
    """Give what becomes of one event sent as JSON."""
    [parsed] = parse_items([json.dumps(event).encode()], door)
    return parsed


def accept(event: dict[str, Any], *, door: Door = DOOR) -> UsageEvent:
    """Give the event as read; the test fails when it is rejected."""
    parsed = parse(event, door=door)
    assert isinstance(parsed, UsageEvent), parsed
    return parsed


def reject(event: dict[str, Any], *, door: Door = DOOR) -> Rejection:
    """Give the rejection; the test fails when there is none."""
    parsed = parse(event, door=door)
    assert isinstance(parsed, Rejection), parsed
    return parsed


FULL: dict[str, Any] = {
    "event_id": "01J",
    "source": "checkout-api",
    "occurred_at": "2026-11-20T13:00:00.5+01:00",
    "provider": "openai",
    "model": "gpt-5.2",
    "operation": "chat",
    "service_tier": "batch",
    "region": "eu",
    "account": "proj_abc",
    "status": "error",
    "attempt": 2,
    "operation_id": "op-1",
    "trace_id": "trace-1",
    "response_id": "resp-1",
    "request_model": "gpt-5",
    "usage": {
        "input_tokens": 15_711,
        "cached_input_tokens": 0,
        "output_tokens": 19,
        "images": None,
    },
    "latency_ms": 812,
    "time_to_first_token_ms": 240,
    "cache_hit": True,
    "tags": {"team": "growth", "feature": None},
    "hold_id": "h-1",
    "revision": 3,
    "reported_cost": "0.0012345",
}


def test_every_field_of_the_contract_is_read() -> None:
    event = accept(FULL)

    assert event.occurred_at == datetime(2026, 11, 20, 12, 0, 0, 500_000, tzinfo=UTC)
    assert (event.source, event.event_ref, event.revision) == ("checkout-api", "01J", 3)
    assert (event.provider, event.model, event.request_model) == ("openai", "gpt-5.2", "gpt-5")
    assert (event.operation, event.service_tier, event.region) == ("chat", "batch", "eu")
    assert (event.account, event.status, event.attempt) == ("proj_abc", "error", 2)
    assert (event.operation_ref, event.trace_ref) == ("op-1", "trace-1")
    assert (event.response_ref, event.hold_id) == ("resp-1", "h-1")
    assert (event.latency_ms, event.time_to_first_token_ms, event.cache_hit) == (812, 240, True)
    assert event.reported_nanos == 1_234_500
    assert (event.basis, event.flags) == (Basis.RATED, ())


def test_null_is_absent_and_zero_is_not() -> None:
    event = accept(FULL)

    assert event.quantities == {
        "input_tokens": 15_711,
        "cached_input_tokens": 0,
        "output_tokens": 19,
    }
    assert event.tags == {"team": "growth"}


def test_what_is_left_out_has_a_default() -> None:
    event = accept(
        {
            "event_id": "e",
            "provider": "acme",
            "model": "m",
            "occurred_at": "2026-11-20T12:00:00Z",
            "usage": {},
        }
    )

    assert (event.source, event.status, event.attempt, event.revision) == ("api", "ok", 1, 0)
    assert (event.quantities, event.tags, event.reported_nanos) == ({}, {}, None)


def test_equal_content_has_an_equal_hash_whatever_its_order_zone_and_nulls() -> None:
    turned = dict(reversed(FULL.items()))
    respelled = {
        **FULL,
        "occurred_at": "2026-11-20T12:00:00.500Z",
        "reported_cost": 0.00123450,
        "tags": {"team": "growth"},
        "usage": {"output_tokens": 19, "cached_input_tokens": 0, "input_tokens": 15_711},
    }

    hashes = {accept(event).content_hash for event in (FULL, turned, respelled)}

    assert len(hashes) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"occurred_at": "2026-11-20T12:00:01Z"},
        {"usage": {"input_tokens": 15_711}},
        {"tags": {"team": "search"}},
        {"reported_cost": None},
        {"status": "ok"},
    ],
)
def test_other_content_has_another_hash(change: dict[str, Any]) -> None:
    assert accept({**FULL, **change}).content_hash != accept(FULL).content_hash


def test_a_provider_s_own_usage_object_is_normalised() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    }

    event = accept(make_event(provider="openai", usage=None, provider_usage=usage))

    assert event.quantities == {
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 20,
    }
    assert event.basis is Basis.RATED


def test_text_is_counted_and_marked_as_an_estimate() -> None:
    event = accept(make_event(usage=None, model="gpt-4o", text="hello world"))

    assert event.quantities == {"input_tokens": 2}
    assert event.basis is Basis.ESTIMATED
    assert len(event.flags) == 1
    assert "estimated" in event.flags[0]


def test_a_cost_reported_by_the_emitter_beats_that_of_the_provider_s_usage() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.5}
    routed = make_event(provider="openrouter", usage=None, provider_usage=usage)

    assert accept(routed).reported_nanos == 500_000_000
    assert accept({**routed, "reported_cost": "0.25"}).reported_nanos == 250_000_000


@pytest.mark.parametrize(
    ("cost", "nanos"),
    [
        ("9223372036.854775807", 2**63 - 1),
        ("-1.5", -1_500_000_000),
        ("0.0000000005", 0),
        ("1e-400", 0),
        ("0", 0),
    ],
)
def test_a_reported_cost_is_rounded_to_nanos(cost: str, nanos: int) -> None:
    assert accept(make_event(reported_cost=cost)).reported_nanos == nanos


@pytest.mark.parametrize("cost", ["9223372036.854775808", "1e400", "-1e19", "Infinity", "sNaN"])
def test_a_reported_cost_beyond_sixty_four_bits_is_rejected(cost: str) -> None:
    rejection = reject(make_event(reported_cost=cost))

    assert rejection == Rejection(0, "e1", "invalid_field", "reported_cost is out of range")


def test_the_door_names_an_event_without_an_id_by_its_place() -> None:
    door = Door(NOON, timedelta(0), idempotency_key="retry")
    nameless = json.dumps(make_event(event_id=None)).encode()

    parsed = parse_items([nameless, nameless], door)

    assert [item.event_ref for item in parsed if isinstance(item, UsageEvent)] == [
        "retry:0",
        "retry:1",
    ]


def test_the_door_lets_in_what_lies_ahead_within_its_tolerance() -> None:
    at_the_limit = make_event(occurred_at="2026-11-20T13:00:00Z")
    beyond = make_event(occurred_at="2026-11-20T13:00:00.000001Z")

    assert accept(at_the_limit).occurred_at == NOON + timedelta(hours=1)
    assert reject(beyond).detail == (
        "occurred_at 2026-11-20T13:00:00.000001+00:00 is over 3600 s ahead of now"
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"occurred_at": "2026-11-20T12:00:00"}, "naive_timestamp"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "invalid_field"),
        ({"colour": "red"}, "unknown_field"),
        ({"usage": {"colours": 1}}, "unknown_field"),
        ({"usage": {"input_tokens": -1}}, "usage_negative"),
        ({"usage": {"input_tokens": 10**8 + 1}}, "usage_out_of_range"),
        ({"usage": {"input_tokens": 1, "cached_input_tokens": 2}}, "usage_inconsistent"),
        ({"usage": None}, "usage_invalid"),
        ({"text": "both"}, "usage_invalid"),
        ({"event_id": None}, "missing_field"),
        ({"event_id": 5}, "invalid_field"),
        ({"source": "a\0b"}, "invalid_field"),
    ],
)
def test_a_rejection_has_a_stable_code(change: dict[str, Any], code: str) -> None:
    assert reject(make_event(**change)).code == code


def test_a_literal_backslash_before_u0000_is_no_nul_character() -> None:
    assert accept(make_event(tags={"path": "C:\\u0000"})).tags == {"path": "C:\\u0000"}


def test_a_rejection_names_the_id_when_that_much_can_be_read() -> None:
    assert reject(make_event(event_id="e7", model=5)).event_id == "e7"
    assert reject(make_event(event_id=7)).event_id is None
    assert reject(make_event(event_id=None)).event_id is None


def test_items_that_are_no_json_are_rejected_in_their_place() -> None:
    good = json.dumps(make_event()).encode()
    deep = b'{"provider_usage":' + b'{"a":' * 5_000

    parsed = parse_items([b"{", good, b'{"model": "\xff"}', deep], DOOR)

    assert [getattr(item, "code", "accepted") for item in parsed] == [
        "malformed_json",
        "accepted",
        "malformed_json",
        "malformed_json",
    ]


@pytest.mark.parametrize("depth", range(900, 1_010, 10))
def test_no_depth_of_nesting_gets_past_the_door(depth: int) -> None:
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    body = json.dumps(make_event(usage=None)).encode()[:-1] + b', "provider_usage":' + nested + b"}"

    [parsed] = parse_items([body], DOOR)

    assert isinstance(parsed, Rejection)


def test_rows_of_a_file_are_read_like_json_with_text_for_numbers() -> None:
    row = {**make_event(), "usage": {"input_tokens": "100"}, "attempt": "2", "cache_hit": "true"}

    [parsed] = parse_objects([row], DOOR)

    assert isinstance(parsed, UsageEvent)
    assert (parsed.quantities, parsed.attempt, parsed.cache_hit) == ({"input_tokens": 100}, 2, True)


def test_a_bad_row_of_a_file_is_rejected_by_its_id() -> None:
    rows: list[dict[str, Any]] = [make_event(event_id="e9", model=None), {"provider": "acme"}]

    named, nameless = parse_objects(rows, DOOR)

    assert isinstance(named, Rejection)
    assert isinstance(nameless, Rejection)
    assert (named.event_id, named.code) == ("e9", "invalid_field")
    assert (nameless.event_id, nameless.code) == (None, "missing_field")


def test_decimals_of_a_row_keep_their_digits() -> None:
    [parsed] = parse_objects([make_event(reported_cost=Decimal("0.100000001"))], DOOR)

    assert isinstance(parsed, UsageEvent)
    assert parsed.reported_nanos == 100_000_001


def test_a_body_is_one_object_an_array_or_lines() -> None:
    assert split_body(b' {"a":1} ', content_type="", max_items=1) == [b'{"a":1} ']
    assert list(map(bytes, split_body(b'[{}, {"a":[1]}]', content_type="", max_items=2))) == [
        b"{}",
        b'{"a":[1]}',
    ]
    lines = split_body(b"{}\n\n \n{", content_type="application/x-ndjson", max_items=2)
    assert lines == [b"{}", b"{"]


@pytest.mark.parametrize("body", [b"", b" \n", b"[", b"{", b"5", b"[" * 5_000, b'{"a":' * 5_000])
def test_a_body_that_cannot_be_split_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        split_body(body, content_type="application/json", max_items=10)


def test_a_body_with_too_many_items_is_too_large() -> None:
    with pytest.raises(TooLarge, match="the batch has 3 items; the limit is 2"):
        split_body(b"[1,2,3]", content_type="", max_items=2)


def without_usage(**overrides: Any) -> dict[str, Any]:
    """Give an event that says nothing of what it used."""
    event = make_event(**overrides)
    del event["usage"]
    return event


@pytest.mark.parametrize("status", ["error", "timeout", "cancelled"])
def test_a_failed_attempt_may_not_know_what_it_used(status: str) -> None:
    assert accept(without_usage(status=status)).quantities is None


def test_an_attempt_that_went_well_knows_what_it_used() -> None:
    assert reject(without_usage()).code == "usage_invalid"


@pytest.mark.parametrize("witness", [Witness.OTLP, Witness.GATEWAY])
def test_who_passes_on_what_others_measured_may_not_know(witness: Witness) -> None:
    event = accept(without_usage(), door=replace(DOOR, witness=witness))

    assert (event.quantities, event.witness) == (None, witness)


def test_explicit_zeros_of_a_failed_attempt_are_zeros() -> None:
    event = accept(make_event(status="error", usage={"input_tokens": 0}))

    assert event.quantities == {"input_tokens": 0}


def test_a_void_needs_no_usage_and_uses_none() -> None:
    assert accept(without_usage(void=True, revision=1)).is_void
    assert accept(make_event(void=True, revision=1)).quantities is None


def test_a_void_takes_an_earlier_revision_back() -> None:
    assert reject(without_usage(void=True)).code == "void_without_event"


def test_the_span_is_kept() -> None:
    assert accept(make_event(trace_id="t", span_id="s")).span_ref == "s"

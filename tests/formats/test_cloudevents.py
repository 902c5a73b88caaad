"""Envelopes of CloudEvents 1.0: what they must have, and what of them stands in for our fields."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_event
from tokenbudget.domain.errors import InvalidInput, MalformedBody, UnsupportedMediaType
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.cloudevents import (
    EnvelopeDoor,
    is_binary,
    parse_batch,
    parse_binary,
    parse_structured,
)
from tokenbudget.formats.events import Door, ParsedItem, Rejection

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = EnvelopeDoor(Door(NOW, timedelta(days=1)), "tenant")
BARE = {
    name: value
    for name, value in make_event(tags={}).items()
    if name not in ("event_id", "occurred_at", "source")
}
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "e1",
    "ce-source": "/checkout",
    "ce-type": "usage",
    "ce-time": "2026-11-20T11:00:00Z",
}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def make_envelope(**overrides: Any) -> dict[str, Any]:
    """Give an envelope around an event that leaves to it what it can say."""
    return {
        "specversion": "1.0",
        "id": "e1",
        "source": "/checkout",
        "type": "com.example.usage",
        "time": "2026-11-20T11:00:00+00:00",
        "data": BARE,
        **overrides,
    }


def open_one(**overrides: Any) -> ParsedItem:
    """Give what a structured body with this envelope holds."""
    [item] = parse_structured(json.dumps(make_envelope(**overrides)).encode(), DOOR)
    return item


def open_event(**overrides: Any) -> UsageEvent:
    """Give the usage event of an envelope."""
    item = open_one(**overrides)
    assert isinstance(item, UsageEvent)
    return item


def open_headers(
    body: object = BARE, *, content_type: str = "application/json", **changes: str
) -> UsageEvent:
    """Give the usage event of a binary request with these headers changed."""
    changed = {f"ce-{name}": value for name, value in changes.items()}
    headers = list({"host": "here", **HEADERS, **changed}.items())
    [item] = parse_binary(headers, content_type, json.dumps(body).encode(), DOOR)
    assert isinstance(item, UsageEvent)
    return item


def test_the_envelope_stands_in_for_what_the_event_leaves_out() -> None:
    event = open_event()

    assert (event.event_ref, event.source) == ("e1", "/checkout")
    assert event.occurred_at == datetime(2026, 11, 20, 11, tzinfo=UTC)


def test_what_the_event_says_itself_comes_first() -> None:
    inside = make_event(event_id="own", source="own-source", tags={"tenant": "own-tenant"})

    event = open_event(data=inside, subject="other")

    assert (event.event_ref, event.source) == ("own", "own-source")
    assert event.occurred_at == NOW
    assert event.tags == {"tenant": "own-tenant"}


def test_null_inside_is_the_same_as_leaving_out() -> None:
    event = open_event(data={**BARE, "event_id": None, "source": None})

    assert (event.event_ref, event.source) == ("e1", "/checkout")


def test_the_subject_is_a_tag_where_the_operator_says_which() -> None:
    nowhere = EnvelopeDoor(DOOR.door, "")
    body = json.dumps(make_envelope(subject="acme", data={**BARE, "tags": {"team": "growth"}}))

    [named] = parse_structured(body.encode(), DOOR)
    [unnamed] = parse_structured(body.encode(), nowhere)

    assert isinstance(named, UsageEvent)
    assert isinstance(unnamed, UsageEvent)
    assert named.tags == {"team": "growth", "tenant": "acme"}
    assert unnamed.tags == {"team": "growth"}


def test_extensions_named_like_dimensions_are_tags_and_others_are_not() -> None:
    event = open_event(
        team="growth", requesttype="batch", knativearrivaltime="now", sequence=7, feature=None
    )

    assert event.tags == {"team": "growth", "request_type": "batch"}


def test_an_extension_beats_the_subject_and_tags_beat_both() -> None:
    event = open_event(tenant="by-extension", subject="by-subject")

    assert event.tags == {"tenant": "by-extension"}


def test_a_trace_parent_names_the_trace() -> None:
    event = open_event(traceparent=f"00-{TRACE}-b7ad6b7169203331-01")

    assert (event.trace_ref, event.span_ref) == (TRACE, None)
    assert open_event(traceparent="nonsense").trace_ref is None


def test_content_in_base64_is_read() -> None:
    envelope = make_envelope(data_base64=base64.b64encode(json.dumps(BARE).encode()).decode())
    del envelope["data"]

    [item] = parse_structured(json.dumps(envelope).encode(), DOOR)

    assert isinstance(item, UsageEvent)


def test_decimals_inside_stay_exact() -> None:
    body = json.dumps(make_envelope()).replace(
        '"data": {', '"data": {"reported_cost": 0.100000001, '
    )

    [item] = parse_structured(body.encode(), DOOR)

    assert isinstance(item, UsageEvent)
    assert item.reported_nanos == 100_000_001


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"id": ""}, "needs id"),
        ({"id": None}, "needs id"),
        ({"id": 7}, "needs id"),
        ({"source": None}, "needs source"),
        ({"type": None}, "needs type"),
        ({"specversion": None}, "needs specversion"),
        ({"specversion": "0.3"}, "specversion '0.3'"),
        ({"Team": "growth"}, "'Team'"),
        ({"my_team": "growth"}, "'my_team'"),
        ({"team": ["growth"]}, "team must be text"),
        ({"team": 1.5}, "team must be text"),
        ({"data_base64": "e30="}, "exactly one of data"),
    ],
)
def test_a_bad_envelope_is_malformed(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(MalformedBody, match=named):
        open_one(**overrides)


def test_an_envelope_without_content_is_malformed() -> None:
    envelope = make_envelope()
    del envelope["data"]

    with pytest.raises(MalformedBody, match="exactly one of data"):
        parse_structured(json.dumps(envelope).encode(), DOOR)


@pytest.mark.parametrize("encoded", ["?", 7, "e30", base64.b64encode(b"{").decode()])
def test_content_that_is_not_base64_of_json_is_malformed(encoded: object) -> None:
    envelope = make_envelope(data_base64=encoded)
    del envelope["data"]

    with pytest.raises(MalformedBody):
        parse_structured(json.dumps(envelope).encode(), DOOR)


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain", "application/jsonx"])
def test_content_of_another_type_is_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="must be JSON"):
        open_one(datacontenttype=content_type)


@pytest.mark.parametrize("content_type", ["application/vnd.acme+json; v=1", "text/json"])
def test_content_of_any_type_of_json_is_read(content_type: str) -> None:
    assert open_event(datacontenttype=content_type).event_ref == "e1"


@pytest.mark.parametrize("content", [7, "text", [BARE], None, json.dumps(BARE)])
def test_content_that_is_no_object_is_a_rejected_event(content: object) -> None:
    item = open_one(data=content)

    assert item == Rejection(0, "e1", "invalid_field", "the content must be one usage event")


def test_content_that_is_no_usage_is_rejected_by_its_own_rules() -> None:
    item = open_one(data={**BARE, "colour": "red"})
    tagged = open_one(data={**BARE, "tags": "none"}, subject="acme")

    assert isinstance(item, Rejection)
    assert isinstance(tagged, Rejection)
    assert (item.code, item.event_id, tagged.code) == ("unknown_field", "e1", "invalid_field")


def test_an_event_without_any_time_is_rejected() -> None:
    item = open_one(time=None)

    assert isinstance(item, Rejection)
    assert (item.code, "occurred_at" in item.detail) == ("missing_field", True)


def test_a_batch_is_opened_one_by_one() -> None:
    envelopes = [make_envelope(id="a"), make_envelope(id=""), 7, make_envelope(id="b")]

    items = parse_batch(json.dumps(envelopes).encode(), DOOR, max_items=4)

    assert [item.event_ref for item in items if isinstance(item, UsageEvent)] == ["a", "b"]
    assert [(item.index, item.code) for item in items if isinstance(item, Rejection)] == [
        (1, "cloudevent_invalid"),
        (2, "cloudevent_invalid"),
    ]
    assert parse_batch(b" []", DOOR, max_items=4) == []


@pytest.mark.parametrize("body", [b"{}", b"", b"[", b"text", json.dumps(make_envelope()).encode()])
def test_a_batch_that_is_no_array_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_batch(body, DOOR, max_items=4)


@pytest.mark.parametrize("body", [b"[]", b"", b"{", b"7", b"[{}]", b"\xff"])
def test_a_structured_body_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_structured(body, DOOR)


def test_headers_are_an_envelope_too() -> None:
    event = open_headers(subject="acme", team="growth")

    assert (event.event_ref, event.source) == ("e1", "/checkout")
    assert event.tags == {"tenant": "acme", "team": "growth"}
    assert event.occurred_at == datetime(2026, 11, 20, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro%20%e2%82%ac", "Euro €"),
        ('"a \\"quoted\\" one"', 'a "quoted" one'),
        ('"100%25"', "100%"),
        ("%2541", "%41"),
        ("plain", "plain"),
        ("50%", "50%"),
    ],
)
def test_header_values_are_unquoted_and_decoded_once(header: str, value: str) -> None:
    assert open_headers(subject=header).tags == {"tenant": value}


@pytest.mark.parametrize("value", ["%C0%A0", "%ff", "\u20ac", "caf\u00e9"])
def test_header_values_that_are_no_utf8_are_malformed(value: str) -> None:
    with pytest.raises(MalformedBody, match="ce-subject"):
        open_headers(subject=value)


def test_a_header_twice_or_of_the_content_type_is_malformed() -> None:
    headers = [*HEADERS.items(), ("CE-ID", "e2")]

    with pytest.raises(MalformedBody, match="CE-ID"):
        parse_binary(headers, "", b"{}", DOOR)
    with pytest.raises(MalformedBody, match="ce-datacontenttype"):
        open_headers(datacontenttype="application/json")


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
def test_headers_without_a_required_one_are_malformed(missing: str) -> None:
    headers = [(name, value) for name, value in HEADERS.items() if name != missing]

    assert is_binary([(name.encode(), value.encode()) for name, value in headers])
    with pytest.raises(MalformedBody, match=missing.removeprefix("ce-")):
        parse_binary(headers, "application/json", json.dumps(BARE).encode(), DOOR)


def test_a_request_is_an_event_only_by_a_required_header() -> None:
    assert not is_binary([(b"ce-team", b"growth"), (b"content-type", b"application/json")])


def test_a_body_of_another_type_than_json_is_unsupported() -> None:
    assert open_headers(content_type="").event_ref == "e1"
    with pytest.raises(UnsupportedMediaType, match="'text/csv'"):
        open_headers(content_type="text/csv")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_rejected_and_nothing_else(body: bytes) -> None:
    for items in (_tried(body, kind) for kind in ("structured", "batch", "binary")):
        assert not any(isinstance(item, UsageEvent) for item in items)


@given(st.data())
def test_a_damaged_envelope_is_refused_or_rejected_or_still_one_event(data: st.DataObject) -> None:
    body = bytearray(json.dumps([make_envelope(subject="acme")]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))

    assert len(_tried(bytes(body), "batch")) <= 3


def _tried(body: bytes, kind: str) -> list[ParsedItem]:
    try:
        if kind == "structured":
            return parse_structured(body, DOOR)
        if kind == "batch":
            return parse_batch(body, DOOR, max_items=3)
        return parse_binary(list(HEADERS.items()), "application/json", body, DOOR)
    except InvalidInput:
        return []

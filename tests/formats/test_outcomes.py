"""Outcomes on the wire: what is exact, what is refused, and what is the same content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tokenbudget.domain.outcomes import Outcome
from tokenbudget.formats.events import Door, Rejection
from tokenbudget.formats.outcomes import parse_outcomes

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = Door(NOW, timedelta(days=1))


def parse(door: Door = DOOR, **changes: Any) -> Outcome | Rejection:
    """Give what becomes of one resolved ticket with these changes."""
    shape = {
        "event_id": "o1",
        "name": "resolved",
        "operation_id": "op",
        "occurred_at": "2026-11-20T12:00:00Z",
        **changes,
    }
    present = {name: value for name, value in shape.items() if value is not ...}
    [parsed] = parse_outcomes([msgspec.json.encode(present)], door)
    return parsed


def outcome(**changes: Any) -> Outcome:
    """Give the outcome that one resolved ticket with these changes is."""
    parsed = parse(**changes)
    assert isinstance(parsed, Outcome), parsed
    return parsed


def test_an_outcome_is_one_unless_it_says_more() -> None:
    assert outcome().value_nanos == 10**9
    assert outcome(source="desk").source == "desk"
    assert outcome().source == "api"
    assert outcome(operation_id=None, tags={"team": "growth", "user": None}).tags == {
        "team": "growth"
    }


@pytest.mark.parametrize(
    ("value", "nanos"),
    [
        (2, 2_000_000_000),
        ("0.123456789", 123_456_789),
        ("-1", -1_000_000_000),
        ("1e3", 10**12),
        ("1.000000000000", 10**9),
        (1_000_000, 10**15),
        (0, 0),
    ],
)
def test_values_are_exact(value: Any, nanos: int) -> None:
    assert outcome(value=value).value_nanos == nanos


def test_a_number_of_json_is_not_read_as_binary() -> None:
    line = (
        b'{"event_id":"o","name":"score","operation_id":"op","value":0.100000001,'
        b'"occurred_at":"2026-11-20T12:00:00Z"}'
    )

    [parsed] = parse_outcomes([line], DOOR)

    assert isinstance(parsed, Outcome)
    assert parsed.value_nanos == 100_000_001


@pytest.mark.parametrize(
    ("changes", "code", "detail"),
    [
        ({"event_id": ...}, "missing_field", "event_id is missing"),
        ({"operation_id": ...}, "missing_field", "operation_id or tags are needed"),
        ({"operation_id": None, "tags": {}}, "missing_field", "operation_id or tags are needed"),
        ({"name": "two words"}, "invalid_field", "name must be a letter"),
        ({"name": ...}, "invalid_field", "name"),
        ({"value": "0.0000000001"}, "invalid_field", "more than 9 decimal places"),
        ({"value": "1000000.1"}, "invalid_field", "is over 1000000"),
        ({"value": "1e99"}, "invalid_field", "value is out of range"),
        ({"value": "NaN"}, "invalid_field", "value is out of range"),
        ({"value": "much"}, "invalid_field", "value"),
        ({"occurred_at": "2026-11-22T12:00:01Z"}, "invalid_field", "ahead of now"),
        ({"occurred_at": "1969-01-01T00:00:00Z"}, "invalid_field", "before 1970"),
        ({"occurred_at": "2026-11-20T12:00:00"}, "invalid_field", "occurred_at"),
        ({"colour": "red"}, "invalid_field", "colour"),
        ({"operation_id": "a\x00b"}, "invalid_field", "operation_id holds a NUL"),
        ({"tags": {"team": "a\x00b"}}, "invalid_field", "tags holds a NUL"),
        ({"event_id": "a\x00b"}, "invalid_field", "event_id holds a NUL"),
    ],
)
def test_bad_outcomes_are_refused_by_field_and_rule(
    changes: dict[str, Any], code: str, detail: str
) -> None:
    parsed = parse(**changes)

    assert isinstance(parsed, Rejection)
    assert parsed.code == code
    assert detail in parsed.detail


@pytest.mark.parametrize(
    ("item", "event_id", "code"),
    [
        (b"{", None, "malformed_json"),
        (b'{"event_id":"o7","name":3}', "o7", "invalid_field"),
        (b'{"event_id":7,"name":3}', None, "invalid_field"),
    ],
)
def test_one_bad_item_is_answered_by_itself(item: bytes, event_id: str, code: str) -> None:
    [parsed] = parse_outcomes([item], DOOR)

    assert isinstance(parsed, Rejection)
    assert (parsed.event_id, parsed.code) == (event_id, code)


def test_the_header_and_the_place_identify_an_outcome_without_an_id() -> None:
    door = Door(NOW, timedelta(days=1), "key")

    assert outcome(door=door, event_id=...).event_ref == "key:0"


def test_equal_content_has_equal_hashes_however_it_is_written() -> None:
    first = outcome(value="1.50", tags={"a": "1", "b": "2"})

    assert first == outcome(
        value=1.5, tags={"b": "2", "a": "1"}, occurred_at="2026-11-20T13:00:00+01:00"
    )
    assert first.content_hash != outcome(value="1.51", tags={"a": "1", "b": "2"}).content_hash

"""Bad usage events over HTTP.

Each gets one clear answer that names the field and the rule, and nothing is half-written.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import contents, make_event, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.store.tables import ChargeRow

TOO_MANY = 100_000_001

BAD_EVENTS: list[tuple[dict[str, Any], str, str]] = [
    ({"occurred_at": "2026-11-20T12:00:00"}, "naive_timestamp", "`occurred_at`"),
    ({"occurred_at": "soon"}, "invalid_field", "`occurred_at`"),
    ({"occurred_at": 1_763_640_000}, "invalid_field", "`occurred_at`"),
    ({"occurred_at": "2026-11-21T12:00:01Z"}, "occurred_in_future", "over 86400 s ahead of now"),
    ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "occurred_in_future", "occurred_at"),
    ({"occurred_at": "1969-12-31T23:59:59Z"}, "invalid_field", "before 1970-01-01T00:00:00Z"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "invalid_field", "before 1970"),
    ({"usage": {"input_tokens": -1}}, "usage_negative", "input_tokens -1 is negative"),
    (
        {"usage": {"output_tokens": TOO_MANY}},
        "usage_out_of_range",
        "output_tokens 100000001 exceeds 100000000",
    ),
    ({"usage": {"input_tokens": 10**30}}, "usage_out_of_range", "exceeds 100000000"),
    (
        {"usage": {"input_tokens": 10, "cached_input_tokens": 11}},
        "usage_inconsistent",
        "cached_input_tokens 11 exceeds input_tokens 10",
    ),
    (
        {"usage": {"cached_input_tokens": 11}},
        "usage_inconsistent",
        "cached_input_tokens is part of input_tokens, which is absent",
    ),
    (
        {"usage": {"output_tokens": 1, "reasoning_tokens": 2}},
        "usage_inconsistent",
        "reasoning_tokens 2 exceeds output_tokens 1",
    ),
    ({"usage": {"input_tokens": 1.5}}, "invalid_field", "got `float` - at `usage[...]`"),
    ({"usage": {"colours": 3}}, "unknown_field", "usage.colours is not a known unit"),
    ({"colour": "red"}, "unknown_field", "unknown field `colour`"),
    ({"usage": None}, "usage_invalid", "exactly one of usage, provider_usage, text"),
    ({"text": "both"}, "usage_invalid", "found usage and text"),
    ({"usage": None, "provider_usage": {"colour": 1}}, "usage_invalid", "no known shape"),
    ({"provider": ""}, "invalid_field", "`provider`"),
    ({"model": "m" * 257}, "invalid_field", "`model`"),
    ({"model": 5}, "invalid_field", "`model`"),
    ({"event_id": ""}, "invalid_field", "`event_id`"),
    ({"attempt": 0}, "invalid_field", "`attempt`"),
    ({"revision": -1}, "invalid_field", "`revision`"),
    ({"revision": 1}, "conflict", "revision 1 cannot follow nothing"),
    ({"latency_ms": -1}, "invalid_field", "`latency_ms`"),
    ({"tags": {"": "x"}}, "invalid_field", "`tags`"),
    ({"tags": {f"t{place}": "x" for place in range(65)}}, "invalid_field", "`tags`"),
    ({"tags": {"team": "a\0b"}}, "invalid_field", "tags holds a NUL character"),
    ({"event_id": "a\0b"}, "invalid_field", "event_id holds a NUL character"),
    ({"reported_cost": "1e400"}, "invalid_field", "reported_cost is out of range"),
    ({"reported_cost": "NaN"}, "invalid_field", "reported_cost is out of range"),
    ({"reported_cost": "free"}, "invalid_field", "`reported_cost`"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("fault", "code", "named"), BAD_EVENTS)
def test_a_bad_event_is_rejected_by_name_and_nothing_is_written(
    client: TestClient, services: Services, fault: dict[str, Any], code: str, named: str
) -> None:
    before = contents(services.database)

    answer = client.post("/v1/events", json={**make_event(), **fault})

    [rejection] = answer.json()["rejected"]
    assert (answer.status_code, rejection["index"], rejection["code"]) == (200, 0, code)
    assert named in rejection["detail"]
    assert len(rejection["detail"].splitlines()) == 1
    assert _without_interned(contents(services.database)) == _without_interned(before)


def test_a_batch_of_bad_events_alone_writes_nothing(client: TestClient, services: Services) -> None:
    before = contents(services.database)
    batch = [{**make_event(), **fault} for fault, _, _ in BAD_EVENTS]

    answer = client.post("/v1/events", json=batch)

    rejected = answer.json()["rejected"]
    assert [each["code"] for each in rejected] == [code for _, code, _ in BAD_EVENTS]
    assert _without_interned(contents(services.database)) == _without_interned(before)


@pytest.mark.parametrize("name", ["provider", "model", "occurred_at"])
def test_a_missing_field_is_named(client: TestClient, name: str) -> None:
    event = {key: value for key, value in make_event().items() if key != name}

    [rejection] = client.post("/v1/events", json=event).json()["rejected"]

    assert rejection["code"] == "missing_field"
    assert f"`{name}`" in rejection["detail"]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"event_id": "e0"',
        b'{"event_id": "\\ud800"}',
        b'{"event_id": "\xff"}',
        b'{"provider_usage":' + b'{"a":' * 5_000,
    ],
)
def test_a_line_that_is_not_json_is_rejected_alone(client: TestClient, line: bytes) -> None:
    good = json.dumps(make_event()).encode()

    answer = client.post(
        "/v1/events",
        content=b"\n".join([line, good]),
        headers={"content-type": "application/x-ndjson"},
    )

    [rejection] = answer.json()["rejected"]
    assert answer.json()["accepted"] == 1
    assert (rejection["index"], rejection["code"]) == (0, "malformed_json")


def test_a_model_without_a_price_is_kept_unpriced_and_shown(
    client: TestClient, services: Services
) -> None:
    answer = client.post("/v1/events", json=make_event(model="gpt-nobody-knows"))

    costs = client.get(
        "/v1/costs",
        params={
            "start": "2026-11-20T00:00:00Z",
            "end": "2026-11-21T00:00:00Z",
            "group_by": "model",
        },
    )
    [charge] = rows_of(services.database, ChargeRow)
    assert (answer.json()["accepted"], answer.json()["unpriced"]) == (1, 1)
    assert (charge["basis"], charge["effective_nanos"]) == ("unpriced", None)
    [row] = costs.json()["rows"]
    assert (row["model"], row["unpriced_requests"], row["tokens"]) == (
        "gpt-nobody-knows",
        1,
        15_000,
    )


def _without_interned(tables: dict[str, Any]) -> dict[str, Any]:
    """Give the tables that count: names looked up on the way to a rejection may stay."""
    return {
        name: rows
        for name, rows in tables.items()
        if name not in ("sources", "dimension_sets", "price_lists")
    }

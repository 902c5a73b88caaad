"""``POST /api/v1/events``: what is sent to OpenMeter is taken as OpenMeter takes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, contents, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.store.tables import ChargeRow, DimensionSetRow, SetAsideRow, UsageRow

PATH = "/api/v1/events"
ONE = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


def make_meter(number: int = 1, **content: Any) -> dict[str, Any]:
    """Give an event of ten thousand input tokens, a cent."""
    inside = {"tokens": "10000", "model": "plain", "provider": "acme", "type": "input", **content}
    return {
        "specversion": "1.0",
        "type": "prompt",
        "id": f"{number:05}",
        "time": "2026-11-20T11:00:00.001Z",
        "source": "chat-app",
        "subject": "customer-1",
        "data": inside,
    }


def test_events_are_recorded_once_and_answered_with_nothing(
    client: TestClient, services: Services
) -> None:
    batch = [make_meter(1), make_meter(2, type="output", tokens="5000")]

    answers = [
        client.post(PATH, content=json.dumps(make_meter(1)), headers=ONE),
        client.post(PATH, content=json.dumps(batch), headers=BATCH),
        client.post(PATH, json=batch),
    ]

    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 3
    assert len(rows_of(services.database, UsageRow)) == 2
    charges = [row["effective_nanos"] for row in rows_of(services.database, ChargeRow)]
    assert charges == [10_000_000, 10_000_000]
    assert {row["tenant"] for row in rows_of(services.database, DimensionSetRow)} == {"customer-1"}
    assert broken_rules(services.database) == []


def test_meters_of_other_things_are_set_aside(client: TestClient, services: Services) -> None:
    other = {**make_meter(7), "type": "request", "data": {"duration_seconds": "12", "route": "/"}}

    answer = client.post(PATH, content=json.dumps([make_meter(1), other]), headers=BATCH)

    assert answer.status_code == 204
    [row] = rows_of(services.database, SetAsideRow)
    assert (row["entrance"], row["reason"], row["event_ref"]) == (
        "openmeter",
        "meter_unknown",
        "00007",
    )
    [listed] = client.get("/v1/set-aside").json()["records"]
    assert listed["record"]["data"] == {"duration_seconds": 12}
    assert len(rows_of(services.database, UsageRow)) == 1


def test_a_provider_that_is_set_later_makes_usage_of_what_was_set_aside(
    make_client: MakeClient, services: Services
) -> None:
    event = make_meter()
    del event["data"]["provider"]
    make_client().post(PATH, json=event)
    client = make_client(openmeter_provider="acme")

    retried = client.post("/v1/set-aside/1/retry").json()

    assert retried == {"id": 1, "recorded": True, "code": None, "detail": None}
    assert len(rows_of(services.database, UsageRow)) == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("body", ["", "nonsense", "7", "{", "[1]", '["text"]'])
def test_a_body_that_is_no_event_at_all_is_a_problem(
    client: TestClient, services: Services, body: str
) -> None:
    before = contents(services.database)

    answer = client.post(PATH, content=body, headers=ONE)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert contents(services.database) == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_empty_batch_is_taken_and_another_media_type_is_not(client: TestClient) -> None:
    empty = client.post(PATH, content="[]", headers=BATCH)
    other = client.post(PATH, content="a,b", headers={"content-type": "text/csv"})

    assert empty.status_code == 204
    assert (other.status_code, other.json()["code"]) == (415, "unsupported_media_type")

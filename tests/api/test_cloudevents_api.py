"""CloudEvents 1.0 on ``POST /v1/events``: the three modes over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, contents, make_event, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.store.tables import DimensionSetRow, UsageRow

STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "e1",
    "ce-source": "/checkout",
    "ce-type": "usage",
    "ce-time": "2026-11-20T11:00:00Z",
    "ce-subject": "Caf%C3%A9",
}


def make_envelope(number: int = 1, **overrides: Any) -> dict[str, Any]:
    """Give the structured form of the event that ``BINARY`` names."""
    inside = make_event(tags={"team": "growth"})
    del inside["event_id"], inside["occurred_at"]
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "/checkout",
        "type": "usage",
        "time": "2026-11-20T11:00:00Z",
        "subject": "Café",
        "data": inside,
        **overrides,
    }


def test_the_three_modes_tell_of_one_event(client: TestClient, services: Services) -> None:
    envelope = make_envelope()

    structured = client.post("/v1/events", content=json.dumps(envelope), headers=STRUCTURED)
    batched = client.post("/v1/events", content=json.dumps([envelope]), headers=BATCH)
    binary = client.post("/v1/events", content=json.dumps(envelope["data"]), headers=BINARY)

    assert structured.json()["accepted"] == 1
    assert batched.json()["duplicates"] == 1
    assert binary.json()["duplicates"] == 1
    [usage] = rows_of(services.database, UsageRow)
    [dimensions] = rows_of(services.database, DimensionSetRow)
    assert usage["event_ref"] == "e1"
    assert (dimensions["team"], dimensions["tenant"]) == ("growth", "Café")


def test_a_bad_event_in_a_batch_spoils_no_other(client: TestClient, services: Services) -> None:
    batch = [make_envelope(1), make_envelope(2, source=""), make_envelope(3)]

    answer = client.post("/v1/events", content=json.dumps(batch), headers=BATCH).json()

    assert answer["accepted"] == 2
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (1, "cloudevent_invalid")
    ]
    assert broken_rules(services.database) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (json.dumps(make_envelope(id=None)), STRUCTURED, 400),
        (json.dumps([make_envelope()]), STRUCTURED, 400),
        (json.dumps(make_envelope()), BATCH, 400),
        ("nonsense", STRUCTURED, 400),
        ("nonsense", BATCH, 400),
        ("nonsense", BINARY, 400),
        ("{}", {**BINARY, "ce-specversion": "2.0"}, 400),
        ("{}", {**BINARY, "ce-subject": "%ff"}, 400),
        ("{}", {**BINARY, "content-type": "application/avro"}, 415),
        (json.dumps(make_envelope(datacontenttype="application/xml")), STRUCTURED, 415),
        ("{}", {"content-type": "application/cloudevents+avro"}, 415),
        ("{}", {"content-type": "application/cloudevents"}, 415),
    ],
)
def test_what_is_no_event_is_refused_and_changes_nothing(
    client: TestClient, services: Services, content: str, headers: dict[str, str], status: int
) -> None:
    before = contents(services.database)

    answer = client.post("/v1/events", content=content, headers=headers)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert contents(services.database) == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_batch_may_be_empty_but_not_too_large(make_client: MakeClient) -> None:
    client = make_client(max_items=2)
    batch = json.dumps([make_envelope(number) for number in range(3)])

    assert client.post("/v1/events", content="[]", headers=BATCH).json()["accepted"] == 0
    assert client.post("/v1/events", content=batch, headers=BATCH).status_code == 413


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_operator_chooses_what_the_subject_is(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(subject_tag="feature")

    client.post("/v1/events", content=json.dumps(make_envelope()), headers=STRUCTURED)

    [dimensions] = rows_of(services.database, DimensionSetRow)
    assert (dimensions["feature"], dimensions["tenant"]) == ("Café", None)

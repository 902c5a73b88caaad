"""``POST /v1/outcomes`` and the unit costs of ``GET /v1/costs`` over HTTP."""

from __future__ import annotations

import csv
import io
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_event
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

NOVEMBER = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
QUESTION = {**NOVEMBER, "metric": "cost_per:resolved", "group_by": "team"}
OUTCOME: dict[str, Any] = {
    "event_id": "o1",
    "name": "resolved",
    "operation_id": "op",
    "occurred_at": "2026-11-20T12:01:00Z",
}


def tell(client: TestClient, body: Any, **headers: str) -> dict[str, Any]:
    """Send the body, which is answered per item, and give the answer."""
    answer = client.post("/v1/outcomes", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_one_an_array_and_lines_are_all_taken(client: TestClient) -> None:
    client.post("/v1/events", json=make_event(operation_id="op"))

    assert tell(client, OUTCOME) == {
        "accepted": 1,
        "duplicates": 0,
        "waiting": 0,
        "rejected": [],
    }
    assert tell(client, [OUTCOME, {**OUTCOME, "event_id": "o2"}])["duplicates"] == 1
    lines = client.post(
        "/v1/outcomes",
        content=(
            '{"event_id":"o3","name":"score","tags":{"team":"x"},"value":0.123456789,'
            '"occurred_at":"2026-11-20T12:00:00Z"}\n\n'
            '{"event_id":"o4","name":"score","occurred_at":"2026-11-20T12:00:00Z"}\n'
        ),
        headers={"content-type": "application/x-ndjson"},
    ).json()
    assert lines["accepted"] == 1
    assert [each["code"] for each in lines["rejected"]] == ["missing_field"]


def test_the_header_identifies_outcomes_without_an_id(client: TestClient) -> None:
    anonymous = {name: value for name, value in OUTCOME.items() if name != "event_id"}

    first = tell(client, [anonymous], **{"idempotency-key": "k-1"})
    again = tell(client, [anonymous], **{"idempotency-key": '"k-1"'})
    refused = client.post("/v1/outcomes", json=[anonymous], headers={"idempotency-key": '""'})
    without = tell(client, [anonymous])

    assert (first["accepted"], again["duplicates"]) == (1, 1)
    assert refused.status_code == 422
    assert without["rejected"][0]["code"] == "missing_field"


def test_what_one_outcome_cost_is_answered_per_row_and_in_total(client: TestClient) -> None:
    client.post(
        "/v1/events",
        json=[
            make_event(operation_id="op"),
            make_event(event_id="e2", tags={"team": "idle"}),
        ],
    )
    tell(client, {**OUTCOME, "value": 3})

    body = client.get("/v1/costs", params=QUESTION).json()

    assert [
        (row["team"], row["cost"], row["outcomes:resolved"], row["cost_per:resolved"])
        for row in body["rows"]
    ] == [
        ("growth", "0.020000000", "3.000000000", "0.006666667"),
        ("idle", "0.020000000", "0.000000000", None),
    ]
    assert body["totals"]["cost_per:resolved"] == "0.013333333"
    assert body["totals"]["outcomes:resolved"] == "3.000000000"


def test_unit_costs_come_as_csv_and_as_parquet(client: TestClient) -> None:
    client.post("/v1/events", json=make_event(operation_id="op"))
    tell(client, {**OUTCOME, "value": "0.5"})

    text = client.get("/v1/costs", params=QUESTION, headers={"accept": "text/csv"}).text
    table = client.get(
        "/v1/costs", params=QUESTION, headers={"accept": "application/vnd.apache.parquet"}
    ).content

    [row] = csv.DictReader(io.StringIO(text))
    assert (row["cost_per:resolved"], row["outcomes:resolved"]) == ("0.040000000", "0.500000000")
    frame = pl.read_parquet(io.BytesIO(table))
    assert frame["cost_per:resolved_nanos"].to_list() == [40_000_000]
    assert frame["outcomes:resolved_nanos"].to_list() == [500_000_000]


def test_an_outcome_nobody_ever_told_of_costs_nothing_that_is_known(client: TestClient) -> None:
    client.post("/v1/events", json=make_event())

    body = client.get("/v1/costs", params=QUESTION).json()

    assert [row["cost_per:resolved"] for row in body["rows"]] == [None]


@pytest.mark.parametrize("metric", ["cost_per:", "cost_per:a b", "cost_per"])
def test_a_metric_that_names_no_outcome_is_refused(client: TestClient, metric: str) -> None:
    answer = client.get("/v1/costs", params={**NOVEMBER, "metric": metric})

    assert answer.status_code == 422
    assert "cost_per:<name>" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        ("", "application/json", 400),
        ("[", "application/json", 400),
        ("3", "application/json", 400),
        ("{}", "text/plain", 415),
    ],
)
def test_bodies_that_hold_no_outcomes_are_refused(
    client: TestClient, content: str, content_type: str, status: int
) -> None:
    answer = client.post("/v1/outcomes", content=content, headers={"content-type": content_type})

    assert answer.status_code == status


def test_recording_outcomes_needs_the_scope_ingest(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(auth="keys")
    key = create_key(
        services.database, name="k", scopes=["read"], pinned_tags={}, now=services.clock()
    )

    answer = client.post(
        "/v1/outcomes", json=OUTCOME, headers={"authorization": f"Bearer {key.secret}"}
    )

    assert answer.status_code == 403

"""``GET /v1/events`` and ``GET /v1/operations`` over HTTP: shapes, pages and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_event
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

DAY = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}


def send(client: TestClient, *events: dict[str, Any]) -> None:
    """Record the events, all of which are accepted."""
    answer = client.post("/v1/events", json=list(events))
    assert answer.status_code == 200
    assert answer.json()["rejected"] == []


def test_an_event_is_shown_with_everything_known_of_it(client: TestClient) -> None:
    send(
        client,
        make_event(
            operation_id="op",
            trace_id="trace",
            response_id="resp",
            latency_ms=812,
            reported_cost="0.03",
            tags={"feature": "summarise", "user": "u-17", "project": "apollo"},
        ),
    )

    body = client.get("/v1/events", params=DAY).json()

    assert (body["currency"], body["next"]) == ("USD", None)
    [event] = body["events"]
    charge = event.pop("charge")
    expected = {
        "source": "api",
        "event_id": "e1",
        "revision": 0,
        "occurred_at": "2026-11-20T12:00:00Z",
        "provider": "acme",
        "model": "plain",
        "status": "ok",
        "operation_id": "op",
        "trace_id": "trace",
        "response_id": "resp",
        "latency_ms": 812,
        "cache_hit": False,
        "usage": {"input_tokens": 10_000, "output_tokens": 5_000},
        "witness": "sdk",
        "counts": True,
        "reported_cost": "0.030000000",
        "reported_difference": "0.010000000",
        "tags": {
            "team": "unallocated",
            "feature": "summarise",
            "project": "apollo",
            "user": "u-17",
        },
    }
    assert {name: event[name] for name in expected} == expected
    assert event["call_id"] == event["id"]
    assert event["resolved_by"]["feature"] == "caller"
    assert charge["effective_cost"] == "0.020000000"
    assert (charge["basis"], charge["accounting_period"]) == ("rated", "2026-11")
    assert (charge["price"]["provider"], charge["price"]["model"]) == ("acme", "plain")
    assert charge["price_list"] == "test-prices"


def test_an_unpriced_event_has_null_amounts(client: TestClient) -> None:
    send(client, make_event(model="unheard-of"))

    [event] = client.get("/v1/events", params={**DAY, "basis": "unpriced"}).json()["events"]

    assert event["charge"]["effective_cost"] is None
    assert event["charge"]["price"] is None
    assert event["reported_difference"] is None


def test_pages_are_linked(client: TestClient) -> None:
    send(client, *(make_event(event_id=f"e{n}") for n in range(5)))
    url: str | None = str(client.base_url.join("/v1/events"))
    params: dict[str, Any] | None = {**DAY, "limit": "2", "filter": ["team:growth", "team:x"]}
    found = []

    while url is not None:
        answer = client.get(url, params=params)
        found += [event["event_id"] for event in answer.json()["events"]]
        assert (answer.json()["next"] is None) == ("next" not in answer.links)
        url, params = answer.links.get("next", {}).get("url"), None

    assert found == ["e4", "e3", "e2", "e1", "e0"]


def test_an_event_is_found_by_id_and_by_source_and_event_id(client: TestClient) -> None:
    send(client, make_event(source="//ci/build", event_id="a/b"))

    by_name = client.get("/v1/events///ci/build/a/b")
    by_id = client.get(f"/v1/events/{by_name.json()['event']['id']}")
    by_query = client.get("/v1/events", params={"source": "//ci/build", "event_id": "a/b"})

    assert by_name.status_code == 200
    assert by_name.json() == by_id.json()
    assert by_query.json()["events"] == [by_id.json()["event"]]
    [witness] = by_id.json()["witnesses"]
    assert (witness["kind"], witness["counts"]) == ("sdk", True)
    assert witness["usage_difference"] == {}


def test_the_history_of_the_money_is_shown_and_adds_up(client: TestClient) -> None:
    send(client, make_event())
    send(client, make_event(revision=1, usage={"input_tokens": 40_000}))

    body = client.get("/v1/events/api/e1").json()

    first, second = (each["id"] for each in body["revisions"])
    assert [
        (each["usage_id"], each["kind"], each["reverses"], each["effective_cost"])
        for each in body["charges"]
    ] == [
        (first, "charge", None, "0.020000000"),
        (second, "charge", None, "0.040000000"),
        (second, "reversal", first, "-0.020000000"),
    ]
    assert body["effective_cost"] == "0.040000000"
    assert [each["revision"] for each in body["revisions"]] == [0, 1]
    assert [each["counts"] for each in body["revisions"]] == [False, True]


def test_an_operation_is_shown_with_its_attempts_and_waste(client: TestClient) -> None:
    send(
        client,
        make_event(operation_id="op/1", status="timeout"),
        make_event(event_id="e2", operation_id="op/1", attempt=2),
    )

    body = client.get("/v1/operations/op/1").json()

    expected = {
        "operation_id": "op/1",
        "currency": "USD",
        "attempts": 2,
        "retries": 1,
        "failed": 1,
        "unpriced": 0,
        "effective_cost": "0.040000000",
        "waste": "0.020000000",
    }
    assert {name: body[name] for name in expected} == expected
    assert [event["attempt"] for event in body["events"]] == [1, 2]


@pytest.mark.parametrize(
    ("params", "status", "field"),
    [
        ({}, 422, "start"),
        ({"start": DAY["start"]}, 422, "end"),
        ({"end": DAY["end"]}, 422, "start"),
        ({"start": DAY["end"], "end": DAY["start"]}, 422, "end"),
        ({**DAY, "start": "0001-01-01T00:00:00Z"}, 422, "start"),
        ({**DAY, "end": "9999-12-31T23:59:59Z"}, 422, "end"),
        ({**DAY, "basis": "guessed"}, 422, "basis"),
        ({**DAY, "limit": "5000"}, 422, "limit"),
        ({**DAY, "filter": "nonsense"}, 422, "filter"),
        ({**DAY, "cursor": "x"}, 422, "cursor"),
        ({**DAY, "teem": "growth"}, 422, "teem"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(
    client: TestClient, params: dict[str, str], status: int, field: str
) -> None:
    answer = client.get("/v1/events", params=params)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in answer.text


@pytest.mark.parametrize(
    "path", ["/v1/events/%00", "/v1/operations/%00", "/v1/events?operation_id=%00"]
)
def test_a_nul_in_a_name_is_no_fault_of_ours(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (200, 404, 422)


@pytest.mark.parametrize("path", ["/v1/events/9", "/v1/events/api/none", "/v1/operations/none"])
def test_what_is_not_there_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_reading_needs_the_scope_read(make_client: MakeClient, services: Services) -> None:
    client = make_client(auth="keys")
    key = create_key(
        services.database, name="k", scopes=["ingest"], pinned_tags={}, now=services.clock()
    )

    answer = client.get("/v1/events", params=DAY, headers={"authorization": f"Bearer {key.secret}"})

    assert answer.status_code == 403

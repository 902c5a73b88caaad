"""``/v1/budgets/{id}/raises``, and what rollovers, operations and families look like over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import make_check, make_event

SMALLEST = {"id": "all", "limit": "1.00", "window": "day", "mode": "hard"}
RAISE = {"amount": "0.50", "valid_to": "2026-11-21T12:00:00Z", "reason": "the launch"}


@pytest.fixture
def raised(client: TestClient) -> dict[str, Any]:
    """Give the answer to a raise of a budget of a dollar."""
    client.post("/v1/budgets", json=SMALLEST)
    answer = client.post("/v1/budgets/all/raises", json=RAISE, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


def test_a_raise_says_what_counts_and_until_when(
    client: TestClient, raised: dict[str, Any]
) -> None:
    assert raised == {
        "id": raised["id"],
        "budget": "all",
        "unit": "money",
        "amount": "0.500000000",
        "currency": "USD",
        "valid_from": "2026-11-20T12:00:00Z",
        "valid_to": "2026-11-21T12:00:00Z",
        "reason": "the launch",
        "in_force": True,
        "recorded_at": "2026-11-20T12:00:00Z",
        "recorded_by": raised["recorded_by"],
        "ended_at": None,
        "ended_by": None,
    }
    binding = client.post("/v1/quota/check", json=make_check()).json()["binding"]
    assert (binding["limit"], binding["raised"]) == ("1.000000000", "0.500000000")
    assert binding["headroom"] == "1.480000000"
    [standing] = client.get("/v1/budgets/all/status").json()["standings"]
    assert (standing["raised"], standing["headroom"]) == ("0.500000000", "1.480000000")


def test_the_same_key_gives_the_same_raise_and_another_is_a_conflict(
    client: TestClient, raised: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "k"}

    same = client.post("/v1/budgets/all/raises", json=RAISE, headers=headers)
    other = client.post("/v1/budgets/all/raises", json={**RAISE, "amount": "0.60"}, headers=headers)

    assert (same.status_code, same.json()) == (200, raised)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert client.get("/v1/budgets/all/raises").json() == {"raises": [raised], "next": None}


def test_a_raise_may_be_ended_before_its_time(client: TestClient, raised: dict[str, Any]) -> None:
    ended = client.delete(f"/v1/budgets/all/raises/{raised['id']}")

    assert (ended.status_code, ended.json()["in_force"]) == (200, False)
    assert ended.json()["ended_at"] == "2026-11-20T12:00:00Z"
    binding = client.post("/v1/quota/check", json=make_check()).json()["binding"]
    assert binding["raised"] == "0.000000000"


@pytest.mark.parametrize(
    ("body", "field", "word"),
    [
        ({**RAISE, "amount": "0"}, "amount", "above zero"),
        ({**RAISE, "amount": "-1"}, "amount", "negative"),
        ({**RAISE, "valid_to": None}, "valid_to", "needed"),
        ({**RAISE, "valid_to": "2026-11-20T12:00:00Z"}, "valid_to", "future"),
        ({**RAISE, "reason": ""}, None, "reason"),
        ({"amount": "1", "reason": "why"}, None, "valid_to"),
        ({**RAISE, "more": 1}, None, "more"),
    ],
)
def test_a_raise_that_cannot_be_is_refused_by_name(
    client: TestClient, body: dict[str, Any], field: str | None, word: str
) -> None:
    client.post("/v1/budgets", json=SMALLEST)

    answer = client.post("/v1/budgets/all/raises", json=body)

    assert answer.status_code == 422
    assert answer.json().get("field") == field
    assert word in answer.json()["detail"]
    assert client.get("/v1/budgets/all/raises").json()["raises"] == []


def test_what_is_not_there_cannot_be_raised(client: TestClient) -> None:
    client.post("/v1/budgets", json=SMALLEST)

    assert client.post("/v1/budgets/other/raises", json=RAISE).status_code == 404
    assert client.get("/v1/budgets/other/raises").status_code == 404
    assert client.delete("/v1/budgets/all/raises/nothing").status_code == 404


def test_a_rollover_reads_as_it_was_written(client: TestClient) -> None:
    rollover = {"max_carry": "2.00"}

    created = client.post("/v1/budgets", json={**SMALLEST, "rollover": rollover}).json()

    assert created["rollover"] == {"max_carry": "2.000000000", "max_debt": "0.000000000"}
    assert created["standings"][0]["carry"] == "0.000000000"
    same = client.put("/v1/budgets/all", json={**SMALLEST, "rollover": created["rollover"]})
    assert same.json()["action"] == "unchanged"


def test_an_operation_has_its_own_limit_and_is_named_in_the_status(client: TestClient) -> None:
    client.post("/v1/budgets", json={**SMALLEST, "window": "operation", "limit": "0.03"})
    client.post("/v1/events", json=make_event(operation_id="op-1"))

    denied = client.post("/v1/quota/check", json=make_check(estimate="0.02", operation_id="op-1"))
    allowed = client.post("/v1/quota/check", json=make_check(operation_id="op-2"))
    unnamed = client.post("/v1/quota/check", json=make_check())

    assert denied.json()["decision"] == "deny"
    assert allowed.json()["decision"] == "allow"
    assert unnamed.json()["warnings"][0]["code"] == "operation_unknown"
    standings = client.get("/v1/budgets/all/status").json()["standings"]
    assert [(each["operation_id"], each["split"]) for each in standings] == [
        ("op-1", {}),
        ("op-2", {}),
    ]


def test_children_that_exceed_their_parent_are_warned_of_or_refused(client: TestClient) -> None:
    child = {**SMALLEST, "id": "child", "limit": "2.00", "selector": {"team": "growth"}}
    client.post("/v1/budgets", json=SMALLEST)

    refused = client.post("/v1/budgets?strict=true", json=child)
    warned = client.post("/v1/budgets", json=child)
    put = client.put("/v1/budgets/child?strict=true", json={**child, "limit": "3.00"})

    assert (refused.status_code, put.status_code) == (409, 409)
    assert warned.status_code == 201
    assert warned.json()["warnings"] == [
        {
            "code": "children_exceed_parent",
            "detail": "child allows 2.000000000, more than the 1.000000000 of their parent all",
        }
    ]

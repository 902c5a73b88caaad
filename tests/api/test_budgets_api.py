"""``/v1/budgets``: create, change, read and refuse."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import contents, make_event
from tokenbudget.bootstrap import Services

CONTRACT_EXAMPLE: dict[str, Any] = {
    "id": "growth-monthly",
    "selector": {"team": "growth", "environment": "prod"},
    "split_by": ["tenant"],
    "unit": "money",
    "limit": "500.00",
    "window": "month",
    "timezone": "America/New_York",
    "mode": "hard",
    "thresholds": [0.5, 0.8, 1.0],
    "on": "committed",
    "rollover": None,
    "overdraft": "0",
    "baseline": "window",
    "fail_mode": "closed",
    "owner": "ana@example.com",
    "channels": ["finance"],
    "valid_from": None,
    "valid_to": None,
}
SMALLEST = {"id": "all", "limit": "1.00", "window": "month"}


def test_a_budget_is_created_as_the_contract_spells_it(client: TestClient) -> None:
    answer = client.post("/v1/budgets", json=CONTRACT_EXAMPLE)

    created = answer.json()
    assert answer.status_code == 201
    assert {name: created[name] for name in CONTRACT_EXAMPLE} == {
        **CONTRACT_EXAMPLE,
        "limit": "500.000000000",
        "overdraft": "0.000000000",
        "valid_from": "2026-11-20T12:00:00Z",
    }
    assert (created["version"], created["action"]) == (1, "created")


def test_three_fields_are_enough_and_the_rest_has_defaults(client: TestClient) -> None:
    created = client.post("/v1/budgets", json=SMALLEST).json()

    assert (created["selector"], created["mode"], created["unit"]) == ({}, "soft", "money")
    assert (created["timezone"], created["baseline"]) == ("UTC", "window")


def test_a_new_budget_says_how_it_already_stands(client: TestClient) -> None:
    client.post("/v1/events", json=make_event())

    created = client.post("/v1/budgets", json=SMALLEST).json()

    assert created["standings"] == [
        {
            "budget": "all",
            "split": {},
            "unit": "money",
            "limit": "1.000000000",
            "carry": "0.000000000",
            "raised": "0.000000000",
            "settled": "0.020000000",
            "held": "0.000000000",
            "headroom": "0.980000000",
            "forecast": None,
            "window_start": "2026-11-01T00:00:00Z",
            "resets_at": "2026-12-01T00:00:00Z",
        }
    ]


def test_creating_the_same_again_is_200_and_other_content_is_a_conflict(
    client: TestClient, services: Services
) -> None:
    client.post("/v1/budgets", json=SMALLEST)
    before = contents(services.database)["budgets"]

    same = client.post("/v1/budgets", json=SMALLEST)
    other = client.post("/v1/budgets", json={**SMALLEST, "limit": "2.00"})

    assert (same.status_code, same.json()["action"]) == (200, "unchanged")
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert "'all'" in other.json()["detail"]
    assert contents(services.database)["budgets"] == before


def test_put_makes_a_new_version_and_the_history_keeps_both(client: TestClient) -> None:
    client.post("/v1/budgets", json=SMALLEST)

    changed = client.put("/v1/budgets/all", json={"limit": "2.00", "window": "month"})

    history = client.get("/v1/budgets/all/history").json()["versions"]
    assert (changed.json()["version"], changed.json()["changed_fields"]) == (2, ["limit"])
    assert [(each["version"], each["limit"]) for each in history] == [
        (1, "1.000000000"),
        (2, "2.000000000"),
    ]
    assert client.get("/v1/budgets/all").json() == history[-1]
    assert client.get("/v1/budgets").json() == {"budgets": [history[-1]], "next": None}


def test_put_creates_what_is_not_there(client: TestClient) -> None:
    answer = client.put("/v1/budgets/new", json={"limit": 5, "window": "day", "unit": "requests"})

    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    assert (answer.json()["id"], answer.json()["limit"]) == ("new", "5")


def test_put_under_another_id_is_refused(client: TestClient) -> None:
    answer = client.put("/v1/budgets/all", json={**SMALLEST, "id": "other"})

    assert (answer.status_code, answer.json()["field"]) == (422, "id")


def test_the_status_has_one_standing_a_split(client: TestClient) -> None:
    client.post("/v1/budgets", json={**SMALLEST, "split_by": ["tenant"], "unit": "tokens"})
    client.post("/v1/events", json=make_event(tags={"tenant": "acme"}))

    status = client.get("/v1/budgets/all/status").json()

    [standing] = status["standings"]
    assert (status["budget"], status["version"], status["currency"]) == ("all", 1, "USD")
    assert (standing["split"], standing["settled"]) == ({"tenant": "acme"}, "15000")


@pytest.mark.parametrize("path", ["", "/status", "/history"])
def test_a_budget_that_does_not_exist_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/budgets/ghost{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == "budget 'ghost' does not exist"


BAD_BUDGETS: list[tuple[dict[str, Any], str]] = [
    ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is not an IANA zone"),
    ({"limit": "-1"}, "limit -1 is negative"),
    ({"limit": "much"}, "limit 'much' is not a decimal number"),
    ({"limit": "0.0000000001"}, "limit '0.0000000001' has more than 9 decimals"),
    ({"limit": True}, "limit must be a decimal number, not bool"),
    ({"limit": None}, "limit must be a decimal number, not NoneType"),
    ({"overdraft": "-1"}, "overdraft -1 is negative"),
    ({"window": "fortnight"}, "window 'fortnight' is not one of minute, hour, day, week"),
    ({"window": "rolling:30"}, "window 'rolling:30' must be rolling:Nd"),
    ({"window": "range:2026-11-01"}, "must be range:START/END"),
    ({"mode": "harsh"}, "`mode`"),
    ({"unit": "euros"}, "`unit`"),
    ({"thresholds": [0]}, "threshold 0 must be above 0"),
    ({"thresholds": ["1e999999"]}, "threshold 1E+999999 must be above 0, at most 100"),
    ({"selector": {"owner": "ana"}}, "selector 'owner' is not available"),
    ({"selector": {"team": []}}, "selector.team needs at least one value"),
    ({"split_by": ["user"]}, "budget 'all': 'user' cannot be counted by"),
    ({"split_by": ["tenant", "tag:tenant"]}, "split_by names a dimension twice"),
    ({"valid_from": "2026-11-01T00:00:00"}, "valid_from '2026-11-01T00:00:00' has no UTC offset"),
    ({"valid_to": "2026-11-01T00:00:00"}, "valid_to"),
    ({"owner": "a\0b"}, "owner holds a NUL character"),
    ({"id": "a/b"}, "`id`"),
    ({"colour": "red"}, "unknown field `colour`"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("fault", "named"), BAD_BUDGETS)
def test_a_bad_budget_is_refused_by_name_and_nothing_is_written(
    client: TestClient, services: Services, fault: dict[str, Any], named: str
) -> None:
    before = contents(services.database)

    answer = client.post("/v1/budgets", json={**SMALLEST, **fault})

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert named in answer.json()["detail"]
    assert contents(services.database) == before


@pytest.mark.parametrize("name", ["id", "limit", "window"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_missing_field_is_named(client: TestClient, name: str) -> None:
    body = {key: value for key, value in SMALLEST.items() if key != name}

    answer = client.post("/v1/budgets", json=body)

    assert answer.status_code == 422
    assert f"`{name}`" in answer.json()["detail"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"limit":' * 5_000])
def test_a_budget_that_is_no_json_object_is_malformed(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/budgets", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_a_tag_that_is_not_rolled_up_cannot_be_counted_by(client: TestClient) -> None:
    answer = client.post("/v1/budgets", json={**SMALLEST, "split_by": ["user"]})

    assert answer.status_code == 422
    assert "TOKENBUDGET_UNROLLED_TAGS" in answer.json()["detail"]

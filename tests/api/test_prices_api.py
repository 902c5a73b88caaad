"""Prices over HTTP: a look-up that explains itself, and re-rating with approval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, make_event, make_events, record
from tests.services.rerate_cases import BOOK, FIXED_BOOK, ledger_by
from tokenbudget.bootstrap import Services
from tokenbudget.store.db import Database


@pytest.fixture
def fixed(services: Services, make_client: MakeClient) -> TestClient:
    """Give a client of a server with the fixed book, where two usages were charged by the old."""
    record(ledger_by(services, BOOK), *make_events(2))
    return make_client(on=replace(services, price_list=FIXED_BOOK))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_look_up_explains_itself(client: TestClient) -> None:
    asked = {"provider": "acme", "model": "stepped", "tier": "batch", "input_tokens": "200001"}

    answer = client.get("/v1/prices/lookup", params=asked)

    found = answer.json()
    assert answer.status_code == 200, found
    assert found["used"] == found["steps"][1]
    assert found["used"]["million_input_tokens"] == "2"
    assert [each["flag"] for each in found["flags"]] == ["tier_fallback"]
    assert "for input of above 200000 tokens" in found["reasons"]
    assert found["at"] == "2026-11-20T12:00:00Z"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_look_up_is_about_the_time_asked_for(client: TestClient) -> None:
    asked = {"provider": "acme", "model": "dated", "at": "2026-11-14T23:59:59Z"}

    found = client.get("/v1/prices/lookup", params=asked).json()

    assert found["used"]["million_input_tokens"] == "1"
    assert found["used"]["valid_to"] == "2026-11-15T00:00:00Z"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_has_no_price_is_not_found_with_the_reason(client: TestClient) -> None:
    answer = client.get("/v1/prices/lookup", params={"provider": "acme", "model": "mystery"})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["reason"] == "model_unknown"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "wrong",
    [{}, {"provider": "acme"}, {"at": "yesterday"}, {"input_tokens": "-1"}, {"tiers": "batch"}],
)
def test_a_question_that_is_not_understood_is_refused(
    client: TestClient, wrong: dict[str, str]
) -> None:
    named = {"provider": "acme", "model": "plain"} if wrong and "provider" not in wrong else {}

    answer = client.get("/v1/prices/lookup", params={**named, **wrong})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


def test_a_rerate_is_proposed_approved_and_applied_once(
    fixed: TestClient, database: Database
) -> None:
    proposed = fixed.post("/v1/prices/rerates", json={}).json()
    path = f"/v1/prices/rerates/{proposed['id']}"

    first, second = fixed.post(f"{path}/approve"), fixed.post(f"{path}/approve")

    assert proposed["state"] == "proposed"
    # Two usages cost half a cent more than they were charged.
    moved = {
        "usages": 2,
        "list_cost": "0.010000000",
        "contracted_cost": "0.010000000",
        "effective_cost": "0.010000000",
    }
    assert proposed["proposed"] == moved
    assert (first.status_code, first.json()["state"]) == (200, "applied")
    assert first.json()["applied"] == moved
    assert second.json() == first.json() == fixed.get(path).json()
    assert fixed.get("/v1/prices/rerates").json()["rerates"] == [first.json()]
    assert broken_rules(database) == []


def test_asking_again_gives_the_same_proposal(fixed: TestClient) -> None:
    scope: dict[str, Any] = {"provider": "acme", "reasons": ["fixed"]}

    first, second = (fixed.post("/v1/prices/rerates", json=scope).json() for _ in range(2))

    assert first == second


def test_a_proposal_that_no_longer_holds_is_a_conflict(
    fixed: TestClient, services: Services
) -> None:
    proposed = fixed.post("/v1/prices/rerates", json={}).json()
    record(ledger_by(services, BOOK), make_event(event_id="later"))

    answer = fixed.post(f"/v1/prices/rerates/{proposed['id']}/approve")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert fixed.get(f"/v1/prices/rerates/{proposed['id']}").json()["state"] == "proposed"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_scope_that_is_not_understood_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/prices/rerates", json={"team": "growth"})

    assert (answer.status_code, answer.json()["field"]) == (422, "team")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_rerate_that_does_not_exist_is_not_found(client: TestClient) -> None:
    assert client.get("/v1/prices/rerates/7").status_code == 404
    assert client.post("/v1/prices/rerates/7/approve").status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_a_key_nothing_is_told(make_client: MakeClient) -> None:
    client = make_client(auth="keys")

    assert client.get("/v1/prices/rerates").status_code == 401
    assert client.post("/v1/prices/rerates", json={}).status_code == 401

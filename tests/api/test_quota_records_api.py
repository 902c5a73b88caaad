"""``/v1/quota/decisions`` and ``/v1/quota/unsettled`` over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_budget, make_check, make_event, set_budgets
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

PATHS = ("/v1/quota/decisions", "/v1/quota/unsettled")


@pytest.fixture
def narrow(services: Services, clock: FrozenClock) -> None:
    """Set a hard budget of five cents for everything."""
    set_budgets(services.database, make_budget(limit="0.05"), now=clock())


def lose(client: TestClient, number: int = 1) -> str:
    """Let a call be allowed and never heard of again, and give its hold."""
    hold_id = client.post("/v1/quota/check", json=make_check()).json()["hold_id"]
    event = make_event(event_id=f"e{number}", status="timeout", hold_id=hold_id)
    event.pop("usage")
    answer = client.post("/v1/events", json=event).json()
    assert answer["accepted"] == 1, answer
    return str(hold_id)


@pytest.mark.usefixtures("narrow")
def test_a_denial_is_listed_with_its_reasons_and_budget(client: TestClient) -> None:
    client.post("/v1/quota/check", json=make_check(estimate="0.06"))

    page = client.get("/v1/quota/decisions", params={"decision": "deny", "budget": "all"}).json()

    [decision] = page.pop("decisions")
    assert page == {"currency": "USD", "omitted_denials": 0, "next": None}
    assert decision.pop("id")
    assert decision == {
        "decided_at": "2026-11-20T12:00:00Z",
        "key": None,
        "decision": "deny",
        "reasons": ["budget_exhausted"],
        "tags": {"team": "growth", "feature": "summarise", "tenant": "acme"},
        "provider": "acme",
        "model": "plain",
        "requests": 1,
        "estimate": "0.060000000",
        "budget": "all",
        "budget_version": 1,
        "hold_id": None,
        "dry_run": False,
    }


@pytest.mark.usefixtures("narrow")
def test_pages_of_decisions_are_linked(client: TestClient) -> None:
    for _ in range(3):
        client.post("/v1/quota/check", json=make_check(estimate="0.06", dry_run=True))

    first = client.get("/v1/quota/decisions", params={"limit": 2, "start": "2026-11-20T12:00:00Z"})
    second = client.get(first.links["next"]["url"])

    ids = [each["id"] for page in (first, second) for each in page.json()["decisions"]]
    assert len(set(ids)) == 3
    assert second.json()["next"] is None


@pytest.mark.usefixtures("narrow")
def test_a_share_of_all_checks_is_listed_if_the_operator_says_so(make_client: MakeClient) -> None:
    client = make_client(decision_sample_percent=100)
    hold_id = client.post("/v1/quota/check", json=make_check(requests=2)).json()["hold_id"]

    [decision] = client.get("/v1/quota/decisions").json()["decisions"]

    assert (decision["id"], decision["decision"], decision["requests"]) == (hold_id, "allow", 2)


@pytest.mark.usefixtures("narrow")
def test_a_lost_call_is_listed_with_what_it_is_charged(client: TestClient) -> None:
    hold_id = lose(client)

    page = client.get("/v1/quota/unsettled").json()
    [call] = page["unsettled"]
    event = client.get(f"/v1/events/{call.pop('event')}").json()["event"]

    assert event["hold_id"] == hold_id
    assert event["flags"] == ["estimated_input_only"]
    assert call == {
        "kind": "call",
        "hold_id": hold_id,
        "since": "2026-11-20T12:00:00Z",
        "team": "growth",
        "feature": "summarise",
        "provider": "acme",
        "model": "plain",
        "requests": 1,
        "estimate": "0.020000000",
        "provisional_cost": "0.010000000",
    }
    assert page["totals"] == {
        "calls": 1,
        "provisional_cost": "0.010000000",
        "expired_holds": 0,
    }


def test_an_expired_hold_is_listed_and_pages_are_linked(
    client: TestClient, clock: FrozenClock
) -> None:
    client.post("/v1/quota/check", json=make_check())
    lost = lose(client)
    clock.advance(minutes=5)
    client.post("/v1/quota/check", json=make_check())

    first = client.get("/v1/quota/unsettled", params={"limit": 1})
    second = client.get(first.links["next"]["url"])

    [hold], [call] = first.json()["unsettled"], second.json()["unsettled"]
    assert (hold["kind"], hold["event"], hold["provisional_cost"]) == ("expired_hold", None, None)
    assert hold["since"] == "2026-11-20T12:01:00Z"
    assert (call["kind"], call["hold_id"]) == ("call", lost)
    assert second.json()["next"] is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "parameters", [{"limit": 0}, {"cursor": "x"}, {"cursor": "W10"}, {"limit": 1_001}]
)
def test_bad_pages_are_problems(client: TestClient, path: str, parameters: dict[str, Any]) -> None:
    answer = client.get(path, params=parameters)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    "parameters", [{"decision": "maybe"}, {"start": "2026-11-20T12:00:00"}, {"colour": "red"}]
)
def test_bad_questions_about_decisions_are_problems(
    client: TestClient, parameters: dict[str, str]
) -> None:
    answer = client.get("/v1/quota/decisions", params=parameters)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("path", PATHS)
def test_a_key_needs_the_scope_to_read(
    make_client: MakeClient, services: Services, clock: FrozenClock, path: str
) -> None:
    secrets = [
        create_key(
            services.database, name=scope, scopes=[scope], pinned_tags={}, now=clock()
        ).secret
        for scope in ("quota", "read")
    ]
    client = make_client(auth="keys")

    statuses = [
        client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code
        for secret in secrets
    ]

    assert statuses == [403, 200]

"""``POST /v1/budgets/replay``: what proposed budgets would have done, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import cents, contents, make_event
from tokenbudget.bootstrap import Services

PROPOSED: dict[str, Any] = {
    "budgets": [
        {"id": "tenants", "limit": "0.50", "window": "day", "mode": "hard", "split_by": ["tenant"]}
    ],
    "from": "2026-11-01",
    "to": "2026-12-01",
}


def record_history(client: TestClient) -> None:
    """Record 40 and 20 cents of one tenant and 30 of another, on one day."""
    costs = (("acme", 40), ("acme", 20), ("beta", 30))
    events = [
        make_event(
            event_id=f"e{number}",
            occurred_at=f"2026-11-09T1{number}:00:00Z",
            tags={"team": "growth", "tenant": tenant},
            usage=cents(cost),
        )
        for number, (tenant, cost) in enumerate(costs)
    ]
    assert client.post("/v1/events", json=events).json()["accepted"] == len(events)


def test_a_replay_tells_what_would_have_been_and_stores_nothing(
    client: TestClient, services: Services
) -> None:
    record_history(client)
    before = contents(services.database)

    answer = client.post("/v1/budgets/replay", json=PROPOSED)

    told = answer.json()
    [tenants] = told["budgets"]
    assert answer.status_code == 200
    assert (told["from"], told["to"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (told["seen"]["calls"], told["seen"]["cost"]) == (3, "0.900000000")
    assert (told["denied"]["calls"], told["saved"], told["currency"]) == (1, "0.200000000", "USD")
    assert told["sentence"] == (
        "Together they would have denied 1 of 3 calls, first on 9 Nov 2026, 11:00 UTC, $0.20 saved."
    )
    assert [each["split"] for each in tenants["splits"]] == [{"tenant": "acme"}]
    assert tenants["denied"] == 1
    assert contents(services.database) == before


def test_a_budget_may_be_called_replay(client: TestClient) -> None:
    named = {"id": "replay", "limit": "1.00", "window": "month"}

    assert client.post("/v1/budgets", json=named).status_code == 201
    assert client.get("/v1/budgets/replay").json()["id"] == "replay"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"from": "2026-12-02"}, "to"),
        ({"from": None}, "from"),
        ({"budgets": []}, "budgets"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_asked_is_one_problem(
    client: TestClient, changes: dict[str, Any], field: str
) -> None:
    answer = client.post("/v1/budgets/replay", json={**PROPOSED, **changes})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["field"] == field


def test_a_bad_budget_is_one_problem(client: TestClient) -> None:
    bad = {**PROPOSED["budgets"][0], "limit": "-1"}

    answer = client.post("/v1/budgets/replay", json={**PROPOSED, "budgets": [bad]})

    assert answer.status_code == 422
    assert answer.json()["detail"] == "budget 1 (tenants): limit -1 is negative"


def test_a_tag_that_is_not_rolled_up_cannot_be_replayed_by(client: TestClient) -> None:
    budget = {**PROPOSED["budgets"][0], "split_by": ["user"]}

    answer = client.post("/v1/budgets/replay", json={**PROPOSED, "budgets": [budget]})

    assert answer.status_code == 422
    assert "'user' cannot be counted by" in answer.json()["detail"]


def test_too_much_history_for_one_request_is_one_problem(client: TestClient) -> None:
    client.post("/v1/events", json=make_event(usage={**cents(1), "requests": 2_000_001}))

    answer = client.post("/v1/budgets/replay", json=PROPOSED)

    assert (answer.status_code, answer.json()["field"]) == (422, "to")
    assert "at most 2000000 are replayed here" in answer.json()["detail"]

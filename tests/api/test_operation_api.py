"""Health, self-check, alerts, and the answers to what nobody should ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, make_budget, make_check, make_event, set_budgets
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import CounterRow

NOBODY_LISTENS = "postgresql+psycopg://root@127.0.0.1:1/none"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_health_and_readiness_need_no_key_and_tell_no_detail(make_client: MakeClient) -> None:
    client = make_client(auth="keys")

    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


@pytest.fixture
def unreachable(services: Services) -> Services:
    """Give services whose database does not answer."""
    return replace(services, database=Database(NOBODY_LISTENS))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_readiness_fails_without_saying_why_when_the_database_is_gone(
    make_client: MakeClient, unreachable: Services
) -> None:
    client = make_client(on=unreachable, auth="keys")

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_a_database_requests_are_told_to_come_back(
    make_client: MakeClient, unreachable: Services
) -> None:
    client = make_client(on=unreachable)

    for answer in (
        client.post("/v1/events", json=make_event()),
        client.post("/v1/quota/check", json=make_check()),
        client.get("/v1/alerts"),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"


def test_selfcheck_holds_on_an_honest_ledger(client: TestClient) -> None:
    client.post("/v1/events", json=make_event())

    answer = client.get("/v1/selfcheck").json()

    assert answer["ok"] is True
    assert {finding["rule"]: finding["ok"] for finding in answer["findings"]} == {
        "quarter-hour rollups = charges + shares": True,
        "daily rollups = charges + shares": True,
        "settled = sum of charges": True,
        "held = sum of open holds": True,
        "held >= 0": True,
        "no hold resolved twice": True,
        "left of a hold = granted - taken by pieces": True,
        "one charge stands for a call": True,
        "usage is found by when it occurred": True,
        "rollups of outcomes = outcomes": True,
        "closed statements = their digests, totals and invoices": True,
    }


def test_selfcheck_names_a_counter_that_lies(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    set_budgets(services.database, make_budget(), now=clock())
    client.post("/v1/events", json=make_event())
    with services.database.transaction() as session:
        session.connection().execute(table_of(CounterRow).update().values(settled=7))

    answer = client.get("/v1/selfcheck").json()

    broken = [finding for finding in answer["findings"] if not finding["ok"]]
    assert answer["ok"] is False
    assert [(each["rule"], len(each["broken"])) for each in broken] == [
        ("settled = sum of charges", 1)
    ]
    assert "settled 7, charges 20000000" in broken[0]["broken"][0]


def test_alerts_are_listed_newest_first(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    draft = make_budget(limit="0.04", thresholds=["0.5", "1"], mode="soft")
    set_budgets(services.database, draft, now=clock())
    client.post("/v1/events", json=make_event(event_id="half"))
    clock.advance(minutes=1)
    client.post("/v1/events", json=make_event(event_id="whole"))

    answer = client.get("/v1/alerts").json()
    latest = client.get("/v1/alerts", params={"limit": 1}).json()

    [whole, half] = answer["alerts"]
    assert whole.pop("id") != half["id"]
    assert whole == {
        "budget": "all",
        "budget_version": 1,
        "kind": "committed",
        "threshold": "1",
        "unit": "money",
        "measured": "0.040000000",
        "limit": "0.040000000",
        "window_start": "2026-11-01T00:00:00Z",
        "window_end": "2026-12-01T00:00:00Z",
        "raised_at": "2026-11-20T12:01:00Z",
        "resolved_at": None,
    }
    assert (half["threshold"], half["measured"]) == ("0.5", "0.020000000")
    assert (answer["currency"], answer["next"]) == ("USD", None)
    assert [each["threshold"] for each in latest["alerts"]] == ["1"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("limit", ["0", "501", "many"])
def test_a_limit_out_of_bounds_is_named(client: TestClient, limit: str) -> None:
    answer = client.get("/v1/alerts", params={"limit": limit})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"].startswith("limit: ")
    assert answer.json()["errors"][0]["pointer"] == "/limit"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/nothing", "/v1/budgets/a/b"])
def test_an_unknown_path_is_a_problem(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:tokenbudget:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": f"there is nothing at {path}",
        "code": "not_found",
    }


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/events"), ("PUT", "/v1/quota/check"), ("DELETE", "/v1/budgets/a")],
)
def test_a_wrong_method_is_a_problem_that_says_what_is_allowed(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, path)

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_unexpected_error_is_a_problem_without_a_trace(
    make_client: MakeClient, services: Services
) -> None:
    def stopped_clock() -> datetime:
        raise RuntimeError("the spring of the clock is broken")

    client = make_client(on=replace(services, clock=stopped_clock))

    for answer in (
        client.post("/v1/events", json=make_event()),
        client.post("/v1/quota/check", json=make_check()),
        client.get("/v1/owners"),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.status_code == 500
        assert answer.json() == {
            "type": "urn:tokenbudget:problem:internal",
            "title": "Internal error",
            "status": 500,
            "detail": "something went wrong; the log has the details",
            "code": "internal",
        }


def test_an_item_the_database_cannot_hold_fails_alone(
    client: TestClient, services: Services
) -> None:
    bad = client.post("/v1/quota/holds/a%00b/release")
    good = client.post("/v1/events", json=make_event())

    assert bad.status_code in (404, 422)
    assert good.json()["accepted"] == 1
    assert broken_rules(services.database) == []

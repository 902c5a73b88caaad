"""Checks over HTTP while the database cannot answer, and what is left of them when it is back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import (
    CENT,
    broken_rules,
    make_budget,
    make_check,
    make_event,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.faults.outages import no_answers
from tokenbudget.api.access import OUTAGE_TRUST
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key, revoke
from tokenbudget.store.tables import ApiKeyRow, HoldRow

CHECK = "/v1/quota/check"
GROWTH = {"team": "growth"}
SEARCH = {"team": "search"}
GATEWAY = {
    "x-tokenbudget-tags": "team=search",
    "x-tokenbudget-provider": "acme",
    "x-tokenbudget-model": "plain",
    "x-tokenbudget-input-tokens": "10000",
    "x-tokenbudget-max-output-tokens": "5000",
}


@pytest.fixture(autouse=True)
def budgets(services: Services, clock: FrozenClock) -> None:
    """Set a hard budget for each of two teams: that of growth fails closed, of search open."""
    set_budgets(
        services.database,
        make_budget(id="growth", selector=GROWTH),
        make_budget(id="search", selector=SEARCH, fail_mode="open"),
        now=clock(),
    )


def ask(client: TestClient, tags: dict[str, str], **asked: Any) -> Any:
    """Give the response to a check of two cents."""
    return client.post(CHECK, json=make_check(tags=tags, **asked))


def test_a_closed_budget_is_503_and_an_open_one_allows_what_is_reported_later(
    client: TestClient, services: Services
) -> None:
    with no_answers(services.database):
        closed, opened = ask(client, GROWTH), ask(client, SEARCH)

    assert (closed.status_code, closed.headers["retry-after"]) == (503, "1")
    assert closed.headers["content-type"] == "application/problem+json"
    problem = closed.json()
    assert (problem["code"], problem["fail_mode"]) == ("unavailable", "closed")
    assert problem["budgets"] == ["growth"]
    answer = opened.json()
    assert (opened.status_code, answer["decision"], answer["hold_id"]) == (200, "allow", None)
    assert [warning["code"] for warning in answer["warnings"]] == ["budget_not_checked"]
    assert "ratelimit" not in opened.headers
    assert rows_of(services.database, HoldRow) == []

    event = make_event(tags=SEARCH, hold_id=answer["hold_id"])
    assert client.post("/v1/events", json=event).json()["accepted"] == 1

    assert ask(client, GROWTH).json()["hold_id"] is not None
    found = ask(client, SEARCH).json()
    assert found["hold_id"] is not None
    assert found["warnings"] == []
    assert standings(services.database, now=services.clock()) == {
        ("growth",): (0, 2 * CENT),
        ("search",): (2 * CENT, 2 * CENT),
    }
    assert broken_rules(services.database) == []


def test_events_are_never_taken_in_without_the_database(
    client: TestClient, services: Services
) -> None:
    with no_answers(services.database):
        answer = client.post("/v1/events", json=make_event(tags=SEARCH))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.post("/v1/events", json=make_event(tags=SEARCH)).json()["accepted"] == 1


def test_each_check_of_a_batch_is_answered_by_its_own_budgets(
    client: TestClient, services: Services
) -> None:
    batch = [make_check(tags=GROWTH), make_check(tags=SEARCH), {"nonsense": 1}]

    with no_answers(services.database):
        answer = client.post("/v1/quota/check:batch", json=batch)

    closed, opened, faulty = answer.json()["answers"]
    assert (closed["status"], closed["fail_mode"]) == (503, "closed")
    assert (opened["decision"], opened["hold_id"]) == ("allow", None)
    assert faulty["status"] == 422


def test_a_gateway_gets_the_same_answers(client: TestClient, services: Services) -> None:
    with no_answers(services.database):
        opened = client.post("/v1/quota/authorize", headers=GATEWAY)
        closed = client.post(
            "/v1/quota/authorize", headers={**GATEWAY, "x-tokenbudget-tags": "team=growth"}
        )

    assert opened.status_code == 200
    assert opened.headers["x-tokenbudget-decision"] == "allow"
    assert "x-tokenbudget-hold-id" not in opened.headers
    assert (closed.status_code, closed.headers["retry-after"]) == (503, "1")


def test_an_unchecked_answer_is_not_kept_for_its_idempotency_key(
    client: TestClient, services: Services
) -> None:
    with no_answers(services.database):
        assert ask(client, SEARCH, idempotency_key="k").json()["hold_id"] is None

    assert ask(client, SEARCH, idempotency_key="k").json()["hold_id"] is not None


@pytest.fixture
def guarded(make_client: MakeClient, services: Services) -> TestClient:
    """Give a client with a key that may ask, of an application that remembers keys."""
    key = create_key(
        services.database, name="search", scopes=["quota"], pinned_tags={}, now=services.clock()
    )
    client = make_client(auth="keys", key_cache_seconds=5)
    client.headers["authorization"] = f"Bearer {key.secret}"
    return client


def test_a_key_that_was_known_still_opens_while_the_database_is_away(
    guarded: TestClient, services: Services, clock: FrozenClock
) -> None:
    assert ask(guarded, SEARCH).status_code == 200

    with no_answers(services.database):
        clock.advance(seconds=60)
        opened, closed = ask(guarded, SEARCH), ask(guarded, GROWTH)
        clock.now += OUTAGE_TRUST - timedelta(seconds=61)
        late = ask(guarded, SEARCH)
        clock.advance(seconds=10)
        too_late = ask(guarded, SEARCH)

    assert (opened.json()["decision"], late.json()["decision"]) == ("allow", "allow")
    assert (closed.status_code, too_late.status_code) == (503, 503)


def test_a_key_that_was_never_seen_opens_nothing(guarded: TestClient, services: Services) -> None:
    with no_answers(services.database):
        answer = ask(guarded, SEARCH)

    assert answer.status_code == 503
    assert "fail_mode" not in answer.json()


def test_a_key_revoked_before_the_database_went_away_ends_when_it_is_back(
    guarded: TestClient, services: Services, clock: FrozenClock
) -> None:
    assert ask(guarded, SEARCH).status_code == 200
    [key] = rows_of(services.database, ApiKeyRow)
    revoke(services.database, key["id"], now=clock())

    with no_answers(services.database):
        clock.advance(seconds=6)
        assert ask(guarded, SEARCH).json()["hold_id"] is None
    clock.advance(seconds=6)

    assert ask(guarded, SEARCH).status_code == 401

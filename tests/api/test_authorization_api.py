"""``/v1/quota/authorize``: what a gateway is told, and what is held when it may go on."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, make_budget, make_event, set_budgets, standings
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

PATH = "/v1/quota/authorize"
CALL = {
    "X-Tokenbudget-Tags": "team=growth",
    "X-Tokenbudget-Provider": "acme",
    "X-Tokenbudget-Model": "plain",
    "X-Tokenbudget-Input-Tokens": "10000",
    "X-Tokenbudget-Max-Output-Tokens": "5000",
}
CENT = 10_000_000


@pytest.fixture(autouse=True)
def three_cents(services: Services, clock: FrozenClock) -> None:
    """Set a hard budget of three cents; the usual call may cost two."""
    set_budgets(services.database, make_budget(id="small", limit="0.03"), now=clock())


def test_a_call_that_fits_is_let_through_and_held(client: TestClient, services: Services) -> None:
    answer = client.post(PATH, headers=CALL)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-tokenbudget-decision"] == "allow"
    assert answer.headers["x-tokenbudget-max-output-tokens"] == "5000"
    assert answer.headers["ratelimit"].startswith('"small";r=10000;t=')
    assert standings(services.database, now=services.clock()) == {("small",): (0, 2 * CENT)}

    event = make_event(hold_id=answer.headers["x-tokenbudget-hold-id"])
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    assert broken_rules(services.database) == []


def test_a_call_that_does_not_fit_is_429_and_says_by_which_policy(
    client: TestClient, services: Services
) -> None:
    assert client.post(PATH, headers=CALL).status_code == 200
    dearer = {**CALL, "X-Tokenbudget-Input-Tokens": "20000"}

    answer = client.post(PATH, headers=dearer)

    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (
        429,
        "application/problem+json",
    )
    assert int(answer.headers["retry-after"]) > 0
    assert problem["type"].endswith("#quota-exceeded")
    assert (problem["code"], problem["violated-policies"]) == ("budget_exhausted", ["small"])
    assert "x-tokenbudget-hold-id" not in answer.headers
    assert standings(services.database, now=services.clock()) == {("small",): (0, 2 * CENT)}


def test_less_output_is_only_granted_to_a_gateway_that_lowers_it(
    client: TestClient, services: Services
) -> None:
    longer = {**CALL, "X-Tokenbudget-Max-Output-Tokens": "50000"}

    refused = client.post(PATH, headers=longer)
    held = standings(services.database, now=services.clock())
    granted = client.post(PATH, headers={**longer, "X-Tokenbudget-Accept-Reduce": "true"})

    assert (refused.status_code, held) == (429, {("small",): (0, 0)})
    assert "room for 10000 output tokens" in refused.json()["detail"]
    assert refused.headers["retry-after"]
    assert (granted.status_code, granted.headers["x-tokenbudget-decision"]) == (200, "reduce")
    assert granted.headers["x-tokenbudget-max-output-tokens"] == "10000"
    assert broken_rules(services.database) == []


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_the_path_and_method_of_the_original_request_do_not_matter(
    client: TestClient, method: str
) -> None:
    answer = client.request(method, f"{PATH}/v1/chat/completions", headers=CALL)

    assert answer.status_code == 200


def test_the_providers_own_body_is_counted(client: TestClient) -> None:
    sized = ("X-Tokenbudget-Model", "X-Tokenbudget-Input-Tokens", "X-Tokenbudget-Max-Output-Tokens")
    headers = {name: value for name, value in CALL.items() if name not in sized}
    body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}

    answer = client.post(PATH, headers=headers, json=body)

    assert answer.status_code == 200
    assert answer.headers["x-tokenbudget-max-output-tokens"] == "100"


def test_our_key_has_a_header_of_its_own(make_client: MakeClient, services: Services) -> None:
    client = make_client(auth="keys")
    quota, read = (
        create_key(
            services.database, name=name, scopes=[name], pinned_tags={}, now=services.clock()
        ).secret
        for name in ("quota", "read")
    )
    headers = {**CALL, "Authorization": "Bearer sk-of-the-provider"}

    without = client.post(PATH, headers=headers)
    answer = client.post(PATH, headers={**headers, "X-Tokenbudget-Key": quota})
    wrong_scope = client.post(PATH, headers={**headers, "X-Tokenbudget-Key": read})

    assert (without.status_code, answer.status_code, wrong_scope.status_code) == (401, 200, 403)


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"max_tokens": -1}', 422)]
)
def test_bad_bodies_are_refused_and_hold_nothing(
    client: TestClient, services: Services, body: bytes, status: int
) -> None:
    headers = {name: value for name, value in CALL.items() if "Max-Output" not in name}

    assert client.post(PATH, headers=headers, content=body).status_code == status
    assert standings(services.database, now=services.clock()) == {("small",): (0, 0)}

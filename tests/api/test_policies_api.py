"""``/v1/policies``: put whole, versioned, and decisive for the next check."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_check
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

POLICIES: dict[str, Any] = {
    "classes": {"small": ["*-mini"]},
    "policy": [
        {
            "id": "growth",
            "mode": "hard",
            "selector": {"team": "growth"},
            "allowed_classes": ["small"],
            "ladder": ["plain-mini"],
        }
    ],
}


def key_with(services: Services, scope: str) -> Any:
    """Give a new key of one scope."""
    return create_key(
        services.database, name=scope, scopes=[scope], pinned_tags={}, now=services.clock()
    )


def test_without_policies_there_is_version_zero(client: TestClient) -> None:
    assert client.get("/v1/policies").json() == {
        "version": 0,
        "recorded_at": None,
        "recorded_by": None,
        "classes": {},
        "policy": [],
    }


def test_policies_are_given_back_as_they_were_put(client: TestClient) -> None:
    put = client.put("/v1/policies", json=POLICIES)

    assert put.json() == {
        "version": 1,
        "is_changed": True,
        "changes": [
            {"kind": "class", "name": "small", "action": "added"},
            {"kind": "policy", "name": "growth", "action": "added"},
        ],
    }
    present = client.get("/v1/policies").json()
    assert present["classes"] == POLICIES["classes"]
    [policy] = present["policy"]
    assert policy.items() >= POLICIES["policy"][0].items()
    again = {name: present[name] for name in ("classes", "policy")}
    assert client.put("/v1/policies", json=again).json() == {
        "version": 1,
        "is_changed": False,
        "changes": [],
    }


def test_a_dry_run_changes_nothing(client: TestClient) -> None:
    shown = client.put("/v1/policies", params={"dry_run": True}, json=POLICIES).json()

    assert (shown["version"], shown["is_changed"]) == (1, True)
    assert client.get("/v1/policies").json()["version"] == 0


def test_the_next_check_is_decided_by_them(client: TestClient) -> None:
    client.put("/v1/policies", json=POLICIES)

    response = client.post("/v1/quota/check", json=make_check())

    # The ladder's only model has no price, which no budget minds.
    answer = response.json()
    assert (answer["decision"], answer["limits"]["model"]) == ("reduce", "plain-mini")
    assert [warning["code"] for warning in answer["warnings"]] == [
        "model_not_allowed",
        "unpriced_model",
    ]


def test_a_denial_by_policy_says_nothing_of_a_rate(client: TestClient) -> None:
    policy = {"id": "p", "mode": "hard", "denied_models": ["plain"]}
    client.put("/v1/policies", json={"policy": [policy]})

    response = client.post("/v1/quota/check", json=make_check())

    assert response.status_code == 200
    assert response.json()["reasons"] == [
        {"code": "model_not_allowed", "detail": "policy p does not allow acme/plain"}
    ]
    assert not {"RateLimit", "Retry-After"} & set(response.headers)


def test_a_fault_names_the_policy_and_the_rule(client: TestClient) -> None:
    refused = client.put("/v1/policies", json={"policy": [{"id": "p", "allowed_classes": ["x"]}]})

    assert refused.status_code == 422
    assert refused.json()["code"] == "invalid_input"
    assert refused.json()["detail"] == (
        "policies: policy 1 (p): allowed_classes: 'x' is not in [classes]"
    )


def test_a_tag_that_is_not_rolled_up_cannot_be_selected_by(client: TestClient) -> None:
    refused = client.put("/v1/policies", json={"policy": [{"id": "p", "selector": {"user": "u"}}]})

    assert (refused.status_code, "TOKENBUDGET_UNROLLED_TAGS" in refused.json()["detail"]) == (
        422,
        True,
    )


def test_history_tells_who_wrote_which_version(make_client: MakeClient, services: Services) -> None:
    admin = key_with(services, "admin")
    client = make_client(auth="keys")
    client.headers["Authorization"] = f"Bearer {admin.secret}"
    client.put("/v1/policies", json=POLICIES)
    client.put("/v1/policies", json={})

    listed = client.get("/v1/policies/history", params={"limit": 5}).json()

    told = [(each["version"], each["classes"], each["policies"]) for each in listed["versions"]]
    assert told == [(2, 0, 0), (1, 1, 1)]
    assert {each["recorded_by"] for each in listed["versions"]} == {admin.key_id}


def test_reading_needs_read_and_writing_admin(make_client: MakeClient, services: Services) -> None:
    client = make_client(auth="keys")
    client.headers["Authorization"] = f"Bearer {key_with(services, 'read').secret}"

    assert client.get("/v1/policies").status_code == 200
    assert client.put("/v1/policies", json=POLICIES).status_code == 403


def test_half_of_a_surrogate_pair_is_no_text(client: TestClient) -> None:
    body = b'{"policy": [{"id": "\\ud800"}], "classes": {}}'

    refused = client.put("/v1/policies", content=body)

    assert refused.status_code == 400
    assert "surrogate" in refused.json()["detail"]


def test_a_whole_surrogate_pair_is_a_character(client: TestClient) -> None:
    body = b'{"policy": [], "classes": {"\\ud83d\\ude00": ["a"]}}'

    assert client.put("/v1/policies", content=body).status_code == 200

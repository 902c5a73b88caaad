"""``/v1/tag-rules``: put whole, versioned, and applied to history on approval."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_event
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

RULES: dict[str, Any] = {
    "mapping": [{"match": {"provider": "acme", "account": "proj_1"}, "tags": {"team": "growth"}}],
    "rule": [
        {
            "name": "searchers",
            "when": {"feature": "search-*", "environment": {"not": ["dev"]}},
            "set": {"team": "search"},
            "valid_from": "2026-11-01",
        }
    ],
}


def test_without_rules_there_is_version_zero(client: TestClient) -> None:
    assert client.get("/v1/tag-rules").json() == {
        "version": 0,
        "recorded_at": None,
        "recorded_by": None,
        "mapping": [],
        "rule": [],
    }


def test_rules_are_given_back_as_they_were_put(client: TestClient) -> None:
    put = client.put("/v1/tag-rules", json=RULES)

    assert put.json()["version"] == 1
    assert [each["action"] for each in put.json()["changes"]] == ["added", "added"]
    present = client.get("/v1/tag-rules").json()
    [rule] = present["rule"]
    assert rule["when"] == RULES["rule"][0]["when"]
    assert (rule["valid_from"], rule["valid_to"]) == ("2026-11-01T00:00:00Z", None)
    again = client.put("/v1/tag-rules", json={name: present[name] for name in ("mapping", "rule")})
    assert again.json() == {"version": 1, "is_changed": False, "changes": []}


def test_a_dry_run_changes_nothing(client: TestClient) -> None:
    shown = client.put("/v1/tag-rules", params={"dry_run": True}, json=RULES).json()

    assert (shown["version"], shown["is_changed"]) == (1, True)
    assert client.get("/v1/tag-rules").json()["version"] == 0


def test_history_tells_who_wrote_which_version(make_client: MakeClient, services: Services) -> None:
    admin = create_key(
        services.database, name="a", scopes=["admin"], pinned_tags={}, now=services.clock()
    )
    client = make_client(auth="keys")
    client.headers["Authorization"] = f"Bearer {admin.secret}"
    client.put("/v1/tag-rules", json=RULES)
    client.put("/v1/tag-rules", json={})

    versions = client.get("/v1/tag-rules/history").json()["versions"]

    assert [(each["version"], each["mappings"], each["rules"]) for each in versions] == [
        (2, 0, 0),
        (1, 1, 1),
    ]
    assert {each["recorded_by"] for each in versions} == {admin.key_id}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"rules": []}, "'rules' is not known"),
        ({"rule": {}}, "'rule' must be a list"),
        ({"rule": [{"name": "r", "when": {}, "set": {"user": "x"}}]}, "UNROLLED_TAGS names it"),
        ({"rule": [{"name": "r", "when": {}, "set": {"model": "x"}}]}, "is a fact of the call"),
    ],
)
def test_rules_that_make_no_sense_are_refused(
    client: TestClient, body: dict[str, Any], fault: str
) -> None:
    answer = client.put("/v1/tag-rules", json=body)

    assert answer.status_code == 422
    assert fault in answer.json()["detail"]


def test_history_is_attributed_again_on_approval(client: TestClient) -> None:
    client.post("/v1/events", json=make_event(tags={}, account="proj_1"))
    client.put("/v1/tag-rules", json=RULES)

    proposed = client.post("/v1/tag-rules/reattributions", json={}).json()
    assert (proposed["state"], proposed["proposed"]["usages"]) == ("proposed", 1)
    assert [(each["team"], each["effective_cost"]) for each in proposed["deltas"]] == [
        ("growth", "0.020000000"),
        ("unallocated", "-0.020000000"),
    ]
    path = f"/v1/tag-rules/reattributions/{proposed['id']}"
    applied = client.post(f"{path}/approve").json()

    assert (applied["state"], applied["applied"]) == ("applied", proposed["proposed"])
    assert client.get(path).json() == applied
    assert client.get("/v1/tag-rules/reattributions").json()["reattributions"] == [applied]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": 7}, "start must be a text"),
        ({"until": "2026-11-01T00:00:00Z"}, "unknown field 'until'"),
        ({"start": "2026-11-02T00:00:00Z", "end": "2026-11-01T00:00:00Z"}, "later than start"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(
    client: TestClient, body: dict[str, Any], fault: str
) -> None:
    answer = client.post("/v1/tag-rules/reattributions", json=body)

    assert answer.status_code == 422
    assert fault in answer.json()["detail"]


def test_a_reattribution_that_does_not_exist_is_not_found(client: TestClient) -> None:
    assert client.get("/v1/tag-rules/reattributions/7").status_code == 404
    assert client.post("/v1/tag-rules/reattributions/7/approve").status_code == 404

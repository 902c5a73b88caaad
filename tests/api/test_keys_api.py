"""``/v1/keys``: made, listed and revoked by an administrator; what a key demands is enforced."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import make_event, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DimensionSetRow


def bearer(secret: str) -> dict[str, str]:
    """Give the header that carries a key."""
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def guarded(make_client: MakeClient, services: Services) -> TestClient:
    """Give a client with an admin key, of a server that asks for one."""
    admin = create_key(
        services.database, name="admin", scopes=["admin"], pinned_tags={}, now=services.clock()
    )
    client = make_client(auth="keys", key_cache_seconds=0)
    client.headers.update(bearer(admin.secret))
    return client


def create(client: TestClient, **overrides: Any) -> dict[str, Any]:
    """Make a key for ingest and give the answer."""
    answer = client.post("/v1/keys", json={"name": "k", "scopes": ["ingest"], **overrides})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_key_is_made_listed_and_revoked(guarded: TestClient) -> None:
    made = create(guarded, pinned_tags={"team": "growth"}, trust="gateway")

    listed = guarded.get("/v1/keys").json()["keys"][-1]
    assert (listed["id"], listed["pinned_tags"]) == (made["id"], {"team": "growth"})
    assert (listed["trust"], listed["required_tags"]) == ("gateway", [])
    assert "secret" not in listed
    assert guarded.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert guarded.get("/v1/keys").json()["keys"][-1]["revoked_at"] is not None
    refused = guarded.post("/v1/events", json=[], headers=bearer(made["secret"]))
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"scopes": ["all"]}, "scope must be among"),
        ({"trust": "full"}, "trust must be caller or gateway, not 'full'"),
        ({"on_missing": "drop"}, "on_missing must be unallocated or reject"),
        ({"required_tags": ["provider"]}, "required_tags: 'provider' is no tag"),
        ({"required_tags": ["team", "team"]}, "or one twice"),
        ({"pinned_tags": {"model": "x"}}, "pinned_tags: 'model' is no tag"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"name": "a\0b"}, "NUL"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    guarded: TestClient, asked: dict[str, Any], fault: str
) -> None:
    answer = guarded.post("/v1/keys", json={"name": "k", "scopes": ["ingest"], **asked})

    assert answer.status_code == 422
    assert fault in answer.json()["detail"]


def test_only_an_administrator_sees_or_makes_keys(guarded: TestClient) -> None:
    headers = bearer(create(guarded, scopes=["read", "ingest", "quota"])["secret"])

    assert guarded.get("/v1/keys", headers=headers).status_code == 403
    assert guarded.post("/v1/keys", json={}, headers=headers).status_code == 403
    assert guarded.delete("/v1/keys/x", headers=headers).status_code == 403


def test_a_key_that_does_not_exist_is_not_found(guarded: TestClient) -> None:
    assert guarded.delete("/v1/keys/nobody").status_code == 404


def test_usage_without_a_demanded_tag_is_rejected_by_name(guarded: TestClient) -> None:
    strict = create(guarded, required_tags=["team", "tenant"], on_missing="reject")
    events = [
        make_event(tags={"tenant": "acme"}),
        make_event(event_id="e2", tags={"team": "growth"}),
        make_event(event_id="e3", tags={"team": "growth", "tenant": "acme"}),
    ]

    answer = guarded.post("/v1/events", json=events, headers=bearer(strict["secret"])).json()

    assert answer["accepted"] == 1
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (0, "tag_required"),
        (1, "tag_required"),
    ]
    assert answer["rejected"][1]["detail"] == (
        "the API key requires the tag 'tenant', and nothing gives it"
    )


def test_a_tag_that_a_rule_gives_is_not_missing(guarded: TestClient) -> None:
    strict = create(guarded, required_tags=["team"], on_missing="reject")
    rules = {"mapping": [{"match": {"account": "proj_1"}, "tags": {"team": "growth"}}]}
    assert guarded.put("/v1/tag-rules", json=rules).status_code == 200

    answer = guarded.post(
        "/v1/events", json=make_event(tags={}, account="proj_1"), headers=bearer(strict["secret"])
    ).json()

    assert (answer["accepted"], answer["rejected"]) == (1, [])


def test_usage_without_a_demanded_tag_may_count_as_unallocated(
    guarded: TestClient, database: Database
) -> None:
    lenient = create(guarded, required_tags=["team"], trust="gateway")

    answer = guarded.post(
        "/v1/events", json=make_event(tags={"tenant": "acme"}), headers=bearer(lenient["secret"])
    ).json()

    [dimensions] = rows_of(database, DimensionSetRow)
    assert answer["accepted"] == 1
    assert (dimensions["team"], dimensions["api_key"]) == ("unallocated", lenient["id"])
    assert dimensions["resolved_by"] == {"team": "unallocated", "tenant": "gateway"}

"""``/v1/owners`` over HTTP."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

ENTRIES = {
    "owner": [
        {"kind": "team", "name": "growth", "email": "ana@example.com"},
        {"kind": "feature", "name": "summarise", "parent": "growth", "valid_from": "2026-11-01"},
    ]
}


def test_applied_owners_are_listed_as_of_an_instant(client: TestClient) -> None:
    applied = client.put("/v1/owners", json=ENTRIES)

    before = client.get("/v1/owners", params={"at": "2026-10-31T23:59:59Z"})
    now = client.get("/v1/owners")

    assert applied.json() == {"created": 2, "changed": 0, "unchanged": 0}
    assert [owner["name"] for owner in before.json()["owner"]] == ["growth"]
    assert now.json()["owner"][0] == {
        "kind": "feature",
        "name": "summarise",
        "parent": "growth",
        "cost_center": None,
        "email": None,
        "lifecycle": "active",
        "valid_from": "2026-11-01T00:00:00Z",
        "valid_to": None,
    }


def test_lists_are_paged_by_link(client: TestClient) -> None:
    client.put("/v1/owners", json=ENTRIES)

    first = client.get("/v1/owners", params={"limit": 1})
    second = client.get(first.links["next"]["url"])

    assert [owner["name"] for owner in second.json()["owner"]] == ["growth"]
    assert second.json()["next"] is None


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"owner": [{"kind": "team"}]}, "owners: owner 1"),
        ({"owner": [{"kind": "feature", "name": "f", "parent": "ghosts"}]}, "parent 'ghosts'"),
        ([], "body"),
    ],
)
def test_entries_at_fault_are_a_problem_that_names_them(
    client: TestClient, document: object, named: str
) -> None:
    answer = client.put("/v1/owners", json=document)

    assert answer.status_code == 422
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    "params", [{"cursor": "x"}, {"cursor": "WyJndWlsZCIsIngiXQ"}, {"at": "now"}, {"limit": "0"}]
)
def test_parameters_at_fault_are_a_problem(client: TestClient, params: dict[str, str]) -> None:
    assert client.get("/v1/owners", params=params).status_code == 422

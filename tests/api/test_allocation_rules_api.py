"""``/v1/allocation-rules``: put whole, versioned, and shown on a month before it is closed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.allocation_ledger import fill
from tests.api.conftest import MakeClient
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key

PATH = "/v1/allocation-rules"
RULES: dict[str, Any] = {
    "tolerance": "1%",
    "pool": [{"name": "tax", "match": {"category": "tax"}, "driver": "even"}],
    "unbilled": [{"provider": "vllm"}],
}


def key_with(services: Services, scope: str) -> dict[str, str]:
    """Give the header of a new key of one scope."""
    created = create_key(
        services.database, name=scope, scopes=[scope], pinned_tags={}, now=services.clock()
    )
    return {"Authorization": f"Bearer {created.secret}"}


def test_without_rules_there_is_version_zero(client: TestClient) -> None:
    assert client.get(PATH).json() == {
        "version": 0,
        "recorded_at": None,
        "recorded_by": None,
        "tolerance": "2%",
        "pool": [],
        "commitment": [],
        "acceptance": [],
        "unbilled": [],
    }


def test_rules_are_given_back_as_they_were_put(client: TestClient) -> None:
    put = client.put(PATH, json=RULES).json()

    assert put == {
        "version": 1,
        "is_changed": True,
        "changes": [
            {"kind": "tolerance", "name": "1%", "action": "changed"},
            {"kind": "pool", "name": "tax", "action": "added"},
            {"kind": "unbilled", "name": "vllm", "action": "added"},
        ],
    }
    present = client.get(PATH).json()
    assert present["pool"][0].items() >= RULES["pool"][0].items()
    kinds = ("tolerance", "pool", "commitment", "acceptance", "unbilled")
    again = {name: present[name] for name in kinds}
    assert client.put(PATH, json=again).json()["is_changed"] is False


def test_shares_may_be_json_numbers(client: TestClient) -> None:
    rule = {"name": "x", "match": {}, "driver": "fixed", "shares": {"a": 33.3, "b": 66.7}}

    assert client.put(PATH, json={"pool": [rule]}).status_code == 200
    assert client.get(PATH).json()["pool"][0]["shares"] == {"a": "33.3", "b": "66.7"}


def test_a_dry_run_changes_nothing(client: TestClient) -> None:
    shown = client.put(PATH, params={"dry_run": True}, json=RULES).json()

    assert (shown["version"], shown["is_changed"]) == (1, True)
    assert client.get(PATH).json()["version"] == 0


def test_history_tells_how_much_each_version_says(client: TestClient) -> None:
    client.put(PATH, json=RULES)
    client.put(PATH, json={})

    [second, first] = client.get(f"{PATH}/history").json()["versions"]

    assert (second["version"], second["pool"], second["unbilled"]) == (2, 0, 0)
    assert (first["version"], first["pool"], first["acceptance"], first["unbilled"]) == (1, 1, 0, 1)


def test_a_key_of_an_unknown_name_is_refused_with_its_rule(client: TestClient) -> None:
    rule = {**RULES["pool"][0], "drivr": "even"}

    answer = client.put(PATH, json={"pool": [rule]})

    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "allocation rules: pool 1 (tax): Object contains unknown field `drivr`"
    )


def test_a_preview_shows_the_month_divided(services: Services, client: TestClient) -> None:
    fill(services.database)
    client.put(PATH, json=RULES)

    shown = client.get(f"{PATH}/preview", params={"period": "2026-09"}).json()

    assert (shown["version"], shown["total"], shown["can_close"]) == (1, "44.000000000", True)
    assert {team["team"]: team["amount"] for team in shown["teams"]} == {
        "growth": "32.000000000",
        "search": "12.000000000",
    }
    assert [(each["rule"], each["amount"]) for each in shown["pools"]] == [("tax", "4.000000000")]


@pytest.mark.parametrize("period", ["september", "2026-13", "2026-9"])
def test_a_period_is_a_month(client: TestClient, period: str) -> None:
    answer = client.get(f"{PATH}/preview", params={"period": period})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


def test_reading_needs_read_and_putting_needs_admin(
    services: Services, make_client: MakeClient
) -> None:
    client = make_client(auth="keys")
    read, admin = key_with(services, "read"), key_with(services, "admin")

    assert client.get(PATH, headers=read).status_code == 200
    assert client.put(PATH, json=RULES, headers=read).status_code == 403
    assert client.put(PATH, json=RULES, headers=admin).status_code == 200
    assert client.get(PATH, headers=read).json()["recorded_by"] is not None

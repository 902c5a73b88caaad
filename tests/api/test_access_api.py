"""Who may do what: keys, scopes, pinned tags, and how a refusal looks."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import contents, make_check, make_event, rows_of
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key, revoke
from tokenbudget.store.tables import DimensionSetRow

BUDGET = {"id": "all", "limit": "1.00", "window": "month"}
RANGE = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
LOOKUP = {"provider": "acme", "model": "plain"}
PARAMETERS = {"/v1/costs": RANGE, "/v1/prices/lookup": LOOKUP}
NAMES = {"budget_id": "all", "hold_id": "h", "rerate_id": "1", "set_aside_id": "1"}

# Every operation that needs a key, with a body it reads and the scope it demands.
PROTECTED: list[tuple[str, str, object, str]] = [
    ("POST", "/v1/events", make_event(), "ingest"),
    ("POST", "/v1/integrations/litellm", [], "ingest"),
    ("POST", "/api/v1/events", [], "ingest"),
    ("GET", "/v1/set-aside", None, "read"),
    ("POST", "/v1/set-aside/{set_aside_id}/retry", None, "admin"),
    ("POST", "/v1/quota/check", make_check(), "quota"),
    ("POST", "/v1/quota/check:batch", [make_check()], "quota"),
    ("POST", "/v1/quota/authorize", make_check(), "quota"),
    ("GET", "/v1/quota/holds/{hold_id}", None, "quota"),
    ("POST", "/v1/quota/holds/{hold_id}/release", None, "quota"),
    ("POST", "/v1/quota/holds/{hold_id}/extend", {"ttl_seconds": 9}, "quota"),
    ("GET", "/v1/costs", None, "read"),
    ("GET", "/v1/budgets", None, "read"),
    ("GET", "/v1/budgets/{budget_id}", None, "read"),
    ("GET", "/v1/budgets/{budget_id}/status", None, "read"),
    ("GET", "/v1/budgets/{budget_id}/history", None, "read"),
    ("POST", "/v1/budgets", BUDGET, "admin"),
    ("PUT", "/v1/budgets/{budget_id}", BUDGET, "admin"),
    ("POST", "/v1/budgets/replay", {}, "read"),
    ("GET", "/v1/owners", None, "read"),
    ("PUT", "/v1/owners", {"owner": []}, "admin"),
    ("GET", "/v1/prices/lookup", None, "read"),
    ("GET", "/v1/prices/rerates", None, "read"),
    ("GET", "/v1/prices/rerates/{rerate_id}", None, "read"),
    ("POST", "/v1/prices/rerates", {}, "admin"),
    ("POST", "/v1/prices/rerates/{rerate_id}/approve", None, "admin"),
    ("GET", "/v1/alerts", None, "read"),
    ("GET", "/v1/selfcheck", None, "read"),
]


@pytest.fixture
def guarded(make_client: MakeClient) -> TestClient:
    """Give a client of an application that asks for keys and remembers none."""
    return make_client(auth="keys", key_cache_seconds=0)


def new_key(services: Services, *scopes: str, pins: Mapping[str, str] | None = None) -> str:
    """Make a key and give its secret."""
    key = create_key(
        services.database, name="test", scopes=scopes, pinned_tags=pins or {}, now=services.clock()
    )
    return key.secret


def bearer(secret: str) -> dict[str, str]:
    """Give the header that carries a key."""
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_operation_demands_the_scope_that_the_document_tells(
    guarded: TestClient, services: Services
) -> None:
    secrets = {scope: new_key(services, scope) for scope in ("ingest", "quota", "read")}
    document = guarded.get("/openapi.json").json()
    told = {
        (method, path): operation["security"][0]["key"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    }

    for (method, path), [scope] in told.items():
        url = re.sub("{[a-z_]+}", "1", path)
        nobody = guarded.request(method, url, json={})
        wrong = {
            (answer.status_code, answer.json().get("scope", scope))
            for other, secret in secrets.items()
            if other != scope
            for answer in [guarded.request(method, url, json={}, headers=bearer(secret))]
        }

        assert (nobody.status_code, wrong) == (401, {(403, scope)}), (method, path)
    assert {(method.lower(), path) for method, path, _, _ in PROTECTED} <= told.keys()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("method", "path", "body", "scope"), PROTECTED)
def test_a_path_wants_a_key_with_its_scope(
    guarded: TestClient, services: Services, method: str, path: str, body: object, scope: str
) -> None:
    others = {"ingest", "quota", "read"} - {scope}
    before = contents(services.database)["usage"]

    def send(headers: Mapping[str, str]) -> Any:
        url = path.format_map(NAMES)
        params = PARAMETERS.get(path, {})
        return guarded.request(method, url, json=body, params=params, headers=headers)

    nobody = send({})
    wrong = send(bearer(new_key(services, *others)))

    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthenticated")
    assert nobody.headers["www-authenticate"] == 'Bearer, Basic realm="tokenbudget"'
    assert (wrong.status_code, wrong.json()["code"]) == (403, "forbidden")
    assert (wrong.json()["scope"], f"{scope!r}" in wrong.json()["detail"]) == (scope, True)
    assert contents(services.database)["usage"] == before

    for right in (new_key(services, scope), new_key(services, "admin")):
        assert send(bearer(right)).status_code not in (401, 403)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer tb_unknown",
        "Basic ???",
        "Basic " + base64.b64encode(b"\xff").decode(),
        "Basic " + base64.b64encode(b"user:tb_unknown").decode(),
        "Digest x",
        "tb_unknown",
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_authorization_that_is_no_known_key_is_refused(guarded: TestClient, header: str) -> None:
    answer = guarded.get("/v1/alerts", headers={"authorization": header})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert "tb_unknown" not in answer.text


def test_a_browser_may_send_the_key_as_the_password(
    guarded: TestClient, services: Services
) -> None:
    answer = guarded.get("/v1/alerts", auth=("anybody", new_key(services, "read")))

    assert answer.status_code == 200


def test_a_revoked_key_is_refused_once_the_cache_time_is_over(
    make_client: MakeClient, services: Services, clock: FrozenClock
) -> None:
    client = make_client(auth="keys", key_cache_seconds=5)
    key = create_key(services.database, name="short", scopes=["read"], pinned_tags={}, now=clock())
    client.get("/v1/alerts", headers=bearer(key.secret))

    revoke(services.database, key.key_id, now=clock())
    clock.advance(seconds=4)
    within = client.get("/v1/alerts", headers=bearer(key.secret))
    clock.advance(seconds=1)
    after = client.get("/v1/alerts", headers=bearer(key.secret))

    assert (within.status_code, after.status_code) == (200, 401)


def test_tags_pinned_by_the_key_beat_those_of_the_caller(
    guarded: TestClient, services: Services
) -> None:
    secret = new_key(services, "ingest", pins={"team": "search"})

    guarded.post("/v1/events", json=make_event(tags={"team": "growth"}), headers=bearer(secret))

    [dimensions] = rows_of(services.database, DimensionSetRow)
    assert dimensions["team"] == "search"

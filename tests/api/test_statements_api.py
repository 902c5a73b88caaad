"""``/v1/statements`` over HTTP: closing, reading, restating."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import cents, make_event, record
from tests.services.statement_cases import NOW, add_bill, set_cost_centers
from tokenbudget.bootstrap import Services
from tokenbudget.services.keys import create_key
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database

AT_ONCE = {"period": "2026-09", "grace_hours": 0}


def use(ledger: Ledger, event_id: str, team: str, count: int, **facts: Any) -> None:
    """Record so many cents of a team on the 10th of September."""
    event = {"event_id": event_id, "occurred_at": "2026-09-10T12:00:00Z", **facts}
    record(ledger, make_event(usage=cents(count), tags={"team": team}, **event))


@pytest.fixture
def september(ledger: Ledger, database: Database) -> None:
    """Give a September of 60 cents of growth and 40 of search, invoiced as metered."""
    use(ledger, "g", "growth", 60)
    use(ledger, "s", "search", 40)
    add_bill(database, "2026-09-10", 100)


def ask(client: TestClient, method: str, path: str, status: int = 200, **request: Any) -> Any:
    """Give the answer, which has this status."""
    answer = client.request(method, f"/v1/statements{path}", **request)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def closed(client: TestClient, september: None) -> Any:
    """Give September, closed."""
    return ask(client, "POST", "", 201, json=AT_ONCE)


def test_closing_makes_a_draft_with_three_days_of_grace(
    client: TestClient, september: None
) -> None:
    made = ask(client, "POST", "", 201, json={"period": "2026-09"})
    again = ask(client, "POST", "", 200, json={"period": "2026-09"})

    assert (made["state"], made["grace_ends_at"]) == ("draft", "2026-11-23T12:00:00Z")
    assert again["id"] == made["id"]
    assert [(row["team"], row["amount"]) for row in made["totals"]] == [
        ("growth", "0.600000000"),
        ("search", "0.400000000"),
    ]


def test_the_usual_grace_is_a_setting(make_client: MakeClient, september: None) -> None:
    client = make_client(statement_grace_hours=0)

    assert ask(client, "POST", "", 201, json={"period": "2026-09"})["state"] == "closed"


def test_a_refused_close_is_a_conflict_that_lists_everything(
    client: TestClient, ledger: Ledger, september: None
) -> None:
    use(ledger, "m", "growth", 5, model="stepped")
    use(ledger, "o", "growth", 7, provider="reseller")

    problem = ask(client, "POST", "", 409, json=AT_ONCE)

    assert (problem["code"], problem["period"], problem["currency"]) == (
        "conflict",
        "2026-09",
        "USD",
    )
    assert [(each["code"], each["amount"]) for each in problem["refusals"]] == [
        ("missing_bill", "-0.050000000"),
        ("missing_bill", "-0.140000000"),
    ]
    assert ask(client, "GET", "") == {"statements": [], "next": None}


@pytest.mark.parametrize(
    "body", [{}, {"period": "2026-9"}, {"period": "2026-09", "grace_hours": "0"}, {"month": 9}]
)
def test_a_body_at_fault_is_a_problem(client: TestClient, body: dict[str, Any]) -> None:
    assert ask(client, "POST", "", 422, json=body)["code"] == "invalid_input"


def test_a_statement_is_read_by_any_dimension_and_organisation(
    client: TestClient, database: Database, closed: Any
) -> None:
    set_cost_centers(database, {"growth": "CC-1"})
    path = f"/{closed['id']}"

    by_origin = ask(client, "GET", path, params={"by": "origin"})
    today = ask(client, "GET", path, params={"by": "cost_center", "organisation": "today"})

    assert [row["origin"] for row in by_origin["totals"]] == ["usage"]
    assert [(row["cost_center"], row["amount"]) for row in today["totals"]] == [
        (None, "0.400000000"),
        ("CC-1", "0.600000000"),
    ]
    assert ask(client, "GET", path, 422, params={"by": "colour"})["field"] == "by"
    assert ask(client, "GET", path, 422, params={"organisation": "x"})["field"] == "organisation"
    assert ask(client, "GET", "/nobody", 404)["code"] == "not_found"


def test_rows_are_paged_as_json_and_whole_as_csv(client: TestClient, closed: Any) -> None:
    path = f"/{closed['id']}/lines"

    first = ask(client, "GET", path, params={"limit": 1})
    rest = ask(client, "GET", path, params={"limit": 1, "cursor": first["next"]})
    text = client.get(f"/v1/statements{path}", headers={"accept": "text/csv"})

    assert [line["team"] for line in (*first["lines"], *rest["lines"])] == ["growth", "search"]
    assert (rest["lines"][0]["row_number"], rest["next"]) == (2, None)
    assert text.headers["content-type"].startswith("text/csv")
    assert [line.split(",")[3] for line in text.text.splitlines()] == ["team", "growth", "search"]
    assert ask(client, "GET", path, 422, params={"cursor": "WyJ4Il0"})["field"] == "cursor"
    assert ask(client, "GET", "/nobody/lines", 404)["code"] == "not_found"


def test_statements_are_listed_latest_first_by_pages(client: TestClient, closed: Any) -> None:
    october = ask(client, "POST", "", 201, json={**AT_ONCE, "period": "2026-10"})

    first = client.get("/v1/statements", params={"limit": 1})
    rest = ask(client, "GET", "", params={"limit": 1, "cursor": first.json()["next"]})
    of_month = ask(client, "GET", "", params={"period": "2026-09"})

    assert [each["id"] for each in first.json()["statements"]] == [october["id"]]
    assert 'rel="next"' in first.headers["link"]
    assert [each["id"] for each in rest["statements"]] == [closed["id"]]
    assert [each["id"] for each in of_month["statements"]] == [closed["id"]]


def test_the_digest_is_verified(client: TestClient, closed: Any) -> None:
    assert ask(client, "GET", f"/{closed['id']}/verification") == {
        "id": closed["id"],
        "ok": True,
        "digest": closed["digest"],
        "faults": [],
    }


def test_differences_list_what_a_later_statement_says_of_the_month(
    client: TestClient, ledger: Ledger, database: Database, closed: Any
) -> None:
    add_bill(database, "2026-09-11", 7)
    october = ask(client, "POST", "", 201, json={**AT_ONCE, "period": "2026-10"})

    found = ask(client, "GET", f"/{closed['id']}/differences")

    assert (found["as_invoiced"], found["as_incurred"]) == ("1.000000000", "1.070000000")
    assert [
        (each["statement"], each["stated_in"], each["team"], each["difference"])
        for each in found["differences"]
    ] == [(october["id"], "2026-10", "Untracked", "0.070000000")]


def test_a_restatement_is_proposed_by_one_key_and_approved_by_another(
    services: Services, make_client: MakeClient, database: Database, closed: Any
) -> None:
    client = make_client(auth="keys")
    one, other = (
        create_key(database, name=name, scopes=["admin"], pinned_tags={}, now=NOW)
        for name in ("one", "other")
    )
    add_bill(database, "2026-09-11", 7)

    def ask_as(key: Any, path: str, status: int, **request: Any) -> Any:
        headers = {"authorization": f"Bearer {key.secret}"}
        return ask(client, "POST", path, status, headers=headers, **request)

    body = {"reason": "the bill was restated"}
    proposed = ask_as(one, f"/{closed['id']}/restatements", 201, json=body)
    refused = ask_as(one, f"/{proposed['id']}/approve", 409)
    approved = ask_as(other, f"/{proposed['id']}/approve", 200)

    assert (proposed["state"], proposed["replaces"]) == ("proposed", closed["id"])
    assert proposed["changes"] == [
        {
            "team": "Untracked",
            "before": "0.000000000",
            "after": "0.070000000",
            "change": "0.070000000",
        },
        {
            "team": "growth",
            "before": "0.600000000",
            "after": "0.600000000",
            "change": "0.000000000",
        },
        {
            "team": "search",
            "before": "0.400000000",
            "after": "0.400000000",
            "change": "0.000000000",
        },
    ]
    assert refused["detail"] == "another key must approve what this key has proposed"
    assert (approved["state"], approved["recorded_by"], approved["approved_by"]) == (
        "closed",
        one.key_id,
        other.key_id,
    )


def test_a_key_that_reads_may_not_close(
    make_client: MakeClient, database: Database, september: None
) -> None:
    client = make_client(auth="keys")
    reader = create_key(database, name="r", scopes=["read"], pinned_tags={}, now=NOW)
    headers = {"authorization": f"Bearer {reader.secret}"}

    assert ask(client, "POST", "", 403, json=AT_ONCE, headers=headers)["code"] == "forbidden"
    assert ask(client, "GET", "", headers=headers)["statements"] == []


def test_billed_costs_are_answered_over_http(client: TestClient, closed: Any) -> None:
    parameters = {
        "start": "2026-09-01T00:00:00Z",
        "end": "2026-10-01T00:00:00Z",
        "group_by": "team",
        "view": "as_invoiced",
    }

    answer = client.get("/v1/costs", params=parameters)
    finer = client.get("/v1/costs", params={**parameters, "granularity": "day"})

    assert [(row["team"], row["billed_cost"], row["cost"]) for row in answer.json()["rows"]] == [
        ("growth", "0.600000000", "0.600000000"),
        ("search", "0.400000000", "0.400000000"),
    ]
    assert answer.json()["totals"]["billed_cost"] == "1.000000000"
    assert "granularity 'day' is not what statements tell" in finer.json()["detail"]

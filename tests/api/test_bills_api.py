"""``/v1/bills``: a file as the body, once each, and looking at what was imported."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tokenbudget.api import bills

BILLING = Path(__file__).parents[1] / "data" / "billing"
GOLDEN = (BILLING / "focus-1.2-llm-golden.csv").read_bytes()
AWS = (BILLING / "aws-cur2-bedrock.csv").read_bytes()
PAGE = (BILLING / "openai-costs.page1.json").read_bytes()


def send(client: TestClient, content: bytes, query: str = "", **headers: str) -> Any:
    return client.post(f"/v1/bills{query}", content=content, headers=headers)


def test_a_bill_is_imported_once_and_says_what_it_sums_to(client: TestClient) -> None:
    first = send(client, GOLDEN, "?file_name=september.csv")
    again = send(client, GOLDEN)

    assert (first.status_code, again.status_code) == (201, 200)
    answer = first.json()
    assert {name: answer[name] for name in ("source", "file_name", "lines", "is_new")} == {
        "source": "focus",
        "file_name": "september.csv",
        "lines": 10,
        "is_new": True,
    }
    assert answer["totals"] == [
        {"amount": "7.36", "currency": "EUR"},
        {"amount": "104.250831625", "currency": "USD"},
    ]
    assert (again.json()["id"], again.json()["is_new"]) == (answer["id"], False)


def test_a_compressed_body_and_a_compressed_file_are_read(client: TestClient) -> None:
    packed = gzip.compress(AWS)

    by_encoding = send(client, packed, **{"content-encoding": "gzip"})
    as_file = send(client, packed)

    assert (by_encoding.status_code, by_encoding.json()["lines"]) == (201, 14)
    assert (as_file.status_code, as_file.json()["replaced_lines"]) == (201, 14)


def test_a_part_of_a_delivery_replaces_nothing_of_its_other_parts(client: TestClient) -> None:
    lines = AWS.splitlines(keepends=True)
    first = send(client, b"".join(lines[:8])).json()

    second = send(client, b"".join([lines[0], *lines[8:]]), f"?part_of={first['id']}")

    assert second.json()["replaced_lines"] == 0
    assert client.get(f"/v1/bills/{first['id']}").json()["superseded_lines"] == 0


def test_source_and_account_may_be_named(client: TestClient) -> None:
    answer = send(client, PAGE, "?source=openai-costs&account=org-1")

    [line, *_] = client.get(f"/v1/bills/{answer.json()['id']}/lines").json()["lines"]
    assert line["account"] == "org-1"


def test_a_bad_file_is_a_problem_that_names_row_column_and_rule(client: TestClient) -> None:
    bad = GOLDEN.replace(b"2.4691340", b"free", 1)

    answer = send(client, bad, "?file_name=sept%2Fbad.csv")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "bad_file"
    assert (problem["file"], problem["row"], problem["column"], problem["rule"]) == (
        "bad.csv",
        "row 1",
        "BilledCost",
        "'free' is not a decimal number",
    )
    assert client.get("/v1/bills").json() == {"bills": [], "next": None}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?source=nobody", "invalid_input"),
        ("?file_name=..", "invalid_input"),
        ("?file_name=a%0Ab", "invalid_input"),
        ("?surprise=1", "invalid_input"),
    ],
)
def test_a_wrong_parameter_is_refused(client: TestClient, query: str, code: str) -> None:
    answer = send(client, GOLDEN, query)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_an_empty_body_and_one_beyond_the_limit_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = send(client, b"")
    monkeypatch.setattr(bills, "MAX_BILL_BYTES", 100)
    large = send(client, GOLDEN)

    assert (empty.status_code, empty.json()["code"]) == (422, "bad_file")
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_imports_and_lines_come_in_pages(client: TestClient) -> None:
    ids = [send(client, content).json()["id"] for content in (GOLDEN, AWS, PAGE)]

    seen: list[str] = []
    cursor = ""
    for _ in ids:
        answer = client.get(f"/v1/bills?limit=1{cursor}")
        page = answer.json()
        seen.extend(each["id"] for each in page["bills"])
        cursor = f"&cursor={page['next']}"
        assert ("link" in answer.headers) is (page["next"] is not None)
    lines = client.get(f"/v1/bills/{ids[0]}/lines?limit=6")
    rest = client.get(lines.links["next"]["url"]).json()

    assert sorted(seen) == sorted(ids)
    assert (len(lines.json()["lines"]), len(rest["lines"]), rest["next"]) == (6, 4, None)


def test_a_line_is_told_with_every_digit(client: TestClient) -> None:
    imported = send(client, GOLDEN).json()

    line = client.get(f"/v1/bills/{imported['id']}/lines").json()["lines"][4]

    assert line == {
        "row_number": 5,
        "folded_rows": 1,
        "provider": "anthropic",
        "account": "org-EXAMPLE2",
        "project": "wrkspc_1",
        "api_key": None,
        "model": "claude-sonnet-4",
        "usage_type": "cache_write_5m_tokens",
        "description": "claude-sonnet-4 cache_write_5m tokens",
        "category": "usage",
        "is_correction": False,
        "billing_month": "2026-09",
        "period_start": "2026-09-03T00:00:00Z",
        "period_end": "2026-09-04T00:00:00Z",
        "quantity": "70003",
        "unit": "Tokens",
        "billed_cost": "0.236260125",
        "list_cost": "0.262511250",
        "effective_cost": "0.236260125",
        "currency": "USD",
        "invoice_ref": "INV-ANT-09",
        "tags": {"team": "search", "env": "prod"},
        "superseded_by": None,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/v1/bills?limit=0",
        "/v1/bills?limit=1001",
        "/v1/bills?cursor=nonsense",
        "/v1/bills?cursor=WyJhIiwiYiJd",
        "/v1/bills/x/lines?cursor=WyJhIl0",
    ],
)
def test_a_strange_cursor_and_a_limit_out_of_bounds_are_refused(
    client: TestClient, path: str
) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("path", ["/v1/bills/nothing", "/v1/bills/nothing/lines"])
def test_an_import_that_does_not_exist_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_importing_needs_a_key(make_client: MakeClient) -> None:
    client = make_client(auth="keys")

    assert send(client, GOLDEN).status_code == 401
    assert client.get("/v1/bills").status_code == 401
    assert client.post("/v1/bills/a/withdrawal", json={"reason": "a"}).status_code == 401


def test_an_import_is_withdrawn_once_and_its_bytes_come_again(client: TestClient) -> None:
    wrong = send(client, PAGE, "?account=wrong").json()
    refused = send(client, PAGE, "?account=right")
    where = f"/v1/bills/{wrong['id']}/withdrawal"

    first = client.post(where, json={"reason": "wrong account"})
    again = client.post(where, json={"reason": "another"}).json()
    right = send(client, PAGE, "?account=right")

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (first.status_code, right.status_code) == (200, 201)
    told = first.json()
    assert (told["account"], told["withdrawal_reason"], told["lines"]) == (
        "wrong",
        "wrong account",
        17,
    )
    assert (told["withdrawn_lines"], told["restored_lines"], told["is_new"]) == (17, 0, True)
    assert told["withdrawn_at"] is not None
    assert (again["is_new"], again["withdrawal_reason"]) == (False, "wrong account")
    shown = client.get(f"/v1/bills/{right.json()['id']}").json()
    assert (shown["account"], shown["withdrawn_at"], shown["superseded_lines"]) == (
        "right",
        None,
        0,
    )


@pytest.mark.parametrize("body", [{}, {"reason": " "}, {"reason": 7}, {"reason": "a", "by": "b"}])
def test_a_withdrawal_without_a_reason_or_with_more_is_refused(
    client: TestClient, body: dict[str, object]
) -> None:
    imported = send(client, PAGE).json()

    answer = client.post(f"/v1/bills/{imported['id']}/withdrawal", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert client.get(f"/v1/bills/{imported['id']}").json()["withdrawn_at"] is None


def test_withdrawing_what_is_not_there_is_not_found(client: TestClient) -> None:
    assert client.post("/v1/bills/nothing/withdrawal", json={"reason": "a"}).status_code == 404


def test_days_under_two_names_of_an_account_are_warned_of(client: TestClient) -> None:
    first = send(client, PAGE, "?account=org-1").json()

    second = send(client, PAGE + b"\n").json()

    assert first["warnings"] == []
    [warning] = second["warnings"]
    assert warning.startswith("openai-costs: 2026-09-01 to 2026-09-0")
    assert "without an account and under 'org-1'" in warning

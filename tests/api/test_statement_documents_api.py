"""``/v1/statements/{id}/document`` over HTTP: files, their types, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import cents, make_event, record
from tests.services.statement_cases import add_bill
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database


@pytest.fixture
def statement(client: TestClient, ledger: Ledger, database: Database) -> str:
    """Give the id of a closed September of 60 cents of growth and 40 of a name in Chinese."""
    for team, count in (("growth", 60), ("小猫", 40)):
        at = "2026-09-10T12:00:00Z"
        record(
            ledger,
            make_event(event_id=team, occurred_at=at, usage=cents(count), tags={"team": team}),
        )
    add_bill(database, "2026-09-10", 100)
    closed = client.post("/v1/statements", json={"period": "2026-09", "grace_hours": 0})
    assert closed.status_code == 201, closed.text
    return str(closed.json()["id"])


def get(client: TestClient, statement: str, **query: Any) -> Any:
    """Give the answer to a request for a document."""
    return client.get(f"/v1/statements/{statement}/document", params=query)


@pytest.mark.parametrize(
    ("name", "media_type", "start"),
    [
        ("html", "text/html; charset=utf-8", b"<!doctype html>"),
        ("pdf", "application/pdf", b"%PDF-"),
        (
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            b"PK",
        ),
        ("csv", "text/csv; charset=utf-8", b"statement,period,"),
        ("gl", "text/csv; charset=utf-8", b"line,period,posting_date,"),
    ],
)
def test_each_format_has_its_media_type(
    client: TestClient, statement: str, name: str, media_type: str, start: bytes
) -> None:
    answer = get(client, statement, format=name)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.content.startswith(start)
    assert 'filename="statement-2026-09-v1.' in answer.headers["content-disposition"]


def test_a_page_may_run_and_load_nothing(client: TestClient, statement: str) -> None:
    answer = get(client, statement)

    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["content-disposition"].startswith("inline")
    assert ">1.00<" in answer.text


def test_one_team_sees_its_own_figures_only(client: TestClient, statement: str) -> None:
    answer = get(client, statement, team="growth", by="cost_center")

    assert "Team growth" in answer.text
    assert "0.60" in answer.text
    assert "0.40" not in answer.text
    assert "小猫" not in answer.text


def test_warnings_of_a_journal_are_told_in_a_header_of_ascii(
    client: TestClient, statement: str
) -> None:
    answer = get(client, statement, format="gl")

    assert json.loads(answer.headers["x-warnings"]) == [
        "team 'growth' has no cost centre",
        "team '小猫' has no cost centre",
    ]


def test_the_journal_uses_the_accounts_of_the_settings(
    make_client: MakeClient, statement: str, tmp_path: Path
) -> None:
    file = tmp_path / "gl.toml"
    file.write_text("[[expense]]\naccount = '6510'\n[[liability]]\naccount = '2110'\n")

    answer = get(make_client(gl_file=file), statement, format="gl")

    assert ",6510,0.60,," in answer.text
    assert ",2110,,1.00," in answer.text


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"format": "docx"}, 422, "invalid_input"),
        ({"by": "model"}, 422, "invalid_input"),
        ({"team": "growth", "tenant": "a"}, 422, "invalid_input"),
        ({"format": "gl", "team": "growth"}, 422, "invalid_input"),
        ({"page": "2"}, 422, "invalid_input"),
        ({"team": "nobody"}, 404, "not_found"),
    ],
)
def test_what_cannot_be_made_is_refused(
    client: TestClient, statement: str, query: dict[str, str], status: int, code: str
) -> None:
    answer = get(client, statement, **query)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_there_is_no_document_of_no_statement(client: TestClient) -> None:
    assert get(client, "nothing").status_code == 404


def test_a_document_needs_a_key_that_may_read(make_client: MakeClient, statement: str) -> None:
    assert get(make_client(auth="keys"), statement).status_code == 401

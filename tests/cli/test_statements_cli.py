"""``statements``: a month closed, shown, restated and verified from the shell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import record
from tests.cli.conftest import Command
from tests.services.statement_cases import add_bill
from tokenbudget.bootstrap import Services, make_ledger, open_services, prepare_database
from tokenbudget.settings import load_settings

DAY = "2026-01-10"


@pytest.fixture
def opened(command: Command) -> Any:
    """Give services on the data directory of the commands, with a January that is invoiced.

    OpenAI asks 1.25 dollars for a million input tokens of gpt-5, so 480,000 are 60 cents.
    """
    services = open_services(load_settings())
    prepare_database(services)
    for team, tokens in (("growth", 480_000), ("search", 320_000)):
        event = {
            "event_id": team,
            "occurred_at": f"{DAY}T12:00:00Z",
            "provider": "openai",
            "model": "gpt-5",
            "usage": {"input_tokens": tokens},
            "tags": {"team": team},
        }
        record(make_ledger(services), event)
    bill(services, 100)
    yield services
    services.database.close()


def bill(services: Services, count: int, date: str = DAY) -> None:
    """Store a bill of OpenAI of so many cents."""
    add_bill(services.database, date, count, provider="openai", model="gpt-5")


def test_a_month_is_a_draft_until_it_is_closed_without_grace(
    command: Command, opened: Services
) -> None:
    draft = command("statements", "close", "2026-01")
    shown = json.loads(command("statements", "show", "2026-01", "--json").out)
    closed = command("statements", "close", "2026-01", "--no-grace", "--json")
    listed = command("statements", "list", "--json").rows

    assert draft.code == 0
    assert "Statement of 2026-01 version 1, draft, in USD" in draft.out
    assert "A draft: it closes after " in draft.out
    assert shown["state"] == "draft"
    assert json.loads(closed.out)["state"] == "closed"
    assert [(row["team"], row["amount"]) for row in json.loads(closed.out)["totals"]] == [
        ("growth", "0.600000000"),
        ("search", "0.400000000"),
    ]
    assert [(row["period"], row["state"]) for row in listed] == [("2026-01", "closed")]
    assert "2026-01" in command("statements", "list").out


def test_a_refused_close_prints_all_that_speaks_against_it_and_exits_with_one(
    command: Command, opened: Services
) -> None:
    event = {"provider": "openai", "model": "gpt-5-mini", "usage": {"input_tokens": 1_000_000}}
    record(make_ledger(opened), {**event, "event_id": "m", "occurred_at": f"{DAY}T12:00:00Z"})

    table = command("statements", "close", "2026-01")
    rows = command("statements", "close", "2026-01", "--json")

    assert (table.code, rows.code) == (1, 1)
    assert "2026-01 cannot be closed" in table.out
    assert [row["code"] for row in rows.rows] == ["missing_bill"]
    assert command("statements", "list", "--json").rows == []


def test_other_conflicts_are_one_line(command: Command, opened: Services) -> None:
    command("statements", "close", "2026-01", "--no-grace")

    again = command("statements", "close", "2026-01")

    assert again.code == 2
    assert again.error == ("tokenbudget: 2026-01 is closed already; a restatement may change it")
    assert command("statements", "show", "2026-02").error == (
        "tokenbudget: 2026-02 has no statement"
    )
    assert "is not a month such as" in command("statements", "close", "January").error


def test_a_statement_is_shown_by_any_dimension(command: Command, opened: Services) -> None:
    command("statements", "close", "2026-01", "--no-grace")

    by = command("statements", "show", "2026-01", "--by", "model", "--organisation", "today")

    assert "gpt-5" in by.out
    assert "Total 1.000000000" in by.out


def test_the_first_statement_notes_which_months_lie_before_the_books(
    command: Command, opened: Services
) -> None:
    bill(opened, 5, "2025-12-10")

    closed = command("statements", "close", "2026-01", "--no-grace")

    assert "Note: 2025-12 was invoiced; the books begin with 2026-01" in closed.out


def test_a_restatement_is_proposed_shown_and_approved(command: Command, opened: Services) -> None:
    command("statements", "close", "2026-01", "--no-grace")
    bill(opened, 7, "2026-01-11")

    proposed = command("statements", "restate", "2026-01", "--reason", "a late bill")
    as_json = command("statements", "restate", "2026-01", "--reason", "a late bill", "--json")
    found = json.loads(as_json.out)
    approved = command("statements", "restate", "--approve", found["id"])

    assert "Proposal for 2026-01 version 2, in USD" in proposed.out
    assert f"statements restate --approve {found['id']}" in proposed.out.replace("\n", "")
    assert [row["change"] for row in found["changes"]] == [
        "0.070000000",
        "0.000000000",
        "0.000000000",
    ]
    assert "Statement of 2026-01 version 2, closed, in USD" in approved.out


def test_a_restatement_needs_a_month_and_a_reason_or_an_approval(
    command: Command, opened: Services
) -> None:
    assert "name the month and --reason" in command("statements", "restate", "2026-01").error
    mixed = command("statements", "restate", "2026-01", "--approve", "x")
    assert "it takes nothing else" in mixed.error


def test_rows_are_verified_and_tampering_exits_with_one(command: Command, opened: Services) -> None:
    command("statements", "close", "2026-01", "--no-grace")
    sound = command("statements", "verify", "2026-01")
    assert (sound.code, "2026-01 version 1 (closed) holds: " in sound.out) == (0, True)

    with opened.database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE statement_lines SET tokens = tokens + 1")

    broken = command("statements", "verify", "2026-01")
    as_json = command("statements", "verify", "2026-01", "--json")
    assert (broken.code, as_json.code) == (1, 1)
    assert "the rows have the digest " in broken.out
    assert json.loads(as_json.out)["ok"] is False

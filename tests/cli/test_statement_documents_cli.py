"""``statements export``: files of a month, their paths, and one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import record
from tests.cli.conftest import Command
from tests.services.statement_cases import add_bill
from tokenbudget.bootstrap import make_ledger, open_services, prepare_database
from tokenbudget.settings import load_settings


@pytest.fixture
def closed(command: Command) -> None:
    """Close a January of 60 cents: 480,000 input tokens of gpt-5."""
    services = open_services(load_settings())
    prepare_database(services)
    event = {
        "event_id": "e",
        "occurred_at": "2026-01-10T12:00:00Z",
        "provider": "openai",
        "model": "gpt-5",
        "usage": {"input_tokens": 480_000},
        "tags": {"team": "growth"},
    }
    record(make_ledger(services), event)
    add_bill(services.database, "2026-01-10", 60, provider="openai", model="gpt-5")
    services.database.close()
    assert command("statements", "close", "2026-01", "--no-grace").code == 0


@pytest.mark.usefixtures("closed")
def test_files_are_written_where_they_are_wanted(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"

    done = command(
        *("statements", "export", "2026-01", "--format", "csv,html,gl,xlsx,pdf"),
        *("--out", str(out), "--json"),
    )

    assert done.code == 0
    assert [Path(row["file"]).name for row in done.rows] == [
        "statement-2026-01-v1.html",
        "statement-2026-01-v1.pdf",
        "statement-2026-01-v1.xlsx",
        "statement-2026-01-v1.csv",
        "statement-2026-01-v1.gl.csv",
    ]
    assert all(Path(row["file"]).is_file() for row in done.rows)
    assert "Note: team 'growth' has no cost centre" in done.err
    assert "0.60" in (out / "statement-2026-01-v1.html").read_text("utf-8")


@pytest.mark.usefixtures("closed")
def test_each_team_gets_its_own_file(command: Command, tmp_path: Path) -> None:
    done = command(
        *("statements", "export", "2026-01", "--each", "--format", "csv"),
        *("--version", "1", "--out", str(tmp_path), "--json"),
    )

    assert [Path(row["file"]).name for row in json.loads(done.out)] == [
        "statement-2026-01-v1-team-growth.csv"
    ]


@pytest.mark.usefixtures("closed")
def test_what_cannot_be_made_is_one_line_and_no_file(command: Command, tmp_path: Path) -> None:
    done = command(
        *("statements", "export", "2026-01", "--format", "html,docx"),
        *("--out", str(tmp_path / "out")),
    )

    assert done.code == 2
    assert "format 'docx' is not one of" in done.err
    assert not (tmp_path / "out").exists()

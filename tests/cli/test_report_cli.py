"""``report weekly`` from the command line, on a data directory of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenbudget.cli import report
from tokenbudget.domain.errors import InvalidInput

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a function that runs a command line on an empty data directory."""

    def invoke(*arguments: str) -> Result:
        environment = {"TOKENBUDGET_DATA_DIR": str(tmp_path / "data")}
        return CliRunner().invoke(report.app, arguments, env=environment)

    return invoke


def test_the_report_lies_where_the_command_says(run: Run, tmp_path: Path) -> None:
    result = run("weekly", "--week", "2026-W40", "--format", "html, csv", "--json")

    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["week"], row["format"]) for row in rows] == [
        ("2026-W40", "html"),
        ("2026-W40", "csv"),
    ]
    written = tmp_path / "data" / "reports" / "weekly-2026-W40.html"
    assert rows[0]["file"] == str(written)
    assert "No usage was recorded" in written.read_text(encoding="utf-8")


def test_a_directory_and_a_team_may_be_chosen(run: Run, tmp_path: Path) -> None:
    result = run("weekly", "--team", "growth", "--out", str(tmp_path / "out"))

    assert result.exit_code == 0, result.output
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".html"]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("--week", "2026-W60"), "week '2026-W60' is not an ISO week such as 2026-W46"),
        (("--week", "2199-W01"), "week has not begun yet"),
        (("--format", "pdf"), "format 'pdf' is not one of html, csv"),
    ],
)
def test_bad_input_is_one_clear_error(run: Run, arguments: tuple[str, ...], rule: str) -> None:
    result = run("weekly", *arguments)

    assert isinstance(result.exception, InvalidInput)
    assert rule in str(result.exception)

"""``allocation apply``, ``show`` and ``preview``: rules from a file, and what they would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.allocation_ledger import fill, line
from tests.builders import contents
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services

RULES = """
[[pool]]
name = "tax"
match = { category = "tax" }
driver = "even"

[[unbilled]]
provider = "vllm"
"""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    """Give a file of a pool and a provider that never bills."""
    path = tmp_path / "allocation.toml"
    path.write_text(RULES, encoding="utf-8")
    return path


def test_a_file_is_applied_as_a_version(command: Command, rules_file: Path) -> None:
    applied = command("allocation", "apply", rules_file, "--json")
    again = command("allocation", "apply", rules_file)

    assert applied.rows == [
        {"kind": "pool", "name": "tax", "action": "added"},
        {"kind": "unbilled", "name": "vllm", "action": "added"},
    ]
    assert (again.code, "version 1 is in force and says just this" in again.out) == (0, True)


def test_a_dry_run_shows_changes_and_writes_nothing(
    command: Command, opened: Services, rules_file: Path
) -> None:
    before = contents(opened.database)

    shown = command("allocation", "apply", rules_file, "--dry-run")

    assert "Version 1 would be in force." in shown.out
    assert contents(opened.database) == before


def test_what_is_in_force_is_shown(command: Command, rules_file: Path) -> None:
    command("allocation", "apply", rules_file)

    shown = command("allocation", "show")
    rows = command("allocation", "show", "--json").rows

    assert "version 1, tolerance 2%" in shown.out
    assert "driver=even" in shown.out
    assert [(row["kind"], row.get("name")) for row in rows] == [
        ("pool", "tax"),
        ("unbilled", None),
    ]


def test_a_preview_shows_who_would_bear_what(
    command: Command, opened: Services, rules_file: Path
) -> None:
    fill(opened.database)

    present = command("allocation", "preview", "--period", "2026-09")
    drafted = command(
        "allocation", "preview", "--period", "2026-09", "--file", rules_file, "--json"
    )

    assert present.code == 0
    assert "33.000000000" in present.out
    assert "Invoiced and divided: 44.000000000 USD." in present.out
    teams = {team["team"]: team["shared"] for team in json.loads(drafted.out)["teams"]}
    assert teams == {"growth": "2.000000000", "search": "2.000000000"}


def test_a_preview_says_what_would_keep_the_month_open(command: Command, opened: Services) -> None:
    fill(opened.database, line("7", currency="XAU", model="gpt-4.1"))

    shown = command("allocation", "preview", "--period", "2026-09")

    assert "Cannot be closed: unconverted: 7.000000000 XAU invoiced in 2026-09" in shown.out


def test_a_wrong_file_is_refused_in_one_line(
    command: Command, tmp_path: Path, opened: Services
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[[pool]]\nname = "x"\nmatch = { provder = "y" }\n', encoding="utf-8")
    before = contents(opened.database)

    refused = command("allocation", "apply", path)

    assert refused.code == 2
    assert "pool 1 (x): match: 'provder' is not known" in refused.error
    assert contents(opened.database) == before


def test_a_period_must_be_a_month(command: Command) -> None:
    refused = command("allocation", "preview", "--period", "soon")

    assert (refused.code, "period 'soon' is not a month" in refused.error) == (2, True)

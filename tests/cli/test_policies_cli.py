"""``policies apply`` and ``policies show``: policies from a file, as versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import contents
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services

POLICIES = """
[classes]
small = ["*-mini"]

[[policy]]
id = "growth"
mode = "hard"
selector = { team = "growth" }
allowed_classes = ["small"]
require_owner = true

[[policy]]
id = "all"
"""


@pytest.fixture
def policies_file(tmp_path: Path) -> Path:
    """Give a file of a class and two policies."""
    path = tmp_path / "policies.toml"
    path.write_text(POLICIES, encoding="utf-8")
    return path


def test_a_file_is_applied_as_a_version(command: Command, policies_file: Path) -> None:
    applied = command("policies", "apply", policies_file, "--json")
    again = command("policies", "apply", policies_file)

    assert applied.rows == [
        {"kind": "class", "name": "small", "action": "added"},
        {"kind": "policy", "name": "growth", "action": "added"},
        {"kind": "policy", "name": "all", "action": "added"},
    ]
    assert (again.code, "version 1 is in force and says just this" in again.out) == (0, True)


def test_a_dry_run_shows_changes_and_writes_nothing(
    command: Command, opened: Services, policies_file: Path
) -> None:
    before = contents(opened.database)

    shown = command("policies", "apply", policies_file, "--dry-run")

    assert "Version 1 would be in force." in shown.out
    assert contents(opened.database) == before


def test_what_is_in_force_is_shown(command: Command, policies_file: Path) -> None:
    nothing = command("policies", "show", "--json")
    command("policies", "apply", policies_file)

    rows = command("policies", "show", "--json").rows
    table = command("policies", "show").out

    assert nothing.rows == []
    assert [(row["id"], row["mode"], row["allowed_classes"]) for row in rows] == [
        ("growth", "hard", ["small"]),
        ("all", "soft", None),
    ]
    assert "Policies, version 1" in table
    assert "everything" in table


def test_a_mistake_in_a_file_is_one_line(command: Command, policies_file: Path) -> None:
    policies_file.write_text("[[policy]]\nid = 'p'\nladder = ['gpt-*']", encoding="utf-8")

    result = command("policies", "apply", policies_file)

    assert result.code == 2
    assert "policy 1 (p): ladder: 'gpt-*' must be a model or provider/model" in result.error

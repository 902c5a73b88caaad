"""``tags apply`` and ``tags reattribute``: rules from a file, and history by them on approval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import contents, make_events
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services

RULES = """
[[mapping]]
match = { provider = "openai", account = "proj_1" }
tags = { team = "growth" }

[[rule]]
name = "acme"
when = { tenant = "acme" }
set = { team = "search" }
"""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    """Give a file of a mapping and a rule."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES, encoding="utf-8")
    return path


@pytest.fixture
def unowned(command: Command, tmp_path: Path) -> None:
    """Record three events of the tenant acme that say no team."""
    path = tmp_path / "unowned.jsonl"
    tags = {"tenant": "acme"}
    events = make_events(3, provider="openai", model="gpt-5.2", tags=tags)
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    assert command("events", "import", path).code == 0


def test_a_file_is_applied_as_a_version(command: Command, rules_file: Path) -> None:
    applied = command("tags", "apply", rules_file, "--json")
    again = command("tags", "apply", rules_file)

    assert [(row["kind"], row["name"], row["action"]) for row in applied.rows] == [
        ("mapping", "account=proj_1, provider=openai", "added"),
        ("rule", "acme", "added"),
    ]
    assert (again.code, "version 1 is in force and says just this" in again.out) == (0, True)


def test_a_dry_run_shows_changes_and_writes_nothing(
    command: Command, opened: Services, rules_file: Path
) -> None:
    before = contents(opened.database)

    shown = command("tags", "apply", rules_file, "--dry-run")

    assert "Version 1 would be in force." in shown.out
    assert contents(opened.database) == before


def test_a_mistake_in_a_file_is_one_line(command: Command, rules_file: Path) -> None:
    rules_file.write_text("[[rule]]\nname = 'x'\nwhen = {}\nset = {user = 'u'}", encoding="utf-8")

    result = command("tags", "apply", rules_file)

    assert (result.code, "UNROLLED_TAGS names it" in result.error) == (2, True)


@pytest.mark.usefixtures("unowned")
def test_history_is_shown_and_then_moved(command: Command, rules_file: Path) -> None:
    command("tags", "apply", rules_file)

    shown = command("tags", "reattribute", "--from", "2026-11-01T00:00:00Z", "--dry-run")
    approved = command("tags", "reattribute", "--approve", "1")
    again = command("tags", "reattribute")

    # Three events of 0.0175 in and 0.07 out.
    assert "3 usages that cost 0.262500000 would count elsewhere" in shown.out
    assert "tokenbudget tags reattribute --approve 1" in shown.out
    assert "3 usages that cost 0.262500000 count elsewhere now." in approved.out
    assert "All usage counts where the rules of today say." in again.out


@pytest.mark.usefixtures("unowned")
def test_differences_come_as_json_with_the_id(command: Command, rules_file: Path) -> None:
    command("tags", "apply", rules_file)

    rows = command("tags", "reattribute", "--json").rows

    assert [(row["reattribution"], row["team"], row["usages"]) for row in rows] == [
        (1, "search", 3),
        (1, "unallocated", -3),
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--approve", "7", "--from", "2026-11-01T00:00:00Z"), "it takes no other option"),
        (("--approve", "7"), "re-attribution 7 does not exist"),
        (("--from", "2026-11-01T00:00:00"), "has no UTC offset"),
    ],
)
def test_a_mistake_is_one_line(command: Command, arguments: tuple[str, ...], fault: str) -> None:
    result = command("tags", "reattribute", *arguments)

    assert (result.code, fault in result.error) == (2, True)

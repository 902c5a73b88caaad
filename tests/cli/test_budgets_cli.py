"""``budgets apply`` and ``budgets status``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import contents
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services

TOML = """
[[budget]]
id = "everything"
limit = "10.00"
window = "lifetime"
mode = "hard"

[[budget]]
id = "by-tenant"
limit = 20000
unit = "tokens"
window = "lifetime"
split_by = ["tenant"]
"""


@pytest.fixture
def budgets_file(tmp_path: Path) -> Path:
    """Give a file of two budgets."""
    path = tmp_path / "budgets.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def test_budgets_are_created_changed_and_left_alone(command: Command, budgets_file: Path) -> None:
    created = command("budgets", "apply", budgets_file, "--json")
    unchanged = command("budgets", "apply", budgets_file, "--json")
    budgets_file.write_text(TOML.replace("10.00", "12.50"), encoding="utf-8")
    changed = command("budgets", "apply", budgets_file, "--json")

    assert (created.code, unchanged.code, changed.code) == (0, 0, 0)
    assert [(row["budget"], row["action"], row["version"]) for row in created.rows] == [
        ("everything", "created", 1),
        ("by-tenant", "created", 1),
    ]
    assert [row["action"] for row in unchanged.rows] == ["unchanged", "unchanged"]
    assert [(row["action"], row["version"], row["changed"]) for row in changed.rows] == [
        ("changed", 2, "limit"),
        ("unchanged", 1, ""),
    ]


OWNERS_TOML = """
[[owner]]
kind = "team"
name = "growth"
email = "ana@example.com"

[[owner]]
kind = "feature"
name = "summarise"
parent = "growth"
"""


def test_owners_stand_in_the_same_file_and_are_applied_with_the_budgets(
    command: Command, opened: Services, budgets_file: Path
) -> None:
    budgets_file.write_text(TOML + OWNERS_TOML, encoding="utf-8")
    before = contents(opened.database)

    shown = command("budgets", "apply", budgets_file, "--dry-run")
    assert contents(opened.database) == before
    applied = command("budgets", "apply", budgets_file, "--json")
    again = command("budgets", "apply", budgets_file, "--json")

    assert "Owners that would change" in shown.out
    assert "Budgets that would change" in shown.out
    assert [(row.get("owner") or row["budget"], row["action"]) for row in applied.rows] == [
        ("team growth", "created"),
        ("feature summarise", "created"),
        ("everything", "created"),
        ("by-tenant", "created"),
    ]
    assert {row["action"] for row in again.rows} == {"unchanged"}


def test_a_bad_owner_keeps_the_budgets_of_its_file_out(
    command: Command, opened: Services, budgets_file: Path
) -> None:
    unknown = OWNERS_TOML.replace('parent = "growth"', 'parent = "ghosts"')
    budgets_file.write_text(TOML + unknown, encoding="utf-8")
    before = contents(opened.database)

    result = command("budgets", "apply", budgets_file)

    assert (result.code, "parent 'ghosts' is not a known team" in result.error) == (2, True)
    assert contents(opened.database) == before


def test_a_dry_run_says_what_would_change_and_writes_nothing(
    command: Command, opened: Services, budgets_file: Path
) -> None:
    before = contents(opened.database)

    result = command("budgets", "apply", budgets_file, "--dry-run")

    assert result.code == 0
    assert "Budgets that would change" in result.out
    assert "created" in result.out
    assert contents(opened.database) == before


def test_applying_says_how_a_budget_already_stands(
    command: Command, events_file: Path, budgets_file: Path
) -> None:
    command("events", "import", events_file)

    everything, by_tenant = command("budgets", "apply", budgets_file, "--json").rows

    # Three events of 0.0175 in and 0.07 out; 15,000 tokens each.
    assert everything["standing"] == "all: 0.262500000 of 10.000000000"
    assert by_tenant["standing"] == "acme: 45000 of 20000"


def test_the_status_shows_every_counter(
    command: Command, events_file: Path, budgets_file: Path
) -> None:
    command("budgets", "apply", budgets_file)
    command("events", "import", events_file)

    by_tenant, everything = command("budgets", "status", "--json").rows

    assert (everything["settled"], everything["headroom"]) == ("0.262500000", "9.737500000")
    assert (by_tenant["split"], by_tenant["settled"]) == ("acme", "45000")
    assert (by_tenant["held"], by_tenant["headroom"]) == ("0", "-25000")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            '"lifetime"\nmode',
            '"lifetime"\ntimezone = "Mars/Olympus"\nmode',
            "budget 1 (everything): timezone 'Mars/Olympus' is not an IANA zone",
        ),
        ("20000", "-1", "budget 2 (by-tenant): limit -1 is negative"),
        ('id = "everything"', "colour = 1", "budget 1: Object contains unknown field `colour`"),
        ("by-tenant", "everything", "budget 2: id 'everything' is used twice"),
        ("[[budget]]", "[[budget", "not TOML: "),
    ],
)
def test_a_bad_file_is_one_error_and_changes_nothing(
    command: Command, opened: Services, budgets_file: Path, old: str, new: str, fault: str
) -> None:
    budgets_file.write_text(TOML.replace(old, new), encoding="utf-8")
    before = contents(opened.database)

    result = command("budgets", "apply", budgets_file)

    assert result.code == 2
    assert result.error.startswith(f"tokenbudget: {budgets_file}: {fault}")
    assert contents(opened.database) == before


def test_a_file_that_cannot_be_read_is_one_error(command: Command, tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# caf\xe9\n")

    gone = command("budgets", "apply", tmp_path / "gone.toml")
    unreadable = command("budgets", "apply", latin)

    assert (gone.code, unreadable.code) == (2, 2)
    assert gone.error.endswith("gone.toml: cannot be read: No such file or directory")
    assert unreadable.error.endswith("latin.toml: cannot be read: it is not UTF-8")

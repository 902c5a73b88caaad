"""``budgets replay``: a table and sentences, or JSON; and one error for what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import contents
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services

TOML = """
[[budget]]
id = "everything"
limit = "0.10"
window = "month"
mode = "hard"
timezone = "Asia/Tokyo"

[[budget]]
id = "by-tenant"
limit = 40000
unit = "tokens"
window = "day"
split_by = ["tenant", "feature"]

[[owner]]
kind = "team"
name = "growth"
email = "ana@example.com"
"""
NOVEMBER = ("--from", "2026-11-01", "--to", "2026-12-01")


@pytest.fixture
def budgets_file(tmp_path: Path) -> Path:
    """Give a file of two budgets and an owner."""
    path = tmp_path / "budgets.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def test_a_replay_is_a_table_and_sentences(
    command: Command, opened: Services, events_file: Path, budgets_file: Path
) -> None:
    command("events", "import", events_file)
    before = contents(opened.database)

    result = command("budgets", "replay", budgets_file, *NOVEMBER)

    # Three calls of 0.0875 and 15,000 tokens each, at noon: one fits into the ten cents.
    *table, everything, by_tenant, together = result.out.splitlines()
    assert result.code == 0
    assert any("everything" in line and "hard" in line and "$0.18" in line for line in table)
    assert everything == (
        "Budget everything would have denied 2 of 3 calls, first on 20 Nov 2026, 21:00 Asia/Tokyo, "
        "$0.18 saved."
    )
    assert by_tenant == "Budget by-tenant would have warned of none of 3 calls."
    assert together == (
        "Together they would have denied 2 of 3 calls, first on 20 Nov 2026, 12:00 UTC, "
        "$0.18 saved."
    )
    assert contents(opened.database) == before


def test_a_table_names_the_worst_split(
    command: Command, events_file: Path, budgets_file: Path
) -> None:
    command("events", "import", events_file)
    budgets_file.write_text(TOML.replace("0.10", "9.00").replace("40000", "29999"))

    result = command("budgets", "replay", budgets_file, *NOVEMBER)

    [row] = [line for line in result.out.splitlines() if "by-tenant" in line and "soft" in line]
    assert "acme/summarise" in row


def test_json_is_the_answer_of_the_api(
    command: Command, events_file: Path, budgets_file: Path
) -> None:
    command("events", "import", events_file)

    told = json.loads(command("budgets", "replay", budgets_file, *NOVEMBER, "--json").out)

    assert (told["from"], told["to"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (told["seen"]["calls"], told["denied"]["calls"]) == (3, 2)
    assert told["saved"] == "0.175000000"
    assert [each["budget"] for each in told["budgets"]] == ["everything", "by-tenant"]


def test_days_are_those_of_the_service(
    command: Command, events_file: Path, budgets_file: Path
) -> None:
    command("events", "import", events_file)
    day = ("--from", "2026-11-20", "--to", "2026-11-21", "--json")

    told = json.loads(
        command("budgets", "replay", budgets_file, *day, timezone="Pacific/Kiritimati").out
    )

    # There the twentieth ends at ten in the morning.
    assert told["to"] == "2026-11-20T10:00:00Z"
    assert told["seen"]["calls"] == 0


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Asia/Tokyo", "Mars/Olympus", "budget 1 (everything): timezone 'Mars/Olympus' is not"),
        ('"0.10"', '"-0.10"', "budget 1 (everything): limit -0.10 is negative"),
        ("[[budget]]", "[[budget", "not TOML: "),
        (TOML, "", "holds no [[budget]] table"),
    ],
)
def test_a_bad_file_is_one_error(
    command: Command, budgets_file: Path, old: str, new: str, fault: str
) -> None:
    budgets_file.write_text(TOML.replace(old, new), encoding="utf-8")

    result = command("budgets", "replay", budgets_file, *NOVEMBER)

    assert result.code == 2
    assert result.error.startswith(f"tokenbudget: {budgets_file}: {fault}")


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [
        ("2026-12-02", "2026-12-01", "to 2026-12-01 must be after from 2026-12-02"),
        ("9 November", "2026-12-01", "from '9 November' is not an RFC 3339 time"),
        ("2026-11-01T00:01:00Z", "2026-12-01", "from 2026-11-01T00:01:00Z must lie on a quarter"),
    ],
)
def test_a_bad_period_is_one_error(
    command: Command, budgets_file: Path, start: str, end: str, fault: str
) -> None:
    result = command("budgets", "replay", budgets_file, "--from", start, "--to", end)

    assert result.code == 2
    assert result.error.startswith(f"tokenbudget: {fault}")


def test_a_file_that_cannot_be_read_is_one_error(command: Command, tmp_path: Path) -> None:
    gone = command("budgets", "replay", tmp_path / "gone.toml", *NOVEMBER)

    assert gone.code == 2
    assert gone.error.endswith("gone.toml: cannot be read: No such file or directory")


def test_a_tag_that_is_not_rolled_up_is_one_error(command: Command, budgets_file: Path) -> None:
    budgets_file.write_text(TOML.replace('"tenant"', '"user"'), encoding="utf-8")

    result = command("budgets", "replay", budgets_file, *NOVEMBER)

    assert result.code == 2
    assert "budget 'by-tenant': 'user' cannot be counted by" in result.error

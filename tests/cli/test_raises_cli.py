"""``budgets raise``, ``raises`` and ``end-raise``, and what ``apply`` warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command

TOML = """
[[budget]]
id = "all"
limit = "10.00"
window = "month"
rollover = { max_carry = "5.00" }

[[budget]]
id = "child"
limit = "12.00"
window = "month"
selector = { team = "growth" }
"""


@pytest.fixture
def budgets_file(tmp_path: Path) -> Path:
    """Give a file of a parent and a child that exceeds it."""
    path = tmp_path / "budgets.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def test_children_that_exceed_their_parent_are_warned_of_and_refused_if_strict(
    command: Command, budgets_file: Path
) -> None:
    strict = command("budgets", "apply", budgets_file, "--strict")
    shown = command("budgets", "apply", budgets_file, "--dry-run")
    applied = command("budgets", "apply", budgets_file, "--json")

    sentence = "child allows 12.000000000, more than the 10.000000000 of their parent all"
    assert strict.code == 2
    assert sentence in strict.error
    assert f"Warning: {sentence}." in " ".join(shown.out.split())
    assert [row["warnings"] for row in applied.rows] == [[sentence], [sentence]]


def test_a_raise_is_shown_in_the_status_until_it_is_ended(
    command: Command, budgets_file: Path
) -> None:
    command("budgets", "apply", budgets_file)

    made = command(
        "budgets", "raise", "all", "2.50", "--until", "2999-01-01T00:00:00Z",
        "--reason", "the launch", "--json",
    )  # fmt: skip
    [row] = made.rows
    status = command("budgets", "status", "--json")
    ended = command("budgets", "end-raise", "all", row["id"], "--json")
    listed = command("budgets", "raises", "all", "--json")

    assert (made.code, row["amount"], row["in_force"]) == (0, "2.500000000", True)
    standing = {each["budget"]: each for each in status.rows}["all"]
    assert (standing["raised"], standing["headroom"]) == ("2.500000000", "12.500000000")
    assert standing["carry"] == "0.000000000"
    assert ended.rows[0]["in_force"] is False
    assert listed.rows == ended.rows


def test_a_raise_that_cannot_be_is_one_line_that_names_the_rule(
    command: Command, budgets_file: Path
) -> None:
    command("budgets", "apply", budgets_file)

    over = command(
        "budgets", "raise", "all", "1", "--until", "2020-01-01T00:00:00Z", "--reason", "late"
    )
    unknown = command(
        "budgets", "raise", "none", "1", "--until", "2999-01-01T00:00:00Z", "--reason", "why"
    )

    assert (over.code, unknown.code) == (2, 2)
    assert "valid_to must be in the future" in over.error
    assert "'none' does not exist" in unknown.error

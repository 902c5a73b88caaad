"""The command that compares the book that ships with sources of prices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tokenbudget.cli import prices
from tokenbudget.domain.errors import Conflict
from tokenbudget.settings import packaged_path

FILE = """\
schema = 1
provider = "openai"
src = "genai-prices 9.9"
[model."gpt-4o"]
match = ["gpt-4o"]
price = [{ input = 0.01, output = 10 }]
"""

app = typer.Typer()
app.add_typer(prices.app, name="prices")


def run(*arguments: str) -> tuple[int, str, str]:
    """Give exit code, standard output and standard error; product errors are raised."""
    result = CliRunner().invoke(app, ["prices", "sync", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def shipped() -> dict[str, bytes]:
    """Give the content of every file of the book that ships."""
    return {path.name: path.read_bytes() for path in packaged_path("pricing").glob("*.toml")}


@pytest.fixture
def changed(tmp_path: Path) -> str:
    """Give the path of a price file that says otherwise than the book."""
    (tmp_path / "openai.toml").write_text(FILE, encoding="utf-8")
    return str(tmp_path / "openai.toml")


def test_the_book_that_ships_has_nothing_to_decide() -> None:
    code, printed, told = run("--check")

    assert code == 0
    assert "0 differences from genai-prices 0.2.3 to decide" in printed
    assert "Differences on purpose" in printed
    assert "perplexity sonar-deep-research: output_citation_mtok left out, no unit of ours" in told


def test_each_difference_on_purpose_says_why() -> None:
    _, printed, _ = run("--json")

    rows = json.loads(printed)
    deepseek = [row for row in rows if row["provider"] == "deepseek"]
    assert {row["kind"] for row in rows} == {"pinned", "only_here"}
    assert all(row["reason"] for row in rows)
    assert {row["model"] for row in deepseek} == {
        "deepseek-chat",
        "deepseek-flash",
        "deepseek-reasoner",
        "deepseek-v4-flash",
        "deepseek-v4-pro",
    }


def test_writing_a_book_that_is_in_step_changes_no_byte() -> None:
    before = shipped()

    code, _, told = run("--write")

    assert code == 0
    assert told.endswith("written: nothing\n")
    assert shipped() == before


def test_a_difference_is_shown_and_fails_the_check(changed: str) -> None:
    arguments = ("--source", "file", "--path", changed, "--provider", "openai")

    shown, printed, told = run(*arguments)
    checked, _, _ = run(*arguments, "--check")
    _, as_json, _ = run(*arguments, "--json")

    rows = [row for row in json.loads(as_json) if row["model"] == "gpt-4o" and row["prices"]]
    assert (shown, checked) == (0, 1)
    assert "changed_rate" in printed
    assert "alarm: openai gpt-4o: input_tokens moves by more than 10 times" in told
    assert rows[0]["prices"].startswith("input 2.5 -> 0.01")


def test_a_file_that_agrees_leaves_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text(FILE.partition("[model")[0], encoding="utf-8")

    code, printed, _ = run(
        "--source", "file", "--path", str(tmp_path / "empty.toml"), "--provider", "cohere"
    )

    assert (code, printed) == (0, "0 differences from empty.toml to decide\n")


def test_an_alarming_difference_is_not_written_without_force(changed: str) -> None:
    before = shipped()

    with pytest.raises(Conflict, match="nothing was written, --force is needed"):
        run("--source", "file", "--path", changed, "--write")

    assert shipped() == before

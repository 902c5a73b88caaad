"""``bills import`` from the command line, on a data directory of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenbudget.cli import app
from tokenbudget.domain.errors import BadFile, Conflict, InvalidInput, NotFound

BILLING = Path(__file__).parents[1] / "data" / "billing"
PAGE_1 = str(BILLING / "openai-costs.page1.json")
GOLDEN = str(BILLING / "focus-1.2-llm-golden.csv")

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a function that runs a command line on an empty data directory."""

    def invoke(*arguments: str) -> Result:
        environment = {"TOKENBUDGET_DATA_DIR": str(tmp_path)}
        return CliRunner().invoke(app, arguments, env=environment)

    return invoke


def test_an_import_prints_one_row_a_file_with_exact_totals(run: Run) -> None:
    result = run("bills", "import", PAGE_1, GOLDEN, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "file": "openai-costs.page1.json",
            "source": "openai-costs",
            "outcome": "imported",
            "lines": 17,
            "superseded_lines": 0,
            "total_amount": {"USD": "15.969322500"},
        },
        {
            "file": "focus-1.2-llm-golden.csv",
            "source": "focus",
            "outcome": "imported",
            "lines": 10,
            "superseded_lines": 0,
            "total_amount": {"EUR": "7.360000000", "USD": "104.250831625"},
        },
    ]


def test_an_import_again_says_so_in_the_table(run: Run) -> None:
    run("bills", "import", PAGE_1)

    again = run("bills", "import", PAGE_1)

    assert again.exit_code == 0
    assert "already" in again.stdout


def test_a_bad_file_and_a_wrong_source_are_errors_with_exit_code_2(run: Run) -> None:
    bad = run("bills", "import", str(BILLING / "focus-1.2-llm-invalid.csv"))
    wrong = run("bills", "import", PAGE_1, "--source", "aws")

    assert isinstance(bad.exception, BadFile)
    assert isinstance(wrong.exception, InvalidInput)
    assert bad.exception.exit_code == wrong.exception.exit_code == 2


def test_what_was_imported_is_listed_with_what_was_superseded(run: Run) -> None:
    run("bills", "import", PAGE_1)
    run("bills", "import", str(BILLING / "openai-costs.restated-day2.json"))

    listed = run("bills", "list", "--json")
    table = run("bills", "list", "--limit", "1")

    rows = {row["file_name"]: row for row in json.loads(listed.stdout)}
    assert (rows["openai-costs.page1.json"]["lines"], table.exit_code) == (17, 0)
    assert rows["openai-costs.page1.json"]["superseded_lines"] == 8
    assert rows["openai-costs.restated-day2.json"]["superseded_lines"] == 0


def test_parts_of_a_delivery_are_imported_together(run: Run, tmp_path: Path) -> None:
    lines = (BILLING / "aws-cur2-bedrock.csv").read_text().splitlines(keepends=True)
    parts = [tmp_path / f"part-{number}.csv" for number in (1, 2)]
    parts[0].write_text("".join(lines[:8]))
    parts[1].write_text("".join([lines[0], *lines[8:]]))
    files = [str(part) for part in parts]

    guessed = run("bills", "import", *files)
    told = run("bills", "import", *files, "--delivery", "--json")

    assert isinstance(guessed.exception, BadFile)
    assert [row["lines"] for row in json.loads(told.stdout)] == [7, 7]
    assert [row["superseded_lines"] for row in json.loads(told.stdout)] == [0, 0]


def test_an_import_is_withdrawn_and_the_file_comes_again_under_its_account(run: Run) -> None:
    run("bills", "import", PAGE_1, "--account", "wrong")
    [listed] = json.loads(run("bills", "list", "--json").stdout)
    refused = run("bills", "import", PAGE_1, "--account", "right")
    withdrawal = ("bills", "withdraw", listed["id"], "--reason", "wrong account", "--json")

    first, again = run(*withdrawal), run(*withdrawal)
    right = run("bills", "import", PAGE_1, "--account", "right", "--json")

    assert isinstance(refused.exception, Conflict)
    assert f"bills withdraw {listed['id']}" in str(refused.exception)
    assert json.loads(first.stdout) == [
        {"id": listed["id"], "outcome": "withdrawn", "withdrawn_lines": 17, "restored_lines": 0}
    ]
    assert json.loads(again.stdout)[0]["outcome"] == "already withdrawn"
    assert json.loads(right.stdout)[0]["outcome"] == "imported"
    rows = {row["id"]: row for row in json.loads(run("bills", "list", "--json").stdout)}
    assert (rows[listed["id"]]["withdrawal_reason"], len(rows)) == ("wrong account", 2)


def test_withdrawing_what_is_not_there_is_an_error(run: Run) -> None:
    result = run("bills", "withdraw", "nothing", "--reason", "a")

    assert isinstance(result.exception, NotFound)


def test_days_under_two_names_of_an_account_are_warned_of(run: Run, tmp_path: Path) -> None:
    run("bills", "import", PAGE_1, "--account", "org-1")
    again = tmp_path / "again.json"
    again.write_bytes(Path(PAGE_1).read_bytes() + b"\n")

    result = run("bills", "import", str(again))

    assert result.exit_code == 0
    assert "\nwarning: openai-costs: 2026-09-01 to " in result.stderr
    assert "without an account and under 'org-1'" in result.stderr

"""``demo --no-serve``, really run: traffic in; tables, a report and a consistent ledger out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Ran, run_process

LEAST_EVENTS = 100_000
TEAMS = 6


@dataclass(frozen=True)
class Demo:
    """A demo that ran, and the directory it made."""

    ran: Ran
    directory: Path

    def table(self, title: str) -> list[list[str]]:
        """Give the cells of a printed table, without its header."""
        lines = [line.rstrip() for line in self.ran.out.splitlines()]
        below = takewhile(lambda line: not line.startswith("└"), lines[lines.index(title) :])
        rows = [line.strip("│") for line in below if line.startswith("│")]
        return [[cell.strip() for cell in row.split("│")] for row in rows]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Give a demo that was run in an empty directory."""
    directory = tmp_path_factory.mktemp("demo") / "data"
    return Demo(run_process("demo", "--no-serve", "--data-dir", directory), directory)


def test_the_demo_ends_well_and_prints_where_the_money_went(demo: Demo) -> None:
    teams = demo.table("Where the money went, by team")
    features = demo.table("Where the money went, by feature")

    requests = int(teams[-1][1].replace(",", ""))
    assert demo.ran.code == 0, demo.ran.err
    assert len(teams) >= TEAMS
    assert teams[-1][0] == features[-1][0] == "all"
    assert requests >= LEAST_EVENTS


def test_the_parts_shown_add_to_the_total_shown(demo: Demo) -> None:
    for title in ("Where the money went, by team", "Where the money went, by feature"):
        *parts, total = [_cents(row[3]) for row in demo.table(title)]

        assert sum(parts) == total > 0


def test_a_budget_is_exceeded_and_fired_and_another_is_forecast_to_be(demo: Demo) -> None:
    budgets = {row[0]: row for row in demo.table("Budgets")}
    fired = {(row[0], row[2]) for row in demo.table("Budgets that fired")}

    limit, headroom, forecast = (_cents(budgets["document-chat-pilot"][at]) for at in (3, 8, 9))
    assert _cents(budgets["support-launch"][8]) < 0
    assert ("support-launch", "100%") in fired
    assert headroom > 0
    assert forecast > limit
    assert ("document-chat-pilot", "100%") not in fired


def test_the_report_is_where_it_is_said_to_be(demo: Demo) -> None:
    [named] = re.findall(r"^Weekly report: (.+)$", demo.ran.out, re.MULTILINE)

    text = Path(named).read_text(encoding="utf-8")
    assert Path(named).parent == demo.directory / "reports"
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "<svg" in text


def test_it_is_said_what_is_real_and_where_the_page_is(demo: Demo) -> None:
    assert "made up" in demo.ran.out
    assert "http://127.0.0.1:8000" in demo.ran.out


def test_the_ledger_of_the_demo_is_consistent(demo: Demo, command: Command) -> None:
    result = command("selfcheck", "--json", data_dir=str(demo.directory))

    assert result.code == 0
    assert {row["ok"] for row in result.rows} == {"yes"}
    assert all(row["checked"] for row in result.rows[:4])


def test_a_second_run_empties_the_directory_and_does_it_again(demo: Demo) -> None:
    left_over = demo.directory / "left-over"
    left_over.touch()

    again = run_process("demo", "--no-serve", "--data-dir", demo.directory)

    first = demo.table("Where the money went, by team")[-1][1]
    assert again.code == 0
    assert not left_over.exists()
    assert Demo(again, demo.directory).table("Where the money went, by team")[-1][1] == first


def test_somebody_else_s_directory_is_refused_and_left_alone(
    command: Command, tmp_path: Path
) -> None:
    directory = tmp_path / "somebody's"
    directory.mkdir()
    (directory / "precious.txt").write_text("keep", encoding="utf-8")

    result = command("demo", "--no-serve", "--data-dir", directory)

    assert (result.code, result.error) == (
        2,
        f"tokenbudget: {directory} is not empty and was not made by the demo",
    )
    assert [path.name for path in directory.iterdir()] == ["precious.txt"]


def test_a_directory_that_cannot_be_made_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = command("demo", "--no-serve", "--data-dir", tmp_path / "file" / "demo")

    assert result.code == 2
    assert "cannot be written: Not a directory" in result.error


def _cents(text: str) -> int:
    return int(re.sub(r"[^\d-]", "", text.replace("−", "-")))

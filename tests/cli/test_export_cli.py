"""``tokenbudget export focus``: a file, a line about it, and one line where there is none."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Command

DAYS = ("--from", "2026-11-20", "--to", "2026-11-21")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_written_and_described(
    command: Command, events_file: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / f"focus.{kind}"
    assert command("events", "import", events_file).code == 0

    ran = command("export", "focus", *DAYS, "--out", out, "--json")

    assert ran.code == 0
    [row] = ran.rows
    frame = pl.read_csv(out, infer_schema=False) if kind == "csv" else pl.read_parquet(out)
    assert row == {
        "file": str(out),
        "version": "1.2",
        "rows": frame.height,
        "billed_cost_is": "expected",
        "unpriced_requests": 0,
    }
    assert set(frame["ProviderName"]) == {"OpenAI"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "2026-11-20", "--to", "2026-11-20"), "must come after"),
        (("--from", "2026-11-01", "--to", "2026-11-02"), "nothing was used or invoiced"),
        ((*DAYS, "--version", "1.1"), "version '1.1' is not one of 1.2, 1.3, 1.4"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "focus.csv"

    ran = command("export", "focus", *arguments, "--out", out)

    assert ran.code == 2
    assert words in ran.err.splitlines()[-1]
    assert not out.exists()


def test_a_file_with_another_ending_is_refused(command: Command, tmp_path: Path) -> None:
    ran = command("export", "focus", *DAYS, "--out", tmp_path / "focus.xlsx")

    assert (ran.code, ran.error) == (
        2,
        "tokenbudget: 'focus.xlsx' must end with .csv or .parquet",
    )

"""``events import``: three formats, standard input, duplicates, and rows at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.builders import broken_rules, contents, make_event, make_events, rows_of
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services
from tokenbudget.store.tables import ChargeRow, UsageRow

PRICED: dict[str, Any] = {"provider": "openai", "model": "gpt-5.2"}
# 10,000 tokens in at 1.75 dollars a million and 5,000 out at 14.
COST_NANOS = 17_500_000 + 70_000_000


def outcome(file: Path | str, *, accepted: int = 0, **counts: int) -> dict[str, Any]:
    """Give the row that the command prints for a file."""
    usual = {"file": str(file), "accepted": accepted, "duplicates": 0, "unpriced": 0, "rejected": 0}
    return {**usual, **counts}


def flatten(event: dict[str, Any]) -> dict[str, Any]:
    """Give an event as the row of a table."""
    fields = {name: value for name, value in event.items() if not isinstance(value, dict)}
    return {
        **fields,
        **event["usage"],
        **{f"tags.{name}": tag for name, tag in event["tags"].items()},
    }


def write_as(suffix: str, events: list[dict[str, Any]], directory: Path) -> Path:
    """Write the events in the format of the suffix and give the file."""
    path = directory / f"events{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        return path
    frame = pl.DataFrame([flatten(event) for event in events])
    if suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_of_any_format_is_imported_once(
    command: Command, opened: Services, tmp_path: Path, suffix: str
) -> None:
    path = write_as(suffix, make_events(3, **PRICED), tmp_path)

    first = command("events", "import", path, "--json")
    again = command("events", "import", path, "--json")

    assert (first.code, first.rows) == (0, [outcome(path, accepted=3)])
    assert (again.code, again.rows) == (0, [outcome(path, duplicates=3)])
    charges = rows_of(opened.database, ChargeRow)
    assert [row["effective_nanos"] for row in charges] == [COST_NANOS] * 3
    assert broken_rules(opened.database) == []


def test_the_same_rows_in_three_formats_are_counted_once(
    command: Command, opened: Services, tmp_path: Path
) -> None:
    events = make_events(2, **PRICED)
    files = [write_as(suffix, events, tmp_path) for suffix in (".csv", ".parquet", ".jsonl")]

    result = command("events", "import", *files, "--json")

    assert result.code == 0
    assert [(row["accepted"], row["duplicates"]) for row in result.rows] == [(2, 0), (0, 2), (0, 2)]
    assert len(rows_of(opened.database, UsageRow)) == 2


def test_standard_input_is_imported(command: Command) -> None:
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in make_events(2, **PRICED))

    result = command("events", "import", "-", "--json", stdin=lines)

    assert (result.code, result.rows) == (0, [outcome("stdin", accepted=2)])


def test_rows_at_fault_are_named_and_the_others_kept(
    command: Command, opened: Services, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    bad = {**make_event(event_id="bad"), "usage": {"input_tokens": -1}}
    lines = [json.dumps(make_event()), "", "{", json.dumps(bad)]
    path.write_text("\n".join(lines), encoding="utf-8")

    result = command("events", "import", path, "--json")

    assert (result.code, result.rows) == (1, [outcome(path, accepted=1, unpriced=1, rejected=2)])
    assert f"{path}: row 3: malformed_json: " in result.err
    assert f"{path}: row 4: usage_negative: input_tokens -1 is negative" in result.err
    assert len(rows_of(opened.database, UsageRow)) == 1


def test_only_the_first_faults_are_shown(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{\n" * 50, encoding="utf-8")

    result = command("events", "import", path)

    assert result.code == 1
    assert result.err.count("malformed_json") == 20
    assert "50" in result.out


def test_a_table_without_a_needed_column_is_refused_whole(
    command: Command, opened: Services, tmp_path: Path
) -> None:
    path = tmp_path / "events.csv"
    path.write_text("event_id,provider,model,input_tokens\ne1,openai,gpt-5.2,5\n", encoding="utf-8")
    before = contents(opened.database)

    result = command("events", "import", path)

    assert result.code == 2
    assert f"tokenbudget: {path}: row 1: column 'occurred_at' is missing" in result.err
    assert "Traceback" not in result.err
    assert contents(opened.database) == before


@pytest.mark.parametrize(
    ("name", "fault"),
    [("gone.jsonl", "cannot be read: No such file"), ("events.xlsx", "the suffix must be .jsonl")],
)
def test_a_file_that_cannot_be_read_is_one_error(
    command: Command, tmp_path: Path, name: str, fault: str
) -> None:
    result = command("events", "import", tmp_path / name)

    assert result.code == 2
    assert f"tokenbudget: {tmp_path / name}: {fault}" in result.err.splitlines()[-1]
    assert result.out == ""

"""``events import``: three formats, standard input, duplicates, and rows at fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.builders import broken_rules, contents, make_event, make_events, rows_of
from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Conflict
from tokenbudget.formats import event_files
from tokenbudget.formats.events import Door
from tokenbudget.services.bulk_import import EventImport, KeepFaults
from tokenbudget.services.piece_reading import PreparedPiece
from tokenbudget.store.tables import ChargeRow, SourceRow, UsageRow

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


def fault_lines(directory: Path) -> list[dict[str, Any]]:
    """Give what the one side file in a directory tells."""
    [path] = directory.iterdir()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_at_fault_go_to_a_side_file_with_the_reasons(command: Command, tmp_path: Path) -> None:
    bad = {**make_event(event_id="bad"), "usage": {"input_tokens": -1}}
    path = tmp_path / "events.jsonl"
    lines = ["{", json.dumps(make_event()), json.dumps(bad)]
    path.write_text("\n".join(lines), encoding="utf-8")

    result = command("events", "import", path, "--errors", tmp_path / "faults")

    assert result.code == 1
    first, second = fault_lines(tmp_path / "faults")
    assert (first["row"], first["code"], first["content"]) == (1, "malformed_json", "{")
    assert second == {
        "row": 3,
        "event_id": "bad",
        "code": "usage_negative",
        "detail": "input_tokens -1 is negative",
        "content": json.dumps(bad),
    }


def test_a_file_without_faults_leaves_no_side_file(
    command: Command, tmp_path: Path, events_file: Path
) -> None:
    result = command("events", "import", events_file, "--errors", tmp_path / "faults")

    assert result.code == 0
    assert list((tmp_path / "faults").iterdir()) == []


def test_a_side_file_that_cannot_be_written_is_one_error(
    command: Command, tmp_path: Path, events_file: Path
) -> None:
    (tmp_path / "faults").write_text("a file", encoding="utf-8")

    result = command("events", "import", events_file, "--errors", tmp_path / "faults")

    assert result.code == 2
    assert "cannot be written" in result.err.splitlines()[-1]


def test_an_interrupted_import_goes_on_and_tells_each_fault_once(
    command: Command, opened: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 2)
    path = tmp_path / "events.jsonl"
    good = [json.dumps(event) for event in make_events(4, **PRICED)]
    path.write_text("\n".join([good[0], "{", good[1], "[", *good[2:]]), encoding="utf-8")
    arguments = ("events", "import", path, "--errors", tmp_path / "faults", "--json")

    with monkeypatch.context() as broken:
        broken.setattr(EventImport, "record", failing_after(2))
        first = command(*arguments)
    second = command(*arguments)

    assert first.code == 2
    assert f"{path}: going on after row 2" in second.err
    # What was in when the power went off is a duplicate now.
    assert (second.code, second.rows) == (
        1,
        [outcome(path, accepted=3, duplicates=1, rejected=2)],
    )
    assert [fault["row"] for fault in fault_lines(tmp_path / "faults")] == [2, 4]
    assert len(rows_of(opened.database, UsageRow)) == 4


def failing_after(pieces: int) -> Callable[..., None]:
    """Give a way of recording that fails at that piece, when its faults are already told."""
    real = EventImport.record
    calls = count(1)

    def record(
        self: EventImport, prepared: PreparedPiece, door: Door, keep_faults: KeepFaults
    ) -> None:
        if next(calls) < pieces:
            real(self, prepared, door, keep_faults)
            return
        real(EventImport(self.ledger), prepared, door, keep_faults)
        raise Conflict("the power went off")

    return record


def test_rows_that_name_no_source_get_the_one_that_is_told(
    command: Command, opened: Services, tmp_path: Path
) -> None:
    path = tmp_path / "events.csv"
    row = "2026-11-20T12:00:00Z,openai,gpt-5.2,5"
    path.write_text(
        f"event_id,source,occurred_at,provider,model,input_tokens\na,,{row}\nb,other,{row}\n",
        encoding="utf-8",
    )

    command("events", "import", path, "--source", "proxy-log")

    assert sorted(row["name"] for row in rows_of(opened.database, SourceRow)) == [
        "other",
        "proxy-log",
    ]


MAPPING = """
[event]
event_id = { template = "{id}" }
occurred_at = { column = "ts", unit = "ms" }
provider = { constant = "openai" }
model = { column = "engine", default = "gpt-5.2" }
latency_ms = { column = "seconds", unit = "s" }

[usage]
input_tokens = { sum = ["fresh", "cached"] }
cached_input_tokens = "cached"
output_tokens = "answer"

[tags]
team = "department"
environment = { constant = "prod" }
"""
FOREIGN_ROWS = [
    {"id": "a", "ts": 1763640000000, "engine": "gpt-5.2", "seconds": 0.812, "fresh": 8000,
     "cached": 2000, "answer": 100, "department": "growth"},
    {"id": "b", "ts": 1763640000250, "engine": None, "seconds": 1, "fresh": 10, "cached": None,
     "answer": 5, "department": None},
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_foreign_log_is_imported_by_a_mapping(
    command: Command, opened: Services, tmp_path: Path, suffix: str
) -> None:
    mapping, path = tmp_path / "mapping.toml", tmp_path / f"log{suffix}"
    mapping.write_text(MAPPING, encoding="utf-8")
    frame = pl.DataFrame(FOREIGN_ROWS)
    if suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)

    result = command("events", "import", path, "--mapping", mapping, "--json")

    assert (result.code, result.rows) == (0, [outcome(path, accepted=2)])
    first, second = sorted(
        rows_of(opened.database, UsageRow), key=lambda row: str(row["event_ref"])
    )
    assert (first["event_ref"], first["latency_ms"], first["input_tokens"]) == ("a", 812, 10_000)
    assert (second["occurred_at"].isoformat(), second["input_tokens"]) == (
        "2025-11-20T12:00:00.250000+00:00",
        10,
    )
    assert second["cached_input_tokens"] is None


def test_the_same_foreign_log_under_another_mapping_is_read_again(
    command: Command, tmp_path: Path
) -> None:
    mapping, path = tmp_path / "mapping.toml", tmp_path / "log.csv"
    mapping.write_text(MAPPING, encoding="utf-8")
    pl.DataFrame(FOREIGN_ROWS).write_csv(path)
    command("events", "import", path, "--mapping", mapping)
    mapping.write_text(MAPPING.replace('"prod"', '"test"'), encoding="utf-8")

    result = command("events", "import", path, "--mapping", mapping, "--json")

    assert (result.code, result.rows) == (1, [outcome(path, rejected=2)])
    assert "row 2: conflict:" in result.err


def test_a_mapping_that_does_not_fit_is_one_error(command: Command, tmp_path: Path) -> None:
    mapping, path = tmp_path / "mapping.toml", tmp_path / "log.csv"
    mapping.write_text(MAPPING, encoding="utf-8")
    pl.DataFrame(FOREIGN_ROWS).drop("fresh").write_csv(path)

    result = command("events", "import", path, "--mapping", mapping)

    assert result.code == 2
    fault = f"tokenbudget: {mapping}: usage.input_tokens: the log has no column 'fresh'"
    assert result.err.splitlines()[-1] == fault

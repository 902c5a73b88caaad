"""Reading ahead in a process of its own gives the same pieces, and its errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.builders import make_events
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats import event_files
from tokenbudget.formats.event_files import read_pieces
from tokenbudget.formats.events import Door
from tokenbudget.services import piece_reading
from tokenbudget.services.piece_reading import FileReading, prepare_piece, prepared_pieces

DOOR = Door(datetime(2026, 11, 20, 12, tzinfo=UTC), timedelta(days=1))
MANY = piece_reading.MIN_ROWS_AHEAD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of three events and a line at fault."""
    lines = [json.dumps(event) for event in make_events(3)]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join([*lines, "{"]), encoding="utf-8")
    return path


def test_another_process_gives_the_same_pieces(path: Path) -> None:
    asked = FileReading(path, DOOR, after_row=1)

    [here] = prepared_pieces(asked, rows=4)
    [there] = prepared_pieces(asked, rows=MANY + 1)

    assert there.plain.equals(here.plain)
    assert there.plain["row"].to_list() == [2, 3]
    assert (there.last_row, list(there.rest.rows)) == (4, [4])
    assert there.rest.source_of(0) == "{"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_of_a_piece_can_be_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"events{suffix}"
    events = make_events(9)
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(event) for event in events), encoding="utf-8")
    else:
        pl.DataFrame(events).write_parquet(path, row_group_size=2)
    [whole] = read_pieces(path)
    asked = FileReading(path, DOOR)

    kept = prepare_piece(whole, DOOR).pick([2, 5, 9])
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 4)
    read_again = prepare_piece(whole, DOOR, asked).pick([2, 5, 9])

    assert [list(piece.rows) for piece in kept] == [[2, 5, 9]]
    assert [row for piece in read_again for row in piece.rows] == [2, 5, 9]
    items = [item for piece in read_again for item in piece.items(DOOR)]
    assert items == kept[0].items(DOOR)


def test_the_fault_of_a_file_comes_from_the_other_process(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("event_id,colour\ne1,red\n", encoding="utf-8")

    with pytest.raises(BadFile, match="column 'provider' is missing"):
        list(prepared_pieces(FileReading(path, DOOR), rows=MANY))


def test_the_other_process_ends_when_nobody_listens(path: Path) -> None:
    pieces = prepared_pieces(FileReading(path, DOOR), rows=MANY)
    next(pieces)

    pieces.close()

    assert list(pieces) == []


def test_few_rows_are_read_here(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 2)

    pieces = list(prepared_pieces(FileReading(path, DOOR), rows=4))

    assert [prepared.last_row for prepared in pieces] == [2, 4]

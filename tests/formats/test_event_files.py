"""Files of usage events: the same in any format, read in pieces, refused by file, row and rule."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.event_files import Piece, read_event_lines, read_events
from tokenbudget.formats.events import Door, Rejection

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = Door(now=NOON, future_tolerance=timedelta(0))

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "provider": "acme",
    "model": "plain",
    "occurred_at": "2026-11-20T12:00:00Z",
    "usage": {"input_tokens": 100, "output_tokens": 0},
    "tags": {"team": "growth", "colour": "red"},
    "attempt": 2,
    "cache_hit": True,
    "reported_cost": "0.5",
}
HEADER = (
    "event_id,provider,model,occurred_at,input_tokens,usage.output_tokens,cached_input_tokens,"
    "team,tags.colour,attempt,cache_hit,reported_cost"
)
ROW = "e1,acme,plain,2026-11-20T12:00:00Z,100,0,,growth,red,2,true,0.50"


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file and give its path."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[UsageEvent | Rejection]:
    """Give every item of a file."""
    return [item for piece in read_events(path, DOOR) for item in piece.items]


def test_the_same_rows_in_three_formats_are_the_same_events(tmp_path: Path) -> None:
    lines = write(tmp_path / "events.jsonl", json.dumps(EVENT))
    table = write(tmp_path / "events.csv", HEADER, ROW)
    parquet = tmp_path / "events.parquet"
    pl.DataFrame(
        {
            "event_id": ["e1"],
            "provider": ["acme"],
            "model": ["plain"],
            "occurred_at": [NOON],
            "input_tokens": pl.Series([100], dtype=pl.UInt32),
            "output_tokens": [0],
            "cached_input_tokens": pl.Series([None], dtype=pl.Int64),
            "team": ["growth"],
            "tags.colour": pl.Series(["red"], dtype=pl.Categorical),
            "attempt": [2],
            "cache_hit": [True],
            "reported_cost": [0.5],
        }
    ).write_parquet(parquet)

    [from_lines] = read(lines)

    assert isinstance(from_lines, UsageEvent)
    assert from_lines.quantities == {"input_tokens": 100, "output_tokens": 0}
    assert read(table) == read(parquet) == [from_lines]


def test_structures_of_a_parquet_file_are_fields_too(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    nested = [
        {**EVENT, "event_id": "e1", "usage": {"input_tokens": 1, "output_tokens": None}},
        {**EVENT, "event_id": "e2", "usage": {"input_tokens": None, "output_tokens": 2}},
    ]
    pl.DataFrame(nested).write_parquet(path)

    first, second = read(path)

    assert isinstance(first, UsageEvent)
    assert isinstance(second, UsageEvent)
    assert (first.quantities, second.quantities) == ({"input_tokens": 1}, {"output_tokens": 2})
    assert first.tags == {"team": "growth", "colour": "red"}


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".JSONL"])
def test_lines_are_read_by_several_suffixes(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"events{suffix}", json.dumps(EVENT))

    assert len(read(path)) == 1


def test_a_csv_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", "\ufeff" + HEADER, ROW)

    assert isinstance(read(path)[0], UsageEvent)


def test_a_file_is_read_in_pieces_that_know_their_lines(tmp_path: Path) -> None:
    events = [json.dumps({**EVENT, "event_id": f"e{number}"}) for number in range(5_002)]
    path = write(tmp_path / "events.jsonl", "", *events[:3], " ", *events[3:], "")

    first, second = read_events(path, DOOR)

    assert (len(first.items), len(second.items)) == (5_000, 2)
    assert [*first.rows, *second.rows] == [2, 3, 4, *range(6, 5_005)]


def test_a_table_is_read_in_pieces_that_know_their_rows(tmp_path: Path) -> None:
    rows = [ROW.replace("e1", f"e{number}") for number in range(12_000)]
    path = write(tmp_path / "events.csv", HEADER, *rows)

    pieces = list(read_events(path, DOOR))

    assert max(len(piece.items) for piece in pieces) <= 5_000
    assert [row for piece in pieces for row in piece.rows] == list(range(2, 12_002))


def test_standard_input_is_read_like_a_file() -> None:
    stream = io.BytesIO(b"{\n\n" + json.dumps(EVENT).encode())

    [piece] = read_event_lines(stream, DOOR)

    assert list(piece.rows) == [1, 3]
    assert [type(item) for item in piece.items] == [Rejection, UsageEvent]


def test_an_empty_stream_has_no_pieces() -> None:
    assert list(read_event_lines(io.BytesIO(b"\n \n"), DOOR)) == []


def test_rows_of_a_table_count_its_header(tmp_path: Path) -> None:
    bad = ROW.replace(",100,", ",-1,")
    table = write(tmp_path / "events.csv", HEADER, ROW, bad)

    [piece] = read_events(table, DOOR)

    assert piece == Piece(piece.items, range(2, 4))
    assert isinstance(piece.items[1], Rejection)
    assert piece.items[1].detail == "input_tokens -1 is negative"


def test_rows_of_a_parquet_file_count_from_one(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame([EVENT]).write_parquet(path)

    [piece] = read_events(path, DOOR)

    assert list(piece.rows) == [1]


def test_times_of_a_parquet_file_without_a_zone_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame([{**EVENT, "occurred_at": NOON.replace(tzinfo=None)}]).write_parquet(path)

    [rejection] = read(path)

    assert isinstance(rejection, Rejection)
    assert rejection.code == "naive_timestamp"


@pytest.mark.parametrize("missing", ["provider", "model", "occurred_at"])
def test_a_table_without_a_needed_column_is_refused(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path / "events.csv", HEADER.replace(missing, f"tags.{missing}"), ROW)

    with pytest.raises(BadFile) as caught:
        read(path)

    assert caught.value.detail == f"{path}: row 1: column {missing!r} is missing"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (
            "event_id,provider,model,occurred_at,team",
            "no usage column, such as input_tokens or usage.input_tokens",
        ),
        (HEADER + ",colour", "column 'colour' is not known; name a tag tags.colour"),
        (HEADER + ",usage.colours", "column 'usage.colours' is not known"),
        (
            HEADER.replace("cached_input_tokens", "usage.input_tokens"),
            "columns 'input_tokens' and 'usage.input_tokens' give the same field",
        ),
        (
            HEADER.replace("tags.colour", "tags.team"),
            "columns 'team' and 'tags.team' give the same field",
        ),
        ("usage," + HEADER, "columns 'usage' and 'input_tokens' give the same field"),
        (HEADER + ",usage", "columns 'input_tokens' and 'usage' give the same field"),
    ],
)
def test_a_table_whose_columns_are_at_odds_is_refused(
    tmp_path: Path, header: str, fault: str
) -> None:
    path = write(tmp_path / "events.csv", header, ROW)

    with pytest.raises(BadFile) as caught:
        read(path)

    assert caught.value.detail.startswith(f"{path}: row 1: {fault}")


@pytest.mark.parametrize("name", ["events.csv", "events.parquet", "events.jsonl"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match=r"cannot be read: [Nn]o such file"):
        read(tmp_path / name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"the suffix must be .jsonl, .csv or .parquet, not '.xlsx'"):
        read(tmp_path / "events.xlsx")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("events.parquet", b"plain", "not a readable parquet file"),
        ("events.csv", b"", "not a readable csv file"),
        ("events.csv", f"{HEADER}\n{ROW},more,cells\n".encode(), "not a readable csv file"),
        ("events.csv", HEADER.encode() + b"\n\xff,a\n", "not a readable csv file"),
    ],
)
def test_a_file_that_breaks_its_format_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(BadFile) as caught:
        read(path)

    assert caught.value.detail.startswith(f"{path}: {fault}")
    assert len(caught.value.detail.splitlines()) == 1

"""Files of usage events: the same in any format, read in pieces, refused by file, row and rule."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats import event_files
from tokenbudget.formats.event_files import (
    Piece,
    Reading,
    inspect_file,
    read_events,
    read_lines,
    read_pieces,
)
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
    return [item for _, item in read_events(path, DOOR)]


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


def items_of(piece: Piece) -> list[UsageEvent | Rejection]:
    """Give every item of a piece."""
    return piece.items(DOOR)


def test_a_file_is_read_in_pieces_that_know_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 50)
    events = [json.dumps({**EVENT, "event_id": f"e{number}"}) for number in range(52)]
    path = write(tmp_path / "events.jsonl", "", *events[:3], " ", *events[3:], "")

    first, second = read_pieces(path)

    assert (len(first.rows), len(second.rows)) == (50, 2)
    assert [*first.rows, *second.rows] == [2, 3, 4, *range(6, 55)]


def test_a_table_is_read_in_pieces_that_know_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 5_000)
    rows = [ROW.replace("e1", f"e{number}") for number in range(12_000)]
    path = write(tmp_path / "events.csv", HEADER, *rows)

    pieces = list(read_pieces(path))

    assert max(len(piece.rows) for piece in pieces) <= 5_000
    assert [row for piece in pieces for row in piece.rows] == list(range(2, 12_002))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_reading_goes_on_after_a_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events{suffix}"
    names = [f"e{number}" for number in range(6)]
    events = [{**EVENT, "event_id": name} for name in names]
    if suffix == ".jsonl":
        write(path, *(json.dumps(event) for event in events))
    elif suffix == ".csv":
        write(path, HEADER, *(ROW.replace("e1", name) for name in names))
    else:
        pl.DataFrame(events).write_parquet(path)
    [whole] = read_pieces(path)

    [rest] = read_pieces(path, after_row=whole.rows[3])

    assert list(rest.rows) == list(whole.rows)[4:]
    assert items_of(rest) == items_of(whole)[4:]
    assert list(read_pieces(path, after_row=whole.rows[5])) == []


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_that_name_no_source_have_that_of_the_reading(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events{suffix}"
    names = [None, "billing"]
    events = [{**EVENT, "event_id": f"e{n}", "source": name} for n, name in enumerate(names)]
    if suffix == ".jsonl":
        write(path, *(json.dumps(event) for event in events), "{")
    elif suffix == ".csv":
        write(path, f"{HEADER},source", f"{ROW},", f"{ROW},billing")
    else:
        pl.DataFrame(events).write_parquet(path)

    [piece] = read_pieces(path, Reading(source="log"))

    sources = [item.source for item in items_of(piece) if isinstance(item, UsageEvent)]
    assert sources == ["log", "billing"]
    assert piece.columns().frame["source"].to_list()[:2] == ["log", "billing"]


def test_a_table_without_a_source_has_that_of_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", HEADER, ROW)

    [piece] = read_pieces(path, Reading(source="log"))

    [event] = items_of(piece)
    assert isinstance(event, UsageEvent)
    assert event.source == "log"


def test_a_row_can_be_told_as_its_file_has_it(tmp_path: Path) -> None:
    [table] = read_pieces(write(tmp_path / "events.csv", HEADER, ROW))
    [lines] = read_pieces(write(tmp_path / "events.jsonl", '{"a": "ü"}'))

    assert table.source_of(0) == {
        name: cell for name, cell in zip(HEADER.split(","), ROW.split(","), strict=True) if cell
    }
    assert lines.source_of(0) == '{"a": "ü"}'


def test_a_file_is_known_by_its_content_and_what_is_meant_by_it(tmp_path: Path) -> None:
    first = write(tmp_path / "first.csv", HEADER, ROW)
    same = write(tmp_path / "same.csv", HEADER, ROW)
    other = write(tmp_path / "other.csv", HEADER, ROW, ROW)

    known = inspect_file(first, "a", "bc")

    assert inspect_file(same, "a", "bc") == known
    assert inspect_file(first, "ab", "c").fingerprint != known.fingerprint
    assert inspect_file(first, "ab", "c").content_digest == known.content_digest
    assert inspect_file(other, "a", "bc").content_digest != known.content_digest
    assert (known.rows, inspect_file(other).rows) == (2, 3)


def test_the_rows_of_a_parquet_file_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame([EVENT] * 3).write_parquet(path)

    assert inspect_file(path).rows == 3


def test_standard_input_is_read_like_a_file() -> None:
    stream = io.BytesIO(b"{\n\n" + json.dumps(EVENT).encode())

    [piece] = read_lines(stream)

    assert list(piece.rows) == [1, 3]
    assert [type(item) for item in items_of(piece)] == [Rejection, UsageEvent]


def test_an_empty_stream_has_no_pieces() -> None:
    assert list(read_lines(io.BytesIO(b"\n \n"))) == []


def test_rows_of_a_table_count_its_header(tmp_path: Path) -> None:
    bad = ROW.replace(",100,", ",-1,")
    table = write(tmp_path / "events.csv", HEADER, ROW, bad)

    (_, first), (row, rejection) = read_events(table, DOOR)

    assert isinstance(first, UsageEvent)
    assert isinstance(rejection, Rejection)
    assert (row, rejection.detail) == (3, "input_tokens -1 is negative")


def test_rows_of_a_parquet_file_count_from_one(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame([EVENT]).write_parquet(path)

    [(row, _)] = read_events(path, DOOR)

    assert row == 1


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
    with pytest.raises(BadFile, match=r"cannot be read: [Nn]o such file"):
        inspect_file(tmp_path / name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"the suffix must be .jsonl, .csv or .parquet, not '.xlsx'"):
        read(tmp_path / "events.xlsx")
    with pytest.raises(BadFile, match=r"the suffix must be"):
        inspect_file(tmp_path / "events.xlsx")


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


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_table_of_somebody_else_is_read_under_our_names(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    log = pl.DataFrame([{"ts": "2026-11-20T12:00:00Z", "tokens": 5}])
    if suffix == ".jsonl":
        log.write_ndjson(path)
    elif suffix == ".csv":
        log.write_csv(path)
    else:
        log.write_parquet(path)

    def reshape(frame: pl.DataFrame, rows: Sequence[int]) -> pl.DataFrame:
        return frame.select(
            occurred_at="ts",
            input_tokens="tokens",
            event_id=pl.Series([f"row-{row}" for row in rows]),
            provider=pl.lit("acme"),
            model=pl.lit("plain"),
        )

    [piece] = read_pieces(path, Reading(reshape=reshape))

    [event] = items_of(piece)
    assert isinstance(event, UsageEvent)
    assert event.event_ref == ("row-2" if suffix == ".csv" else "row-1")
    assert event.quantities == {"input_tokens": 5}
    assert list(piece.source_of(0)) == ["ts", "tokens"]  # type: ignore[call-overload]


def test_a_column_of_usage_that_is_no_structure_is_left_to_its_rows(tmp_path: Path) -> None:
    header = "event_id,provider,model,occurred_at,usage"
    path = write(tmp_path / "events.csv", header, "e1,acme,plain,2026-11-20T12:00:00Z,much")

    [piece] = read_pieces(path)

    assert piece.columns().frame["usage"].to_list() == ["much"]
    assert [type(item) for item in items_of(piece)] == [Rejection]


def test_a_parquet_file_that_is_none_has_no_facts(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", "plain")

    with pytest.raises(BadFile, match="not a readable parquet file"):
        inspect_file(path)


def test_a_line_that_is_no_event_of_ours_keeps_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", "[1]", json.dumps({**EVENT, "source": "own"}))

    [piece] = read_pieces(path, Reading(source="log"))

    rejection, event = items_of(piece)
    assert isinstance(rejection, Rejection)
    assert isinstance(event, UsageEvent)
    assert event.source == "own"

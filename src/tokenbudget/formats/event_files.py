"""Files of usage events.

JSONL, CSV and Parquet, read in bounded pieces and turned into columns and, row by row, into the
wire shape of events.

A table's column is a field of the event (``model``), a unit (``input_tokens`` or
``usage.input_tokens``) or a tag (``team`` or ``tags.anything``). Cells that are empty are absent,
never zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeAlias

import polars as pl

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UNIT_SET
from tokenbudget.formats.event_lines import line_columns, with_source
from tokenbudget.formats.event_tables import EventColumns
from tokenbudget.formats.events import Door, EventShape, ParsedItem, parse_items, parse_objects

ROWS_PER_PIECE: Final = 40_000
CHUNK_BYTES: Final = 1 << 20
REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
EVENT_FIELDS: Final = frozenset(EventShape.__struct_fields__)
MEASURES: Final = frozenset({"usage", "provider_usage", "text"})
JSONL_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
TABLE_SUFFIXES: Final = frozenset({".csv", ".parquet"})
GROUPS: Final = ("usage", "tags")

Reshape: TypeAlias = Callable[[pl.DataFrame, Sequence[int]], pl.DataFrame]
"""What turns the columns of somebody else's table, and the numbers of its rows, into ours."""


class Piece(Protocol):
    """Some rows of a file."""

    @property
    def rows(self) -> Sequence[int]:
        """Give where each row stands: its line, or its row in a table."""

    def columns(self) -> EventColumns:
        """Give the rows as columns, in order."""

    def pick(self, places: Sequence[int]) -> Piece:
        """Give the rows at these places as a piece of their own."""

    def items(self, door: Door) -> list[ParsedItem]:
        """Give the rows as usage events or rejections, in order."""

    def source_of(self, place: int) -> object:
        """Give the row at this place as the file has it, ready for JSON."""


@dataclass(frozen=True, slots=True)
class LinePiece:
    """Lines of JSON."""

    lines: Sequence[bytes]
    rows: Sequence[int]
    source: str | None = None

    def columns(self) -> EventColumns:
        """Give the rows as columns, in order; lines that are no event are empty rows."""
        columns = line_columns(self.lines)
        if self.source is None:
            return columns
        filled = pl.col("source").fill_null(self.source)
        return EventColumns(columns.frame.with_columns(filled), columns.blank_is_absent)

    def pick(self, places: Sequence[int]) -> LinePiece:
        """Give the rows at these places as a piece of their own."""
        lines = [self.lines[place] for place in places]
        return LinePiece(lines, [self.rows[place] for place in places], self.source)

    def items(self, door: Door) -> list[ParsedItem]:
        """Give the rows as usage events or rejections, in order."""
        if self.source is None:
            return parse_items(self.lines, door)
        return parse_items([with_source(line, self.source) for line in self.lines], door)

    def source_of(self, place: int) -> object:
        """Give the line without its end."""
        return self.lines[place].decode("utf-8", errors="replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class TablePiece:
    """Rows of a table: ``frame`` has the columns of ``targets``, ``raw`` those of the file."""

    frame: pl.DataFrame
    raw: pl.DataFrame
    targets: Sequence[_Target]
    rows: Sequence[int]

    def columns(self) -> EventColumns:
        """Give the rows as columns, in order, a column for each member of a structure."""
        columns: list[pl.Series] = []
        blank_is_absent: set[str] = set()
        for series, target in zip(self.frame.get_columns(), self.targets, strict=True):
            if target.name is None and target.field in GROUPS:
                columns.extend(_members(series, target.field))
                continue
            name = target.field if target.name is None else f"{target.field}.{target.name}"
            blank_is_absent.add(name)
            columns.append(_texts_of_numbers(series, target).alias(name))
        return EventColumns(pl.DataFrame(columns), frozenset(blank_is_absent))

    def pick(self, places: Sequence[int]) -> TablePiece:
        """Give the rows at these places as a piece of their own."""
        rows = [self.rows[place] for place in places]
        chosen = list(places)
        return TablePiece(self.frame[chosen], self.raw[chosen], self.targets, rows)

    def items(self, door: Door) -> list[ParsedItem]:
        """Give the rows as usage events or rejections, in order."""
        events = [_event_of(cells, self.targets) for cells in self.frame.iter_rows()]
        return parse_objects(events, door)

    def source_of(self, place: int) -> object:
        """Give the cells by the file's columns, without those that are empty."""
        cells = self.raw.row(place, named=True)
        return {name: cell for name, cell in cells.items() if cell is not None}


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a column's cells go: a field of the event, or a name inside of one."""

    field: str
    name: str | None = None

    def overlaps(self, other: _Target) -> bool:
        """Tell whether both give the same part, or one of them gives the whole."""
        return self.field == other.field and (
            self.name == other.name or None in (self.name, other.name)
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows of a file mean beside what they say.

    ``source`` is that of rows that name none. ``reshape`` gives somebody else's columns our names;
    JSONL is then read as a table too.
    """

    source: str | None = None
    reshape: Reshape | None = None


PLAIN_READING: Final = Reading()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The identity of a file and of what its rows mean, and about how many rows there are."""

    fingerprint: str
    content_digest: str
    rows: int


def inspect_file(path: Path, *meanings: str) -> FileFacts:
    """Give the facts of a file, which is read once; ``meanings`` are told apart like content.

    Raises BadFile when it cannot be read.
    """
    suffix = _known_suffix(path)
    digest = hashlib.sha256()
    lines = 0
    with _opened(path) as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    content_digest = digest.hexdigest()
    for meaning in meanings:
        digest.update(f"{len(meaning)}:{meaning}".encode())
    rows = _parquet_rows(path) if suffix == ".parquet" else lines
    return FileFacts(digest.hexdigest(), content_digest, rows)


def read_events(path: Path, door: Door) -> Iterator[tuple[int, ParsedItem]]:
    """Give each row of a file with where it stands, as ``events.py`` reads it on its own."""
    for piece in read_pieces(path):
        yield from zip(piece.rows, piece.items(door), strict=True)


def read_pieces(
    path: Path, reading: Reading = PLAIN_READING, *, after_row: int = 0
) -> Iterator[Piece]:
    """Give the rows of a file that follow a row, in pieces, by its suffix.

    Raises BadFile naming file, row and rule.
    """
    suffix = _known_suffix(path)
    if suffix in JSONL_SUFFIXES and reading.reshape is None:
        with _opened(path) as lines:
            yield from read_lines(lines, reading, after_row=after_row)
    else:
        yield from _read_table(path, suffix, reading, after_row)


def read_lines(
    lines: IO[bytes], reading: Reading = PLAIN_READING, *, after_row: int = 0
) -> Iterator[Piece]:
    """Give the lines of an open JSONL stream in pieces; blank lines are skipped."""
    numbered = (
        (number, line)
        for number, line in enumerate(islice(lines, after_row, None), start=after_row + 1)
        if line.strip()
    )
    while batch := list(islice(numbered, ROWS_PER_PIECE)):
        numbers = [number for number, _ in batch]
        yield LinePiece([line for _, line in batch], numbers, reading.source)


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in JSONL_SUFFIXES | TABLE_SUFFIXES:
        raise BadFile(f"{path}: the suffix must be .jsonl, .csv or .parquet, not {suffix!r}")
    return suffix


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None


def _read_table(path: Path, suffix: str, reading: Reading, after_row: int) -> Iterator[Piece]:
    if not path.is_file():
        raise BadFile(f"{path}: cannot be read: no such file")
    # The header of a CSV file is its row 1.
    first = 2 if suffix == ".csv" else 1
    row = max(first, after_row + 1)
    try:
        scanned = _scan(path, suffix)
        if reading.reshape is None:
            _targets(path, scanned.collect_schema().names())
        left = scanned.slice(row - first)
        for raw in left.collect_batches(chunk_size=ROWS_PER_PIECE, maintain_order=True):
            rows = range(row, row + raw.height)
            frame = _with_source(reading.reshape(raw, rows) if reading.reshape else raw, reading)
            yield TablePiece(frame, raw, _targets(path, frame.columns), rows)
            row += raw.height
    except pl.exceptions.PolarsError as error:
        raise BadFile(f"{path}: not a readable {suffix[1:]} file: {_first_line(error)}") from None


def _with_source(frame: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    if reading.source is None:
        return frame
    if "source" not in frame.columns:
        return frame.with_columns(source=pl.lit(reading.source))
    return frame.with_columns(pl.col("source").replace("", None).fill_null(reading.source))


def _parquet_rows(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise BadFile(f"{path}: not a readable parquet file: {_first_line(error)}") from None


def _scan(path: Path, suffix: str) -> pl.LazyFrame:
    if suffix == ".csv":
        return pl.scan_csv(path, infer_schema=False, try_parse_dates=False)
    if suffix == ".parquet":
        return pl.scan_parquet(path)
    return pl.scan_ndjson(path, infer_schema_length=None)


def _targets(path: Path, columns: Sequence[str]) -> list[_Target]:
    """Give where the cells of each column go; raises BadFile for columns missing or at odds."""
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise BadFile(f"{path}: row 1: column {missing[0]!r} is missing")
    takers: dict[_Target, str] = {}
    for column in columns:
        target = _target_of(path, column)
        taker = next((name for taken, name in takers.items() if taken.overlaps(target)), None)
        if taker is not None:
            raise BadFile(f"{path}: row 1: columns {taker!r} and {column!r} give the same field")
        takers[target] = column
    if not MEASURES & {target.field for target in takers}:
        raise BadFile(f"{path}: row 1: no usage column, such as input_tokens or usage.input_tokens")
    return list(takers)


def _target_of(path: Path, column: str) -> _Target:
    if column.startswith("tags."):
        return _Target("tags", column.removeprefix("tags."))
    if column in TAG_DIMENSIONS:
        return _Target("tags", column)
    if column.removeprefix("usage.") in UNIT_SET:
        return _Target("usage", column.removeprefix("usage."))
    if column in EVENT_FIELDS:
        return _Target(column)
    raise BadFile(f"{path}: row 1: column {column!r} is not known; name a tag tags.{column}")


def _members(series: pl.Series, field: str) -> list[pl.Series]:
    """Give the members of a structure as columns; anything else stands for itself."""
    if not isinstance(series.dtype, pl.Struct):
        return [series.alias(field)]
    return [member.alias(f"{field}.{member.name}") for member in series.struct.unnest()]


def _texts_of_numbers(series: pl.Series, target: _Target) -> pl.Series:
    """Give the column; a tag's whole numbers as the texts that its cells are taken for."""
    is_number = target.field == "tags" and series.dtype.is_integer()
    return series.cast(pl.String) if is_number else series


def _event_of(cells: Sequence[object], targets: Sequence[_Target]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for cell, target in zip(cells, targets, strict=True):
        if cell is None or cell == "":
            continue
        if target.name is None:
            event[target.field] = _without_absent(cell)
        else:
            group = event.setdefault(target.field, {})
            group[target.name] = str(cell) if target.field == "tags" else cell
    return event


def _without_absent(cell: object) -> object:
    """Give the cell; of a structure only what is there, since its columns stand in every row."""
    if not isinstance(cell, Mapping):
        return cell
    return {name: value for name, value in cell.items() if value is not None}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

"""Files of usage events.

JSONL, CSV and Parquet, read in bounded pieces and turned into the wire shape of events.

A table's column is a field of the event (``model``), a unit (``input_tokens`` or
``usage.input_tokens``) or a tag (``team`` or ``tags.anything``). Cells that are empty are absent,
never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UNIT_SET
from tokenbudget.formats.events import Door, EventShape, ParsedItem, parse_items, parse_objects

ROWS_PER_PIECE: Final = 5_000
REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
EVENT_FIELDS: Final = frozenset(EventShape.__struct_fields__)
MEASURES: Final = frozenset({"usage", "provider_usage", "text"})
JSONL_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, slots=True)
class Piece:
    """Some items of a file and, beside each, where it stands: its line, or its row in a table."""

    items: list[ParsedItem]
    rows: Sequence[int]


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


def read_events(path: Path, door: Door) -> Iterator[Piece]:
    """Give the events of a file in pieces of a few thousand, by its suffix.

    Raises BadFile naming file, row and rule.
    """
    suffix = path.suffix.lower()
    if suffix in JSONL_SUFFIXES:
        with _opened(path) as lines:
            yield from read_event_lines(lines, door)
    elif suffix in (".csv", ".parquet"):
        yield from _read_table(path, suffix, door)
    else:
        raise BadFile(f"{path}: the suffix must be .jsonl, .csv or .parquet, not {suffix!r}")


def read_event_lines(lines: IO[bytes], door: Door) -> Iterator[Piece]:
    """Give the events of an open JSONL stream in pieces; blank lines are skipped."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    while batch := list(islice(numbered, ROWS_PER_PIECE)):
        items = parse_items([line for _, line in batch], door)
        yield Piece(items, [number for number, _ in batch])


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None


def _read_table(path: Path, suffix: str, door: Door) -> Iterator[Piece]:
    if not path.is_file():
        raise BadFile(f"{path}: cannot be read: no such file")
    # The header of a CSV file is its row 1.
    row = 2 if suffix == ".csv" else 1
    try:
        scanned = (
            pl.scan_csv(path, infer_schema=False, try_parse_dates=False)
            if suffix == ".csv"
            else pl.scan_parquet(path)
        )
        targets = _targets(path, scanned.collect_schema().names())
        for frame in scanned.collect_batches(chunk_size=ROWS_PER_PIECE, maintain_order=True):
            items = parse_objects([_event_of(cells, targets) for cells in frame.iter_rows()], door)
            yield Piece(items, range(row, row + len(items)))
            row += len(items)
    except pl.exceptions.PolarsError as error:
        raise BadFile(f"{path}: not a readable {suffix[1:]} file: {_first_line(error)}") from None


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

"""Files of usage events.

JSONL, CSV and Parquet, read in bounded pieces and turned into the wire shape of events.

A table's column is a field of the event (``model``), a unit (``input_tokens`` or
``usage.input_tokens``) or a tag (``team`` or ``tags.anything``). Cells that are empty are absent,
never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UNIT_SET, UNITS
from tokenbudget.formats.events import Door, EventShape, ParsedItem, parse_items, parse_objects

ROWS_PER_PIECE: Final = 5_000
REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
EVENT_FIELDS: Final = frozenset(EventShape.__struct_fields__)
MEASURES: Final = frozenset({"usage", "provider_usage", "text"})
JSONL_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})

Setter = Callable[[dict[str, Any], object], None]


def read_events(path: Path, door: Door) -> Iterator[list[ParsedItem]]:
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


def read_event_lines(lines: IO[bytes], door: Door) -> Iterator[list[ParsedItem]]:
    """Give the events of an open JSONL stream in pieces."""
    piece: list[bytes] = []
    for line in lines:
        if line.strip():
            piece.append(line)
        if len(piece) == ROWS_PER_PIECE:
            yield parse_items(piece, door)
            piece = []
    if piece:
        yield parse_items(piece, door)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None


def _read_table(path: Path, suffix: str, door: Door) -> Iterator[list[ParsedItem]]:
    if not path.is_file():
        raise BadFile(f"{path}: cannot be read: no such file")
    try:
        scanned = (
            pl.scan_csv(path, infer_schema=False, try_parse_dates=False)
            if suffix == ".csv"
            else pl.scan_parquet(path)
        )
        setters = _setters(path, scanned.collect_schema().names())
        for frame in scanned.collect_batches(chunk_size=ROWS_PER_PIECE, maintain_order=True):
            yield parse_objects([_event_of(row, setters) for row in frame.iter_rows()], door)
    except pl.exceptions.PolarsError as error:
        raise BadFile(f"{path}: not a readable {suffix[1:]} file: {_first_line(error)}") from None


def _setters(path: Path, columns: Sequence[str]) -> list[Setter]:
    """Give, for each column, how its cell goes into the event."""
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise BadFile(f"{path}: row 1: column {missing[0]!r} is missing")
    units = [name for name in columns if name.removeprefix("usage.") in UNIT_SET]
    if not units and not MEASURES & set(columns):
        raise BadFile(f"{path}: row 1: no usage column, such as input_tokens or usage.input_tokens")
    return [_setter(path, name) for name in columns]


def _setter(path: Path, column: str) -> Setter:
    if column.startswith("tags."):
        return _into("tags", column.removeprefix("tags."), str)
    if column in TAG_DIMENSIONS:
        return _into("tags", column, str)
    if column.removeprefix("usage.") in UNITS:
        return _into("usage", column.removeprefix("usage."), lambda cell: cell)
    if column in EVENT_FIELDS:
        return _as_field(column)
    raise BadFile(f"{path}: row 1: column {column!r} is not known; name a tag tags.{column}")


def _into(group: str, name: str, convert: Callable[[object], object]) -> Setter:
    def put(event: dict[str, Any], cell: object) -> None:
        event.setdefault(group, {})[name] = convert(cell)

    return put


def _as_field(name: str) -> Setter:
    def put(event: dict[str, Any], cell: object) -> None:
        if isinstance(cell, Mapping):
            cell = {key: value for key, value in cell.items() if value is not None}
            event.setdefault(name, {}).update(cell)
        else:
            event[name] = cell

    return put


def _event_of(row: Sequence[object], setters: Sequence[Setter]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for cell, put in zip(row, setters, strict=True):
        if cell is not None and cell != "":
            put(event, cell)
    return event


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

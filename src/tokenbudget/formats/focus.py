"""FOCUS files as they are written: CSV and Parquet with every column of a version, batch by batch.

It owns the two encodings of the same rows, with memory that does not grow with their number; it
refuses to know what a cell means (``focus_rows.py``). Reading FOCUS is ``bills/focus.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from enum import StrEnum
from itertools import islice
from operator import methodcaller
from pathlib import Path
from typing import Final

import polars as pl
from polars.io.plugins import register_io_source

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.focus import ATTO_DIGITS
from tokenbudget.domain.periods import Period
from tokenbudget.formats.focus_columns import Column, Kind, columns_of
from tokenbudget.formats.focus_rows import Cells
from tokenbudget.formats.focus_text import INSTANT

ROWS_PER_BATCH: Final = 10_000
MAX_DIGITS: Final = 38
DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
KINDS: Final[dict[Kind, pl.DataType]] = {
    Kind.TEXT: pl.String(),
    Kind.JSON: pl.String(),
    Kind.DECIMAL: pl.Decimal(MAX_DIGITS, ATTO_DIGITS),
    Kind.INSTANT: pl.Datetime("us", "UTC"),
    Kind.COUNT: pl.Int64(),
}


class FileKind(StrEnum):
    """How a file is encoded."""

    CSV = "csv"
    PARQUET = "parquet"


KIND_WORDS: Final = frozenset(kind.value for kind in FileKind)


def file_kind(name: str) -> FileKind:
    """Give the encoding that a file's name ends with; raises InvalidInput for any other ending."""
    ending = name.rpartition(".")[2].lower()
    if ending not in KIND_WORDS:
        raise InvalidInput(f"{name!r} must end with .csv or .parquet", field="out")
    return FileKind(ending)


def parse_kind(word: str) -> FileKind:
    """Give the encoding of a parameter; raises InvalidInput for any other word."""
    if word not in KIND_WORDS:
        raise InvalidInput(f"format {word!r} is not csv or parquet", field="format")
    return FileKind(word)


def parse_days(first: str, end: str) -> Period:
    """Give the UTC days from the first until the end, which is excluded, both ``2026-09-01``.

    Raises InvalidInput naming the one at fault.
    """
    start, stop = _midnight(first, "from"), _midnight(end, "to")
    if stop <= start:
        raise InvalidInput(f"to {end} must come after from {first}; it is excluded", field="to")
    return Period(start, stop)


def write_focus(path: Path, rows: Iterable[Cells], *, version: str, kind: FileKind) -> int:
    """Write the rows to a new file and give how many there were; none leaves no file behind.

    Raises InvalidInput for an unknown version, OSError when the file cannot be written, and
    whatever ``rows`` raises.
    """
    columns = columns_of(version)
    batches = _Batches(iter(rows), columns)
    if batches.first is None:
        return 0
    try:
        if kind is FileKind.CSV:
            _write_csv(path, batches)
        else:
            _write_parquet(path, batches)
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).partition("\n")[0]) from error
    return batches.count


def _midnight(text: str, field: str) -> datetime:
    try:
        day = date.fromisoformat(text) if DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidInput(f"{field} {text!r} is not a day such as 2026-09-01", field=field)
    return datetime.combine(day, time(), tzinfo=UTC)


class _Batches:
    """Rows as frames of texts, the first of which is looked at before anything is written."""

    def __init__(self, rows: Iterator[Cells], columns: tuple[Column, ...]) -> None:
        self.rows, self.columns, self.count = rows, columns, 0
        self.names = [column.name for column in columns]
        self.first = self._next()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        frame = self.first
        while frame is not None:
            yield frame
            frame = self._next()

    def _next(self) -> pl.DataFrame | None:
        listed = [list(map(row.get, self.names)) for row in islice(self.rows, ROWS_PER_BATCH)]
        if not listed:
            return None
        self.count += len(listed)
        return pl.DataFrame(listed, schema=dict.fromkeys(self.names, pl.String), orient="row")


def _write_csv(path: Path, batches: _Batches) -> None:
    with path.open("wb") as file:
        for number, frame in enumerate(batches):
            frame.write_csv(file, include_header=number == 0)


def _write_parquet(path: Path, batches: _Batches) -> None:
    typed = methodcaller("select", [_typed(column) for column in batches.columns])
    schema = {column.name: KINDS[column.kind] for column in batches.columns}
    # The engine asks for one batch after the other and writes each as it comes.
    source = register_io_source(lambda *_wishes: map(typed, batches), schema=schema)
    source.sink_parquet(path, row_group_size=ROWS_PER_BATCH, maintain_order=True)


def _typed(column: Column) -> pl.Expr:
    text = pl.col(column.name)
    if column.kind is Kind.INSTANT:
        return text.str.to_datetime(INSTANT, time_unit="us", time_zone="UTC")
    return text.cast(KINDS[column.kind])

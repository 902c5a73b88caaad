"""Tables of any kind as batches of texts: CSV in its variants, Parquet, JSON.

It owns where rows begin and end, which columns there are and what an empty cell is; it refuses to
know what a cell means. Memory does not grow with the file, but for JSON documents, whose size
is bounded. Rows count from 1, the header aside; those of JSON lines by their line.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from tokenbudget.formats.bills.lines import Place, refuse_file
from tokenbudget.formats.bills.plain_files import Kind, PlainFile, damaged, open_plain
from tokenbudget.formats.bills.table_faults import check_widths, find_fault

ROWS_PER_BATCH: Final = 100_000
ROWS_PER_SLICE: Final = 500_000
MAX_HEADER_BYTES: Final = 1 << 20
MAX_DOCUMENT_BYTES: Final = 256 * 1024 * 1024
NULL_WORD: Final = "NULL"
SEPARATORS: Final = (",", ";", "\t")
SEMICOLON: Final = ";"
# Nested cells become JSON by standing in an object of this one name.
NEST: Final = "v"

Cells = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Table:
    """An open table; ``columns`` are the names of its header, of JSON those of its first row.

    ``separator`` is None for what is no text of separated cells.
    """

    plain: PlainFile
    columns: tuple[str, ...]
    separator: str | None = None

    @property
    def path(self) -> Path:
        """Give the file that was named, for errors."""
        return self.plain.path

    def require(self, *names: str) -> None:
        """Raise BadFile unless each of these columns is there, once."""
        counts = Counter(self.columns)
        for name in names:
            if counts[name] != 1:
                fault = "is there twice" if counts[name] else "is missing"
                raise refuse_file(self.path, f"column {name} {fault}")

    def batches(
        self,
        names: Sequence[str],
        *,
        numbers: Sequence[str] = (),
        may_be_short: bool = False,
        keeps_decimals: bool = False,
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Give the number of each batch's first row, and its cells as texts in these columns.

        Cells that are empty or ``NULL`` are null. ``numbers`` are columns whose decimal commas
        become points where semicolons separate the cells. With ``keeps_decimals`` columns that are
        decimals in the file stay so. Raises BadFile for rows that end early, unless they may, and
        for whatever else is damaged.
        """
        if self.plain.kind in (Kind.JSON_LINES, Kind.JSON_DOCUMENT):
            yield from _json_batches(self.plain, names)
            return
        try:
            if self.separator is None:
                for row, batch in _parquet_batches(self.plain, names):
                    yield row, _as_texts(batch, keeps_decimals=keeps_decimals)
            else:
                numbered = [name for name in numbers if name in names]
                yield from self._split_batches(names, self.separator, numbered, may_be_short)
        except pl.exceptions.PolarsError as error:
            if self.separator is not None:
                find_fault(self.plain, self.separator, len(self.columns))
            raise damaged(self.path, self.plain.kind, error) from None

    def _split_batches(
        self, names: Sequence[str], separator: str, numbers: Sequence[str], may_be_short: bool
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        row = 1
        has_gaps = False
        for batch in self._cells(names, separator).collect_batches(chunk_size=ROWS_PER_BATCH):
            has_gaps = has_gaps or batch[_LAST].null_count() > 0
            texts = batch.drop(_LAST)
            if separator == SEMICOLON:
                texts = _with_points(self.path, texts, numbers, row)
            yield row, texts
            row += batch.height
        if has_gaps and not may_be_short:
            check_widths(self.plain, separator, len(self.columns))

    def _cells(self, names: Sequence[str], separator: str) -> pl.LazyFrame:
        frame = pl.scan_csv(
            self.plain.content,
            infer_schema=False,
            glob=False,
            separator=separator,
            with_column_names=lambda _: list(map(str, range(len(self.columns)))),
        )
        texts = [_without_null(str(self.columns.index(name))).alias(name) for name in names]
        last = pl.col(str(len(self.columns) - 1)).alias(_LAST)
        return frame.select(*texts, last)


_LAST: Final = "\x00last"


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Give the table in a file for as long as the block runs; raises BadFile when it holds none."""
    with open_plain(path) as plain:
        if plain.kind is Kind.PARQUET:
            try:
                names = tuple(pl.read_parquet_schema(plain.content))
            except pl.exceptions.PolarsError as error:
                raise damaged(path, plain.kind, error) from None
            yield Table(plain, names)
        elif plain.kind is Kind.TEXT:
            names, separator = _read_header(plain)
            yield Table(plain, names, separator)
        else:
            first = next(_objects(plain), (1, {}))[1]
            yield Table(plain, tuple(first))


def read_rows(
    path: Path,
    *,
    required: Sequence[str] = (),
    numbers: Sequence[str] = (),
    may_be_short: bool = False,
) -> Iterator[tuple[int, Cells]]:
    """Give each row with its number and its cells by column, in the order of the file.

    Rows without any cell are passed over. ``required`` columns must be there, once; the other
    arguments and errors are those of ``Table.batches``.
    """
    with open_table(path) as table:
        table.require(*required)
        if table.plain.kind in (Kind.JSON_LINES, Kind.JSON_DOCUMENT):
            for number, row in _objects(table.plain):
                yield number, {name: _text_of(cell) for name, cell in row.items()}
            return
        names = list(dict.fromkeys(table.columns))
        batches = table.batches(names, numbers=numbers, may_be_short=may_be_short)
        numbered = (
            (number, cells)
            for first, batch in batches
            for number, cells in enumerate(batch.iter_rows(named=True), start=first)
        )
        yield from (row for row in numbered if any(cell is not None for cell in row[1].values()))


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give each object of JSON lines or of a JSON array with its number; decimals are exact."""
    with open_plain(path) as plain:
        if plain.kind not in (Kind.JSON_LINES, Kind.JSON_DOCUMENT):
            raise refuse_file(path, f"is {plain.kind.value} where JSON is needed")
        yield from _objects(plain)


def columns_of_head(head: bytes) -> tuple[str, ...]:
    """Give the names in the first line of a table, of JSON lines those of the first object.

    It is empty for what is neither.
    """
    line = head.lstrip().partition(b"\n")[0]
    if line.startswith((b"{", b"[")):
        try:
            first = json.loads(line.lstrip(b"["), parse_float=Decimal)
        except (ValueError, RecursionError):
            return ()
        return tuple(first) if isinstance(first, dict) else ()
    return _split_header(line.decode(errors="replace"))[0]


def _read_header(plain: PlainFile) -> tuple[tuple[str, ...], str]:
    with plain.content.open("rb") as file:
        line = file.readline(MAX_HEADER_BYTES).removeprefix(codecs.BOM_UTF8)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise refuse_file(plain.path, "the header is not UTF-8 text") from None
    if "\x00" in text or not text.strip():
        raise refuse_file(plain.path, "has no header line of UTF-8 text")
    return _split_header(text)


def _split_header(text: str) -> tuple[tuple[str, ...], str]:
    """Give the names and what separates them: whatever makes most of them."""
    by_separator = {
        separator: tuple(next(csv.reader([text.strip("\r\n")], delimiter=separator), ()))
        for separator in SEPARATORS
    }
    separator = max(SEPARATORS, key=lambda each: len(by_separator[each]))
    return tuple(name.strip() for name in by_separator[separator]), separator


def _parquet_batches(plain: PlainFile, names: Sequence[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Give batches a slice of the file at a time: a scan of it all would read far ahead."""
    frame = pl.scan_parquet(plain.content, glob=False).select(names)
    first = 0
    while True:
        part = frame.slice(first, ROWS_PER_SLICE).collect(engine="streaming")
        for batch in part.iter_slices(ROWS_PER_BATCH):
            yield first + 1, batch
            first += batch.height
        if part.height < ROWS_PER_SLICE:
            return


def _without_null(name: str) -> pl.Expr:
    column = pl.col(name)
    return pl.when(column != NULL_WORD).then(column)


def _as_texts(batch: pl.DataFrame, *, keeps_decimals: bool) -> pl.DataFrame:
    """Give the columns of a typed batch as texts."""
    return pl.DataFrame(
        [
            series if keeps_decimals and series.dtype.is_decimal() else _as_text(series)
            for series in batch.get_columns()
        ]
    )


def _as_text(series: pl.Series) -> pl.Series:
    kind = series.dtype
    if isinstance(kind, pl.Datetime):
        # Few instants fill many rows, and printing one costs far more than finding it.
        told = series.unique().drop_nulls()
        utc = told.dt.convert_time_zone("UTC") if kind.time_zone else told
        texts = utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
        return series.replace_strict(told, texts, default=None, return_dtype=pl.String)
    if kind.is_nested():
        nested = series.alias(NEST).to_frame().select(pl.struct(NEST).struct.json_encode())
        bare = nested.to_series().str.slice(len(NEST) + 4).str.head(-1)
        return bare.set(series.is_null(), None).alias(series.name)
    text = series if kind == pl.String else series.cast(pl.String)
    return text.set((text == NULL_WORD) | (text == ""), None)


def _with_points(path: Path, batch: pl.DataFrame, names: Sequence[str], row: int) -> pl.DataFrame:
    """Give numbers with points for decimal commas; a column that mixes both is refused."""
    for name in names:
        has_point = batch[name].str.contains(".", literal=True)
        has_comma = batch[name].str.contains(",", literal=True)
        if has_point.any() and has_comma.any():
            odd = (has_point & has_comma).arg_true()
            place = odd[0] if odd.len() else has_comma.arg_true()[0]
            rule = "some numbers have decimal commas, others points"
            raise Place(path, f"row {row + place}").refuse(name, rule)
    return batch.with_columns(
        pl.col(name).str.replace(",", ".", literal=True).alias(name) for name in names
    )


def _json_batches(plain: PlainFile, names: Sequence[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    numbered = _objects(plain)
    while batch := list(islice(numbered, ROWS_PER_BATCH)):
        columns = {
            name: pl.Series(name, [_text_of(row.get(name)) for _, row in batch], dtype=pl.String)
            for name in names
        }
        yield batch[0][0], pl.DataFrame(columns)


def _objects(plain: PlainFile) -> Iterator[tuple[int, dict[str, Any]]]:
    if plain.kind is Kind.JSON_DOCUMENT:
        yield from _checked(plain.path, enumerate(_load_document(plain), start=1))
        return
    with plain.content.open("rb") as lines:
        yield from _checked(plain.path, _parsed_lines(plain.path, lines))


def _parsed_lines(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(lines, start=1):
        bare = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if bare.strip():
            yield number, _parse_json(path, bare, f"row {number}")


def _load_document(plain: PlainFile) -> Sequence[object]:
    if plain.content.stat().st_size > MAX_DOCUMENT_BYTES:
        raise refuse_file(plain.path, f"is a JSON document of more than {MAX_DOCUMENT_BYTES} bytes")
    content = plain.content.read_bytes().removeprefix(codecs.BOM_UTF8)
    array = _parse_json(plain.path, content, "the document")
    return array if isinstance(array, list) else [array]


def _parse_json(path: Path, content: bytes, where: str) -> object:
    try:
        return json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise refuse_file(path, f"{where} is not JSON, or is cut short: {error}") from None


def _checked(
    path: Path, rows: Iterable[tuple[int, object]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in rows:
        if not isinstance(row, dict):
            raise refuse_file(path, f"row {number} is no JSON object")
        yield number, row


def _text_of(cell: object) -> str | None:
    """Give a cell of JSON as text: nested ones as JSON, numbers with every digit."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, dict | list):
        return json.dumps(cell, default=str, sort_keys=True, ensure_ascii=False)
    text = None if cell is None else str(cell)
    return None if text in ("", NULL_WORD) else text

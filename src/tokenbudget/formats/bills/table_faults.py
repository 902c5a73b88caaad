"""What is wrong with a text of separated cells, found row by row once something is.

It owns telling rows that end early, quotes that never close and bytes that are no UTF-8; it refuses
to read cells for their meaning.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills.plain_files import CHUNK_BYTES, PlainFile


def check_widths(plain: PlainFile, separator: str, width: int) -> None:
    """Raise BadFile naming the first row that has fewer cells than the header.

    Separators are counted in the file and in its cells; only when they do not come out is the file
    read once more, row by row.
    """
    frame = pl.scan_csv(plain.content, infer_schema=False, glob=False, separator=separator)
    inside = [pl.all().str.count_matches(separator, literal=True).sum().cast(pl.UInt64)]
    is_blank = pl.all_horizontal(pl.all().is_null()).sum().alias("\x00blank")
    counted = frame.select(pl.len().alias("\x00rows"), is_blank, *inside).collect(
        engine="streaming"
    )
    rows, blank, *within = counted.row(0)
    expected = (rows + 1) * (width - 1) + sum(within) + _in_header(plain, separator)
    missing = expected - _count(plain.content, separator.encode())
    if width > 1 and (missing % (width - 1) or not 0 <= missing // (width - 1) <= blank):
        find_fault(plain, separator, width)


def find_fault(plain: PlainFile, separator: str, width: int) -> None:
    """Raise BadFile naming the first row that is broken, if one is."""
    with plain.content.open("rb") as file:
        reader = csv.reader(_decoded(file), delimiter=separator, strict=True)
        row = 0
        try:
            for row, cells in enumerate(reader):
                _require_width(plain, row, len(cells), width)
        except csv.Error as error:
            raise _refuse(plain, row + 1, f"the row is cut short or damaged: {error}") from None
        except UnicodeDecodeError:
            raise _refuse(plain, row + 1, "the text is not UTF-8") from None


def _require_width(plain: PlainFile, row: int, cells: int, width: int) -> None:
    if cells not in (0, width):
        kind = "short" if cells < width else "long"
        raise _refuse(plain, row, f"the row is too {kind}: {cells} cells of {width}")


def _decoded(file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file):
        yield (line.removeprefix(codecs.BOM_UTF8) if number == 0 else line).decode()


def _refuse(plain: PlainFile, row: int, rule: str) -> BadFile:
    name = plain.path.name
    return BadFile(f"{name}: row {row}: {rule}", file=name, row=f"row {row}", rule=rule)


def _in_header(plain: PlainFile, separator: str) -> int:
    with plain.content.open("rb") as file:
        header = next(csv.reader(_decoded(file), delimiter=separator))
    return sum(name.count(separator) for name in header)


def _count(path: Path, mark: bytes) -> int:
    with path.open("rb") as file:
        return sum(piece.count(mark) for piece in iter(lambda: file.read(CHUNK_BYTES), b""))

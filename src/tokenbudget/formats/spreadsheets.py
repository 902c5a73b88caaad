"""CSV that people open in a spreadsheet.

It owns quoting and the defence against formulas; it refuses to name columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

Cell = str | int | None

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Give a header line and one line a row (RFC 4180); None is empty, text is never a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([escape_formula(column) for column in columns])
    writer.writerows([escape_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def escape_formula(cell: Cell) -> Cell:
    """Give the cell, with an apostrophe before text that a spreadsheet would run as a formula."""
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell

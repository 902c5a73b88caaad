"""Cells of files of single calls: whole structures in a cell, instants of several spellings.

It owns how such a cell is read; it refuses to know any program's fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from tokenbudget.formats.bills.cells import instant_cell
from tokenbudget.formats.bills.lines import Place, shown

# PostgreSQL prints "2026-09-01 10:00:00.123+00".
SHORT_OFFSET: Final = re.compile(r"\+00$")
TRUE_WORDS: Final = frozenset({"true", "t", "1"})


def structure_cell(cell: object, place: Place, column: str) -> Any:
    """Give what the JSON of a cell says, with exact decimals; None when it is absent or empty."""
    if cell is None or not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError):
        raise place.refuse(column, f"{shown(cell)} is not JSON") from None


def object_cell(cell: object, place: Place, column: str) -> Mapping[str, Any]:
    """Give the object of a cell, an empty one when it is absent or null."""
    found = structure_cell(cell, place, column)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise place.refuse(column, f"{shown(cell)} is not a JSON object")
    return found


def time_cell(cell: object, place: Place, column: str) -> datetime:
    """Give the instant of a text; one without a zone is UTC."""
    text = SHORT_OFFSET.sub("Z", cell) if isinstance(cell, str) else cell
    return instant_cell(text, place, column)


def is_true(cell: object) -> bool:
    """Tell whether a cell says yes, in whatever spelling."""
    return isinstance(cell, str) and cell.lower() in TRUE_WORDS


def texts_of(pairs: Mapping[str, object]) -> dict[str, str]:
    """Give the texts that are there and not empty."""
    return {name: value for name, value in pairs.items() if isinstance(value, str) and value}

"""A digest of what a provider says about a day, so that the same said again is known as such.

It owns the canonical text; it refuses bytes as they came: an order of rows or of keys, a number
told as a text, or an added key that nobody reads is no restatement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Final

from tokenbudget.domain.periods import Period, format_instant
from tokenbudget.formats.bills.lines import BillEntry

# Where a line stands says nothing about what it says.
LEFT_OUT: Final = frozenset({"row_number"})


def digest_entries(entries: Iterable[BillEntry], *, name: str, generation: int) -> str:
    """Give 64 hex digits for these entries in any order, as the ``generation``-th telling of name.

    Counting the tellings keeps a day apart that goes back to what it said before: A, B, A are
    three.
    """
    lines = sorted(json.dumps(_plain(entry), sort_keys=True) for entry in entries)
    text = "\n".join([name, str(generation), *lines])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(entry: BillEntry) -> dict[str, object]:
    told = {each.name: _cell(getattr(entry, each.name)) for each in fields(entry)}
    kept = {name: cell for name, cell in told.items() if name not in LEFT_OUT}
    return {"kind": type(entry).__name__, **kept}


def _cell(cell: object) -> object:
    match cell:
        case Decimal():
            return _number(cell)
        case Period():
            return [format_instant(cell.start), format_instant(cell.end)]
        case Mapping():
            return {str(key): _cell(value) for key, value in cell.items()}
        case _:
            return cell


def _number(number: Decimal) -> str:
    """Give the number without the zeros that do not matter; no context may round it."""
    if number.is_zero():
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

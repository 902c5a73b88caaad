"""Further cells that several sources share: counts, days, instants and exact factors.

It owns how such a cell is read and what is said when it cannot be; the cells every bill has are in
``lines.py``. It refuses to know any provider's shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.money import EXACT
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.lines import Place, decimal_cell, parse_utc, shown, text_cell
from tokenbudget.formats.bills.tables import columns_of_head

MAX_COUNT: Final = 2**63 - 1
MAX_UNIX_SECONDS: Final = 253_402_300_799
ONE_DAY: Final = timedelta(days=1)
DAY: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ]00:00:00(?:\.0{1,9})?(?:Z|\+00:00)?)?", re.ASCII
)
CENT: Final = Decimal("0.01")


def multiply_exactly(amount: Decimal, factor: Decimal) -> Decimal:
    """Give the product, whatever the number of digits."""
    return EXACT.multiply(amount, factor)


def count_cell(cell: object, place: Place, column: str) -> int | None:
    """Give the whole number, also of ``59200.0``; None when the cell is absent or empty."""
    if cell is None or cell == "":
        return None
    number = decimal_cell(cell, place, column)
    if number != number.to_integral_value() or not 0 <= number <= MAX_COUNT:
        raise place.refuse(column, f"{shown(cell)} is not a count")
    return int(number)


def day_cell(cell: object, place: Place, column: str) -> Period:
    """Give the UTC day of a date, with or without a midnight behind it."""
    match = DAY.fullmatch(cell) if isinstance(cell, str) else None
    try:
        start = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match else None
    except ValueError:
        start = None
    if start is None:
        raise place.refuse(column, f"{shown(cell)} is not a UTC day such as 2026-09-01")
    return Period(start, start + ONE_DAY)


def instant_cell(cell: object, place: Place, column: str) -> datetime:
    """Give the instant of an RFC 3339 text; one without a zone is UTC."""
    instant = parse_utc(cell) if isinstance(cell, str) else None
    if instant is None:
        raise place.refuse(column, f"{shown(cell)} is not a UTC time such as 2026-09-01T00:00:00Z")
    return instant


def unix_cell(cell: object, place: Place, column: str) -> datetime:
    """Give the instant of whole Unix seconds."""
    if isinstance(cell, bool) or not isinstance(cell, int) or not 0 <= cell <= MAX_UNIX_SECONDS:
        raise place.refuse(column, f"{shown(cell)} is not a time in whole Unix seconds")
    return datetime.fromtimestamp(cell, tz=UTC)


def day_of(instant: datetime) -> Period:
    """Give the UTC day that holds the instant."""
    start = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(start, start + ONE_DAY)


def facts_of(row: Mapping[str, object], columns: Mapping[str, str], place: Place) -> dict[str, str]:
    """Give the texts of these columns that are there, under the names that ``columns`` gives."""
    facts = {name: text_cell(row.get(column), place, column) for column, name in columns.items()}
    return {name: fact for name, fact in facts.items() if fact is not None}


def counts_of(
    row: Mapping[str, object], columns: Mapping[str, str], place: Place
) -> dict[str, int]:
    """Give the counts of these columns that are told, under the units that ``columns`` gives."""
    counts = {unit: count_cell(row.get(column), place, column) for column, unit in columns.items()}
    return {unit: count for unit, count in counts.items() if count is not None}


def category_of(model: str | None, billed: Decimal) -> ChargeCategory:
    """Give the category where a bill does not tell it.

    Money given back that names no model is what a credit looks like.
    """
    return ChargeCategory.CREDIT if model is None and billed < 0 else ChargeCategory.USAGE


def looks_like(head: bytes, *names: str) -> bool:
    """Tell whether a table of these columns begins like this, be it CSV, JSON or Parquet."""
    if set(names).issubset(columns_of_head(head)):
        return True
    text = head.decode(errors="ignore")
    return text.lstrip()[:1] in ("{", "[") and all(f'"{name}"' in text for name in names)

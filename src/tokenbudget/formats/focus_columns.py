"""The columns of a FOCUS file by version: names, kinds, what may be null and what is allowed.

It owns the table that ships beside it (``focus_columns.csv``: FOCUS Cost and Usage, versions 1.2 to
1.4, CC BY 4.0) and the custom columns after it; it refuses to fill a single cell.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Final

from tokenbudget.domain.errors import InvalidInput

DEFAULT_VERSION: Final = "1.2"
VERSIONS: Final = (DEFAULT_VERSION, "1.3", "1.4")
TABLE: Final = "focus_columns.csv"
COMMENT: Final = "#"
YES: Final = "yes"


class Kind(StrEnum):
    """What a column holds; JSON is a flat object as text, COUNT a whole number."""

    TEXT = "text"
    JSON = "json"
    DECIMAL = "decimal"
    INSTANT = "instant"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; no ``allowed_values`` means any, and ``is_signed`` is for decimals."""

    name: str
    kind: Kind
    is_required: bool = False
    is_signed: bool = True
    allowed_values: tuple[str, ...] = ()
    first_version: str = VERSIONS[0]
    last_version: str = VERSIONS[-1]


CUSTOM_COLUMNS: Final = (
    Column("x_AllocationMethod", Kind.TEXT),
    Column("x_AllocationRule", Kind.TEXT),
    Column("x_ChargeKey", Kind.TEXT, is_required=True),
    Column("x_CostSource", Kind.TEXT, is_required=True),
    Column("x_Model", Kind.TEXT),
    Column("x_Team", Kind.TEXT),
    Column("x_TokenType", Kind.TEXT),
    Column("x_UnpricedEventCount", Kind.COUNT),
    Column("x_UsageEventCount", Kind.COUNT),
)
"""Columns that FOCUS does not have; they come after its own, as it asks."""


@lru_cache(maxsize=len(VERSIONS))
def columns_of(version: str) -> tuple[Column, ...]:
    """Give every column of a version in the order they are written, custom ones last.

    Raises InvalidInput for a version that is not written.
    """
    if version not in VERSIONS:
        raise InvalidInput(
            f"version {version!r} is not one of {', '.join(VERSIONS)}", field="version"
        )
    listed = [
        column for column in _table() if column.first_version <= version <= column.last_version
    ]
    return (*listed, *CUSTOM_COLUMNS)


def _table() -> list[Column]:
    text = files(__package__).joinpath(TABLE).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(COMMENT)]
    return [
        Column(
            row["name"],
            Kind(row["kind"]),
            row["is_required"] == YES,
            row["is_signed"] == YES,
            tuple(value for value in row["allowed_values"].split(";") if value),
            row["first_version"],
            row["last_version"],
        )
        for row in csv.DictReader(lines)
    ]

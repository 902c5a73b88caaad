"""What every bill is turned into, and the checks every bill shares.

It owns the line, the cells it is built from and the wording of what is wrong with one; it refuses
to know any provider's shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.money import MAX_NANOS, NANO_DIGITS
from tokenbudget.domain.months import month_at
from tokenbudget.domain.periods import Period
from tokenbudget.formats.wire import UNSTORABLE

MAX_DECIMALS: Final = 40
MAX_WHOLE_DIGITS: Final = 19
MAX_AMOUNT: Final = Decimal(MAX_NANOS).scaleb(-NANO_DIGITS)
MAX_TEXT_LENGTH: Final = 8_192
MAX_SHOWN_LENGTH: Final = 80
CACHED_INSTANTS: Final = 4_096

NUMBER: Final = re.compile(r"[+-]?\d{1,60}(\.\d{1,60})?([eE][+-]?\d{1,3})?", re.ASCII)
INSTANT: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(?:Z|\+00:00)?", re.ASCII
)
CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line a provider billed.

    ``period`` is what the line is billed for, in UTC; ``billing_month`` (year * 100 + month) is the
    invoice that carries it, the month the period begins in unless the bill says another.
    ``billed``, ``listed`` (the published price, None when the bill does not say) and ``effective``
    (amortised, None when it is what is billed) are exact amounts of ``currency`` and may be
    negative. ``account`` is empty when the bill does not name it; ``project`` and ``api_key`` are
    ids of the provider. ``model`` and ``description`` are the provider's own text; ``usage_type``
    is a unit of the ledger (``cached_input_tokens``), or the provider's word for what is none.
    ``is_correction`` tells a line that amends an earlier invoice. ``tags`` are the provider's tags,
    and under ``x_`` further facts of the line. ``row_number`` counts the lines of the file from 1;
    of ``folded_rows`` rows that say the same but for hour and amount it is the first one's.
    """

    row_number: int
    provider: str
    account: str
    period: Period
    category: ChargeCategory
    billed: Decimal
    currency: str
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    usage_type: str | None = None
    description: str | None = None
    quantity: Decimal | None = None
    unit: str | None = None
    listed: Decimal | None = None
    effective: Decimal | None = None
    invoice_ref: str | None = None
    is_correction: bool = False
    month: int | None = None
    folded_rows: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def billing_month(self) -> int:
        """Give the month of the invoice, as year * 100 + month."""
        return self.month or month_at(self.period.start)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What a provider says was used in a period: evidence, never spend.

    ``quantities`` are by unit of the ledger, so ``input_tokens`` is the total with cache reads and
    writes inside; a unit that the provider does not report is left out. ``requests`` is None when
    it is not told. The ids are the provider's, as in a ``BillLine``.
    """

    row_number: int
    provider: str
    account: str
    period: Period
    quantities: Mapping[str, int]
    requests: int | None = None
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    service_tier: str | None = None
    region: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmptyPeriod:
    """A period that the file covers and in which the account was billed nothing."""

    account: str
    period: Period


BillEntry = BillLine | UsageLine | EmptyPeriod


class Replaces(Enum):
    """What of its source and account a file puts in the place of earlier files.

    DAY: within each billing month, every UTC day it covers, and every longer period that it names
    itself. MONTH: every billing month it covers, wholly, since the source sends whole months again
    and again.
    """

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a file, to say where something is wrong; ``row`` is such as ``row 3``.

    ``columns`` has the file's own names of columns that go by others here.
    """

    path: Path
    row: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, column: str, rule: str) -> BadFile:
        """Give the error that names file, row, column and rule."""
        column = self.columns.get(column, column)
        detail = f"{self.path.name}: {self.row}, column {column}: {rule}"
        return BadFile(detail, file=self.path.name, row=self.row, column=column, rule=rule)


def refuse_file(path: Path, rule: str) -> BadFile:
    """Give the error about a file as a whole."""
    return BadFile(f"{path.name}: {rule}", file=path.name, rule=rule)


def decimal_cell(cell: object, place: Place, column: str) -> Decimal:
    """Give the exact number of a text, an integer or a decimal; never of a float."""
    if isinstance(cell, str):
        number = Decimal(cell) if NUMBER.fullmatch(cell) else None
    else:
        is_number = isinstance(cell, int | Decimal) and not isinstance(cell, bool)
        number = Decimal(str(cell)) if is_number else None
    if number is None or not number.is_finite():
        raise place.refuse(column, f"{shown(cell)} is not a decimal number")
    _, digits, exponent = number.as_tuple()
    decimals = -int(exponent)
    if decimals > MAX_DECIMALS or len(digits) - decimals > MAX_WHOLE_DIGITS:
        raise place.refuse(
            column,
            f"{shown(cell)} has more than {MAX_WHOLE_DIGITS} digits before or {MAX_DECIMALS} after"
            " the point",
        )
    return number


def amount_cell(cell: object, place: Place, column: str) -> Decimal:
    """Give the exact amount; it must fit into the ledger's 64 bits of nanos."""
    amount = decimal_cell(cell, place, column)
    if amount.copy_abs() > MAX_AMOUNT:
        raise place.refuse(column, f"{shown(cell)} is above {MAX_AMOUNT}")
    return amount


def text_cell(cell: object, place: Place, column: str) -> str | None:
    """Give the text, None when the cell is absent or empty; it must be storable as it is."""
    if cell is None or cell == "":
        return None
    if not isinstance(cell, str):
        raise place.refuse(column, f"{shown(cell)} is not a text")
    if len(cell) > MAX_TEXT_LENGTH:
        raise place.refuse(column, f"the text is longer than {MAX_TEXT_LENGTH} characters")
    if UNSTORABLE.search(cell):
        raise place.refuse(column, "the text holds characters that no database stores")
    return cell


def required_text_cell(cell: object, place: Place, column: str) -> str:
    """Give the text, which must be there."""
    text = text_cell(cell, place, column)
    if text is None:
        raise place.refuse(column, "must not be null")
    return text


def parsed_cell(
    cell: object, place: Place, column: str, parse: Callable[[str], datetime | None], example: str
) -> datetime:
    """Give the instant that ``parse`` makes of the text, which must be there and like the example.

    ``example`` is such as ``a day such as 09/02/2026``.
    """
    text = required_text_cell(cell, place, column)
    instant = parse(text)
    if instant is None:
        raise place.refuse(column, f"{shown(text)} is not {example}")
    return instant


def currency_cell(cell: object, place: Place, column: str) -> str:
    """Give the currency, which must be three capital letters (ISO 4217)."""
    text = required_text_cell(cell, place, column)
    if not CURRENCY.fullmatch(text):
        raise place.refuse(column, f"{text!r} is not a currency of three capital letters")
    return text


def period_of(start: datetime, end: datetime, place: Place, column: str) -> Period:
    """Give the half-open period; the end must come after the start."""
    if start >= end:
        raise place.refuse(column, "the period must end after it starts")
    return Period(start, end)


@lru_cache(maxsize=CACHED_INSTANTS)
def parse_utc(text: str) -> datetime | None:
    """Give the instant of ``2026-09-01T00:00:00Z`` or ``2026-09-01 00:00:00``, else None.

    A time without a zone is UTC: FOCUS demands it, and files that print the space leave the zone
    out.
    """
    match = INSTANT.fullmatch(text)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=UTC)
    except ValueError:
        return None


def shown(cell: object) -> str:
    """Give the cell as an error may quote it: one line, shortened."""
    text = repr(cell)
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"

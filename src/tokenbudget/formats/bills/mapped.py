"""Any table as a bill, by a mapping file (``formats/bill_mapping.py``).

It owns how a cell is read by the formats the file names: dates, decimal commas, marks between
thousands, amounts in cents. It refuses to guess: a cell that does not fit stops the import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bill_mapping import BillMapping
from tokenbudget.formats.bills import BillFormat
from tokenbudget.formats.bills.cells import day_cell, day_of, instant_cell, multiply_exactly
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    period_of,
    required_text_cell,
    shown,
    text_cell,
)
from tokenbudget.formats.bills.tables import Cells, read_rows

MONTH: Final = re.compile(r"(\d{4})-?(0[1-9]|1[0-2])", re.ASCII)
POINT: Final = "."


def mapped_format(mapping: BillMapping) -> BillFormat:
    """Give the format of files that are read by this mapping; no content shows that one is."""
    return BillFormat(
        source=mapping.source,
        recognises=lambda _head: False,
        read=lambda path: read_mapped(path, mapping),
        meaning=mapping.text,
    )


def read_mapped(path: Path, mapping: BillMapping) -> Iterator[BillEntry]:
    """Give the lines in order; raises BadFile naming the row, the column and the rule."""
    for number, row in read_rows(path, required=mapping.needed_columns):
        yield _Row(row, number, Place(path, f"row {number}"), mapping).line()


class _Row:
    """One row of a table beside what its columns mean."""

    def __init__(self, row: Cells, number: int, place: Place, mapping: BillMapping) -> None:
        self.row = row
        self.number = number
        self.place = place
        self.mapping = mapping

    def line(self) -> BillLine:
        """Give the line of the row."""
        mapping = self.mapping
        quantity = self._number("quantity")
        return BillLine(
            row_number=self.number,
            provider=required_text_cell(self._cell("provider"), self.place, self._name("provider")),
            account=self._text("account") or "",
            period=self._period(),
            category=self._category(),
            billed=self._billed(),
            currency=currency_cell(
                (self._cell("currency") or "").upper(), self.place, self._name("currency")
            ),
            project=self._text("project"),
            api_key=self._text("api_key"),
            model=self._text("model"),
            usage_type=self._text("usage_type"),
            description=self._text("description"),
            quantity=None
            if quantity is None
            else multiply_exactly(quantity, mapping.quantity_unit),
            unit=self._text("unit"),
            listed=self._amount("listed"),
            invoice_ref=self._text("invoice_ref"),
            month=self._month(),
            tags=self._tags(),
        )

    def _name(self, field: str) -> str:
        return self.mapping.columns.get(field, field)

    def _cell(self, field: str) -> str | None:
        column = self.mapping.columns.get(field)
        return self.mapping.constants.get(field) if column is None else self.row.get(column)

    def _text(self, field: str) -> str | None:
        return text_cell(self._cell(field), self.place, self._name(field))

    def _number(self, field: str) -> Decimal | None:
        cell = self._cell(field)
        if cell is None:
            return None
        decimal_mark, thousands_mark = self.mapping.decimal_mark, self.mapping.thousands_mark
        text = cell.strip()
        if thousands_mark is not None:
            text = text.replace(thousands_mark, "")
        if decimal_mark is not None and decimal_mark != POINT:
            if POINT in text:
                rule = f"{shown(cell)} has a point where decimals follow a {decimal_mark!r}"
                raise self.place.refuse(self._name(field), rule)
            text = text.replace(decimal_mark, POINT)
        return decimal_cell(text, self.place, self._name(field))

    def _amount(self, field: str) -> Decimal | None:
        number = self._number(field)
        if number is None:
            return None
        amount = multiply_exactly(number, self.mapping.amount_unit)
        return amount_cell(amount, self.place, self._name(field))

    def _billed(self) -> Decimal:
        amount = self._amount("amount")
        if amount is None:
            raise self.place.refuse(self._name("amount"), "must not be null")
        return amount

    def _period(self) -> Period:
        if "day" in self.mapping.columns:
            if self.mapping.day_format is None:
                return day_cell(self._cell("day"), self.place, self._name("day"))
            return day_of(self._instant("day"))
        start, end = self._instant("start"), self._instant("end")
        return period_of(start, end, self.place, self._name("end"))

    def _instant(self, field: str) -> datetime:
        cell, name, day_format = self._cell(field), self._name(field), self.mapping.day_format
        if day_format is None:
            is_day = cell is not None and len(cell) == len("2026-09-01")
            if is_day:
                return day_cell(cell, self.place, name).start
            return instant_cell(cell, self.place, name)
        try:
            return datetime.strptime(cell or "", day_format).replace(tzinfo=UTC)
        except ValueError:
            rule = f"{shown(cell)} is not of the form {day_format}"
            raise self.place.refuse(name, rule) from None

    def _category(self) -> ChargeCategory:
        for rule in self.mapping.rules:
            if rule.fits(self.row.get(rule.column)):
                return rule.category
        return ChargeCategory.USAGE

    def _month(self) -> int | None:
        cell = self._cell("month")
        if cell is None:
            return None
        match = MONTH.fullmatch(cell)
        if match is None:
            raise self.place.refuse(
                self._name("month"), f"{shown(cell)} is not a month such as 2026-09"
            )
        return int(match[1] + match[2])

    def _tags(self) -> dict[str, str]:
        tags = {
            name: text_cell(self.row.get(column), self.place, column)
            for name, column in self.mapping.tags.items()
        }
        return {name: value for name, value in tags.items() if value is not None}

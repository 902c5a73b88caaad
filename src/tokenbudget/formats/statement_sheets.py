"""A statement's document as an Excel workbook: Summary, totals, Lines, Differences.

It owns sheets, columns and sums; it refuses to group rows. Amounts are numbers, written from exact
decimals, and sums are formulas that carry their result. Text is never a formula. The same facts
give the same bytes: the only time in the file is that of the statement.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from xlsxwriter import Workbook
from xlsxwriter.utility import xl_range

from tokenbudget.domain.cents import MINOR_DIGITS, USUAL_DIGITS
from tokenbudget.domain.errors import TooLarge
from tokenbudget.domain.months import format_month
from tokenbudget.domain.statements import StatementLine
from tokenbudget.formats.spreadsheets import escape_formula
from tokenbudget.formats.statement_report import (
    StatementFacts,
    StatementReport,
    differences_in_scope,
    lines_in_scope,
)
from tokenbudget.formats.statement_totals import Split, TotalTable
from tokenbudget.formats.statement_words import decimal_text

MAX_ROWS: Final = 1_000_000
"""Excel has 1,048,576 rows a sheet."""
LINE_HEADINGS: Final = (
    ("Service month", 13),
    ("Corrects", 16),
    ("Cost centre", 16),
    ("Team", 22),
    ("Feature", 22),
    ("Tenant", 18),
    ("Provider", 14),
    ("Account", 18),
    ("Model", 24),
    ("Origin", 12),
    ("Method", 15),
    ("Rule", 18),
    ("Requests", 11),
    ("Tokens", 15),
    ("Metered", 14),
    ("Amount", 14),
)
SPLIT_HEADINGS: Final = ("Usage", "Untracked", "Shared", "Corrections", "Total")
ODD_IN_SHEET_NAMES: Final = str.maketrans(dict.fromkeys("[]:*?/\\", "-"))

Cell = str | int | Decimal | None


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    width: int
    is_amount: bool = False


@dataclass(frozen=True, slots=True)
class _Book:
    workbook: Any
    styles: dict[str, Any]
    currency: str

    def amount(self, nanos: int) -> Decimal:
        """Give whole cents exactly; what is finer is rounded half to even."""
        return Decimal(decimal_text(nanos, self.currency))


def statement_xlsx(facts: StatementFacts, report: StatementReport) -> bytes:
    """Give the workbook; raises TooLarge where a sheet cannot hold the rows."""
    file = io.BytesIO()
    workbook = Workbook(file, {"in_memory": True, "strings_to_formulas": False})
    header = facts.statement.header
    workbook.set_properties(
        {
            "title": f"LLM cost statement {report.name}, {report.about}",
            "created": _naive_utc(header.closed_at or header.known_at),
        }
    )
    book = _Book(workbook, _styles(workbook, header.currency), header.currency)
    _write_summary(book, report)
    for table in report.totals:
        _write_totals(book, table)
    _write_lines(book, facts)
    _write_differences(book, facts)
    workbook.close()
    return file.getvalue()


def _naive_utc(instant: datetime) -> datetime:
    """Give what the library writes with a Z behind it."""
    return instant.astimezone(UTC).replace(microsecond=0, tzinfo=None)


def _styles(workbook: Any, currency: str) -> dict[str, Any]:
    digits = MINOR_DIGITS.get(currency, USUAL_DIGITS)
    number = f"#,##0{'.' if digits else ''}{'0' * digits}"
    amount = f"{number};[Red]-{number}"
    return {
        "title": workbook.add_format({"bold": True, "font_size": 16}),
        "heading": workbook.add_format({"bold": True, "bottom": 1, "text_wrap": True}),
        "label": workbook.add_format({"font_color": "#59636e"}),
        "text": workbook.add_format({}),
        "wrapped": workbook.add_format({"text_wrap": True, "valign": "top"}),
        "mark": workbook.add_format({"bold": True, "font_color": "#b3261e"}),
        "amount": workbook.add_format({"num_format": amount}),
        "count": workbook.add_format({"num_format": "#,##0"}),
        "total": workbook.add_format({"bold": True, "top": 1, "num_format": amount}),
        "total_text": workbook.add_format({"bold": True, "top": 1}),
    }


def _write_summary(book: _Book, report: StatementReport) -> None:
    sheet = book.workbook.add_worksheet("Summary")
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 3, 20)
    sheet.set_column(4, 6, 16)
    sheet.write_string(0, 0, f"LLM cost statement, {report.month}", book.styles["title"])
    sheet.write_string(1, 0, " · ".join(filter(None, (report.scope, report.about))))
    sheet.write_string(2, 0, f"{report.mark} {report.notice}".strip(), book.styles["mark"])
    row = 4
    for fact in report.facts:
        sheet.write_string(row, 0, fact.label, book.styles["label"])
        sheet.write_string(row, 1, str(escape_formula(fact.text)))
        row += 1
    parts = [(name, getattr(report.split, name.lower())) for name in SPLIT_HEADINGS[:-1]]
    row = _write_block(
        book,
        sheet,
        row + 1,
        ("What it is made of", "", "", "Amount"),
        [(name, None, None, book.amount(part.nanos)) for name, part in parts],
    )
    invoices = report.invoices.lines
    headings = ("Invoices, month", "Provider", "Account", "Invoiced", "Allocated", "Gap")
    row = _write_block(
        book,
        sheet,
        row + 1,
        headings,
        [
            (
                each.month,
                each.provider,
                each.account,
                *(book.amount(side.nanos) for side in (each.invoiced, each.allocated, each.gap)),
            )
            for each in invoices
        ],
    )
    for note in report.notes:
        row += 1
        sheet.write_string(row, 0, note.subject, book.styles["label"])
        sheet.write_string(row, 1, str(escape_formula(note.text)))
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)


def _write_block(
    book: _Book, sheet: Any, row: int, headings: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> int:
    """Write a small table with its sums and give the row behind it."""
    for column, heading in enumerate(headings):
        sheet.write_string(row, column, heading, book.styles["heading"])
    for number, cells in enumerate(rows, start=row + 1):
        _write_cells(book, sheet, number, cells)
    last = row + len(rows)
    sheet.write_string(last + 1, 0, "Total", book.styles["total_text"])
    for column in range(1, len(headings)):
        amounts = [cell for cells in rows if isinstance(cell := cells[column], Decimal)]
        if not amounts:
            sheet.write_blank(last + 1, column, None, book.styles["total_text"])
            continue
        span = xl_range(row + 1, column, last, column)
        result = sum(amounts, Decimal(0))
        sheet.write_formula(last + 1, column, f"=SUM({span})", book.styles["total"], result)
    return last + 2


def _write_totals(book: _Book, table: TotalTable) -> None:
    is_by_team = table.dimension == "team"
    columns = [_Column(table.heading, 32)]
    if is_by_team:
        columns.append(_Column("Cost centre", 18))
    columns += [_Column(name, 15, is_amount=True) for name in SPLIT_HEADINGS]

    def cells(name: str, center: str, split: Split) -> Sequence[Cell]:
        parts = [getattr(split, part.lower()) for part in SPLIT_HEADINGS]
        named = (name, center) if is_by_team else (name,)
        return (*named, *(book.amount(part.nanos) for part in parts))

    rows = [cells(line.name, line.cost_center, line.split) for line in table.lines]
    if table.hidden:
        rows.append(cells(f"{table.hidden} more", "", table.rest))
    _write_table(book, f"By {table.heading.lower()}", columns, rows)


def _write_lines(book: _Book, facts: StatementFacts) -> None:
    columns = [_Column(name, width, name in ("Metered", "Amount")) for name, width in LINE_HEADINGS]
    rows = [_line_cells(book, line, 1) for line in lines_in_scope(facts)]
    _write_table(book, "Lines", columns, rows)


def _write_differences(book: _Book, facts: StatementFacts) -> None:
    columns = [_Column("Carried by", 22)]
    columns += [
        _Column(name, width, name in ("Metered", "Amount")) for name, width in LINE_HEADINGS
    ]
    rows = [
        (each.carrier, *_line_cells(book, each.line, each.sign))
        for each in differences_in_scope(facts)
    ]
    _write_table(book, "Differences", columns, rows)


def _line_cells(book: _Book, line: StatementLine, sign: int) -> Sequence[Cell]:
    key, metered = line.key, line.metered_nanos
    return (
        format_month(key.service_month),
        line.corrects,
        key.cost_center,
        key.team,
        key.feature,
        key.tenant,
        key.provider,
        key.account,
        key.model,
        key.origin.value,
        key.method.value,
        key.rule,
        sign * line.requests,
        sign * line.tokens,
        None if metered is None else book.amount(sign * metered),
        book.amount(sign * line.amount_nanos),
    )


def _write_table(
    book: _Book, name: str, columns: Sequence[_Column], rows: Sequence[Sequence[Cell]]
) -> None:
    """Write a sheet: sums, headings that stay in sight, and rows that can be filtered."""
    sheet = book.workbook.add_worksheet(name.translate(ODD_IN_SHEET_NAMES))
    if len(rows) > MAX_ROWS:
        raise TooLarge(f"{len(rows)} rows are more than a sheet holds: take csv", field="format")
    last = 1 + max(len(rows), 1)
    for place, column in enumerate(columns):
        sheet.set_column(place, place, column.width)
        sheet.write_string(1, place, column.heading, book.styles["heading"])
        if column.is_amount:
            # SUBTOTAL 9 follows the filter, and leaves out what it hides.
            span = xl_range(2, place, last, place)
            result = _total(row[place] for row in rows)
            sheet.write_formula(0, place, f"=SUBTOTAL(9,{span})", book.styles["total"], result)
    sheet.write_string(0, 0, f"Sum, {book.currency}", book.styles["label"])
    for number, cells in enumerate(rows, start=2):
        _write_cells(book, sheet, number, cells)
    sheet.freeze_panes(2, 1)
    sheet.autofilter(1, 0, last, len(columns) - 1)
    sheet.repeat_rows(1)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)


def _total(cells: Iterable[Cell]) -> Decimal:
    return sum((cell for cell in cells if isinstance(cell, Decimal)), Decimal(0))


def _write_cells(book: _Book, sheet: Any, row: int, cells: Sequence[Cell]) -> None:
    for place, cell in enumerate(cells):
        if isinstance(cell, Decimal):
            sheet.write_number(row, place, cell, book.styles["amount"])
        elif isinstance(cell, int):
            sheet.write_number(row, place, cell, book.styles["count"])
        elif cell is not None:
            sheet.write_string(row, place, str(escape_formula(cell)))

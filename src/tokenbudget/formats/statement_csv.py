"""A statement's document as one tidy CSV.

It owns the columns; it refuses to group rows. Amounts are decimals with the digits of the currency.

The rows of the table ``line`` add up to that of ``total``, and so do those of ``invoice``. Those of
``difference`` are what as incurred has more than as invoiced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month
from tokenbudget.domain.statements import StatementLine
from tokenbudget.formats.spreadsheets import Cell, write_csv
from tokenbudget.formats.statement_report import (
    StatementFacts,
    differences_in_scope,
    lines_in_scope,
)
from tokenbudget.formats.statement_words import decimal_text

COLUMNS: Final = (
    "statement",
    "period",
    "version",
    "state",
    "currency",
    "table",
    "service_month",
    "corrects",
    "carried_by",
    "cost_center",
    "team",
    "feature",
    "tenant",
    "provider",
    "account",
    "model",
    "origin",
    "method",
    "rule",
    "requests",
    "tokens",
    "metered_cost",
    "amount",
)

Cells = Mapping[str, Cell]


def statement_csv(facts: StatementFacts) -> str:
    """Give the CSV text: the total, the invoices, every row, and the differences of the views."""
    header = facts.statement.header
    whole: Cells = {
        "statement": header.statement_id,
        "period": format_month(header.month),
        "version": header.version,
        "state": header.state.value,
        "currency": header.currency,
    }
    rows = ({**whole, **cells} for cells in _rows(facts))
    return write_csv(COLUMNS, ([cells.get(column) for column in COLUMNS] for cells in rows))


def _rows(facts: StatementFacts) -> Iterator[Cells]:
    header, lines = facts.statement.header, lines_in_scope(facts)
    total = sum(line.amount_nanos for line in lines)
    yield {"table": "total", "amount": decimal_text(total, header.currency)}
    for stated in header.invoices if facts.scope is None else ():
        yield {
            "table": "invoice",
            "service_month": format_month(stated.service_month),
            "provider": stated.invoice.provider,
            "account": stated.invoice.account,
            "amount": decimal_text(stated.invoice.amount_nanos, header.currency),
        }
    for line in lines:
        yield {"table": "line", **_line_cells(line, 1, header.currency)}
    for each in differences_in_scope(facts):
        cells = _line_cells(each.line, each.sign, header.currency)
        yield {"table": "difference", "carried_by": each.carrier, **cells}


def _line_cells(line: StatementLine, sign: int, currency: str) -> Cells:
    key, metered = line.key, line.metered_nanos
    named = {name: value for name, value in key._asdict().items() if value is not None}
    return {
        **named,
        "service_month": format_month(key.service_month),
        "corrects": line.corrects,
        "origin": key.origin.value,
        "method": key.method.value,
        "requests": sign * line.requests,
        "tokens": sign * line.tokens,
        "metered_cost": None if metered is None else format_nanos(sign * metered),
        "amount": decimal_text(sign * line.amount_nanos, currency),
    }

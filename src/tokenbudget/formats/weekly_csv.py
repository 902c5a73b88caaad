"""The weekly report as one tidy CSV.

It owns the columns; it refuses rounding: amounts are exact decimals of nine digits.

Each table's rows, its rest line included, add to the row of the table ``total``; drivers overlap
and do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tokenbudget.domain.breakdowns import Breakdown, Line
from tokenbudget.domain.costs import CostRow
from tokenbudget.domain.money import format_nanos
from tokenbudget.formats.panels import rest_text
from tokenbudget.formats.spreadsheets import Cell, write_csv
from tokenbudget.formats.weekly_report import WeeklyReport

MEASURES: Final = (
    "requests",
    "unpriced_requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
)
COLUMNS: Final = (
    "week",
    "currency",
    "table",
    "team",
    "feature",
    "tenant",
    "model",
    "item",
    "effective_cost",
    "effective_cost_before",
    "effective_cost_change",
    *MEASURES,
    *(f"{measure}_before" for measure in MEASURES),
)

Cells = Mapping[str, Cell]


def weekly_csv(report: WeeklyReport) -> str:
    """Give the CSV text: the total, then teams, features, tenants, movers, drivers and effects."""
    whole: Cells = {"week": report.name, "currency": report.currency}
    rows = ({**whole, **cells} for cells in _rows(report))
    return write_csv(COLUMNS, ([cells.get(column) for column in COLUMNS] for cells in rows))


def _rows(report: WeeklyReport) -> Iterator[Cells]:
    yield {"table": "total", **_line_cells(report.total)}
    yield from _table_rows("team", ("team",), report.teams)
    yield from _table_rows("feature", ("team", "feature"), report.features)
    yield from _table_rows("tenant", ("tenant",), report.tenants)
    yield from _table_rows("mover", ("team", "feature", "model"), report.movers)
    for driver in report.drivers:
        amounts = _amount_cells(driver.amount.nanos, driver.amount_before.nanos)
        yield {"table": "driver", "item": driver.name, **amounts}
    for effect in report.effects:
        change = format_nanos(effect.amount.nanos)
        yield {"table": "effect", "item": effect.name, "effective_cost_change": change}


def _table_rows(table: str, dimensions: tuple[str, ...], breakdown: Breakdown) -> Iterator[Cells]:
    for line in breakdown.lines:
        named = {"item": rest_text(line.merged, table)}
        if not line.merged:
            named = {
                name: value
                for name, value in zip(dimensions, line.group, strict=True)
                if value is not None
            }
        yield {"table": table, **named, **_line_cells(line)}


def _line_cells(line: Line) -> Cells:
    return {
        **_amount_cells(line.amount.nanos, line.amount_before.nanos),
        **_measure_cells(line.now, ""),
        **_measure_cells(line.before, "_before"),
    }


def _amount_cells(nanos: int, nanos_before: int) -> Cells:
    return {
        "effective_cost": format_nanos(nanos),
        "effective_cost_before": format_nanos(nanos_before),
        "effective_cost_change": format_nanos(nanos - nanos_before),
    }


def _measure_cells(row: CostRow, suffix: str) -> Cells:
    return {f"{measure}{suffix}": getattr(row, measure) for measure in MEASURES}

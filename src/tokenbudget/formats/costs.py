"""Questions about money and their answers as the wire spells them (contract: Money questions).

It owns parameters, columns and cells; it refuses to know how an answer is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tokenbudget.domain.costs import (
    ADDITIVE_METRICS,
    BILLED_COST,
    MAX_PAGE_ROWS,
    TAG_PREFIX,
    CostFilter,
    CostQuery,
    CostRow,
    CostTable,
    is_about_statements,
    is_unit_metric,
    unit_cost,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.outcomes import OUTCOMES_PREFIX
from tokenbudget.domain.periods import Period, parse_instant, zone
from tokenbudget.formats.spreadsheets import Cell, write_csv

STANDING_METRICS: Final = ("requests", "unpriced_requests", "tokens")
STATED_STANDING_METRICS: Final = (BILLED_COST, "requests", "tokens")


@dataclass(frozen=True, slots=True)
class CostQueryText:
    """The parameters of a question as they were written; lists may also be written with commas."""

    start: str
    end: str
    group_by: Sequence[str] = ()
    granularity: str = "none"
    timezone: str | None = None
    filter: Sequence[str] = ()
    metric: Sequence[str] = ()
    view: str = "as_incurred"
    order: str = "start"
    limit: int = MAX_PAGE_ROWS
    cursor: str | None = None


def parse_cost_query(text: CostQueryText, *, timezone: str) -> CostQuery:
    """Give the question, in ``timezone`` if it names none; InvalidInput names what is wrong.

    What statements answer is in UTC, in which their months lie.
    """
    metrics = _listed(text.metric)
    usual = "UTC" if is_about_statements(text.view, metrics, text.order) else timezone
    return CostQuery(
        period=_period_of(text.start, text.end),
        group_by=_listed(text.group_by),
        granularity=text.granularity,
        timezone=text.timezone or usual,
        filters=parse_filters(text.filter),
        metrics=metrics,
        order=text.order,
        limit=text.limit,
        cursor=text.cursor,
        view=text.view,
    )


def parse_filters(texts: Sequence[str]) -> tuple[CostFilter, ...]:
    """Give the conditions of ``team:growth``, ``tag:project:apollo`` and the like.

    ``team:!growth`` and ``!team:growth`` both negate. A dimension named again means any of its
    values, or none of them when negated. Nothing behind the colon stands for usage without the
    dimension, which a negated value lets through.
    """
    values: dict[tuple[str, bool], list[str | None]] = {}
    for text in texts:
        dimension, value, is_negated = _condition_of(text)
        values.setdefault((dimension, is_negated), []).append(value)
    return tuple(
        CostFilter(dimension, tuple(accepted), is_negated)
        for (dimension, is_negated), accepted in values.items()
    )


def column_names(query: CostQuery) -> list[str]:
    """Give the columns of a row: dimensions, start (where there are buckets) and metrics."""
    start = [] if query.granularity == "none" else ["start"]
    return [*query.group_by, *start, *metric_names(query)]


def metric_names(query: CostQuery) -> list[str]:
    """Give the metrics of a row: ``cost`` (effective), those asked for, requests and tokens.

    What statements answer has ``billed_cost`` besides, and tells nothing of unpriced requests. Each
    outcome whose unit cost is asked for has its total beside it, as ``outcomes:<name>``.
    """
    outcomes = (f"{OUTCOMES_PREFIX}{name}" for name in query.outcomes)
    standing = STATED_STANDING_METRICS if query.is_stated else STANDING_METRICS
    return list(dict.fromkeys(("cost", *query.metrics, *outcomes, *standing)))


def row_cells(row: CostRow, query: CostQuery) -> list[Cell]:
    """Give the cells of a row in the order of ``column_names``.

    Money is a decimal string, None is absent.
    """
    start = [] if row.start is None else [_local(row.start, query.timezone)]
    return [*row.group, *start, *(metric_cell(row, metric) for metric in metric_names(query))]


def metric_cell(row: CostRow, metric: str) -> str | int | None:
    """Give one metric of a row.

    A decimal string for money and outcomes, an integer for counts, None for no denominator.
    """
    if metric.startswith(OUTCOMES_PREFIX):
        return format_nanos(row.outcomes.get(metric.removeprefix(OUTCOMES_PREFIX), 0))
    if is_unit_metric(metric):
        nanos = unit_cost(row, metric)
        return None if nanos is None else format_nanos(nanos)
    quantity: int = getattr(row, ADDITIVE_METRICS[metric])
    return format_nanos(quantity) if ADDITIVE_METRICS[metric].endswith("_nanos") else quantity


def describe_row(row: CostRow, query: CostQuery) -> dict[str, Cell]:
    """Give a row as one JSON object."""
    return dict(zip(column_names(query), row_cells(row, query), strict=True))


def describe_totals(totals: CostRow, query: CostQuery) -> dict[str, Cell]:
    """Give the totals as one JSON object: the metrics of a row without its group."""
    return {metric: metric_cell(totals, metric) for metric in metric_names(query)}


def costs_csv(table: CostTable, query: CostQuery) -> str:
    """Give the rows as CSV; totals are not among them."""
    return write_csv(column_names(query), (row_cells(row, query) for row in table.rows))


def _period_of(start_text: str, end_text: str) -> Period:
    start = parse_instant(start_text, field="start")
    end = parse_instant(end_text, field="end")
    if start >= end:
        raise InvalidInput("end must be after start", field="end")
    return Period(start, end)


def _condition_of(text: str) -> tuple[str, str | None, bool]:
    written = text.removeprefix("!")
    prefix = TAG_PREFIX if written.startswith(TAG_PREFIX) else ""
    name, separator, value = written.removeprefix(prefix).partition(":")
    is_negated_twice = written != text and value.startswith("!")
    if not separator or not name or is_negated_twice:
        raise InvalidInput(f"filter {text!r} is not written as dimension:value", field="filter")
    return prefix + name, value.removeprefix("!") or None, written != text or value.startswith("!")


def _listed(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _local(instant: datetime, timezone: str) -> str:
    return instant.astimezone(zone(timezone)).isoformat().replace("+00:00", "Z")

"""Answers to questions about money as frames.

It owns columns and types; it refuses files and requests.
"""

from __future__ import annotations

import polars as pl

from tokenbudget.domain.costs import (
    ADDITIVE_METRICS,
    CostRow,
    CostTable,
    is_unit_metric,
    unit_cost,
)
from tokenbudget.domain.outcomes import OUTCOMES_PREFIX

NANOS_SUFFIX = "_nanos"


def costs_frame(
    table: CostTable, *, group_by: tuple[str, ...], metrics: tuple[str, ...], currency: str
) -> pl.DataFrame:
    """Give one line a row, in the order of the table.

    Columns: each dimension (String, null is absent), ``start`` (Datetime in UTC, null for the whole
    period), each metric as Int64, where money and outcomes are ``<metric>_nanos``, and
    ``currency``.
    """
    rows = table.rows
    groups = [
        pl.Series(name, [row.group[place] for row in rows], dtype=pl.String)
        for place, name in enumerate(group_by)
    ]
    start = pl.Series("start", [row.start for row in rows], dtype=pl.Datetime("us", "UTC"))
    measures = [
        pl.Series(_column_name(metric), [_quantity(row, metric) for row in rows], dtype=pl.Int64)
        for metric in metrics
    ]
    currencies = pl.Series("currency", [currency] * len(rows), dtype=pl.String)
    return pl.DataFrame([*groups, start, *measures, currencies])


def _column_name(metric: str) -> str:
    is_fraction = (
        is_unit_metric(metric)
        or metric.startswith(OUTCOMES_PREFIX)
        or ADDITIVE_METRICS[metric].endswith(NANOS_SUFFIX)
    )
    return f"{metric}{NANOS_SUFFIX}" if is_fraction else metric


def _quantity(row: CostRow, metric: str) -> int | None:
    if metric.startswith(OUTCOMES_PREFIX):
        return row.outcomes.get(metric.removeprefix(OUTCOMES_PREFIX), 0)
    if is_unit_metric(metric):
        return unit_cost(row, metric)
    quantity: int = getattr(row, ADDITIVE_METRICS[metric])
    return quantity

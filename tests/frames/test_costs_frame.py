"""Answers about money as frames."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from tokenbudget.domain.costs import CostRow, CostTable
from tokenbudget.frames.costs import costs_frame

START = datetime(2026, 11, 1, tzinfo=UTC)


def test_money_is_integer_nanos_and_absent_is_null() -> None:
    rows = [CostRow(("growth", None), START, effective_nanos=1_500, requests=2)]

    frame = costs_frame(
        CostTable(rows, CostRow()),
        group_by=("team", "tenant"),
        metrics=("cost", "cost_per_request", "cost_per_1k_tokens", "requests"),
        currency="USD",
    )

    assert frame.rows(named=True) == [
        {
            "team": "growth",
            "tenant": None,
            "start": START,
            "cost_nanos": 1_500,
            "cost_per_request_nanos": 750,
            "cost_per_1k_tokens_nanos": None,
            "requests": 2,
            "currency": "USD",
        }
    ]


def test_an_empty_answer_keeps_its_columns() -> None:
    frame = costs_frame(
        CostTable([], CostRow()), group_by=("team",), metrics=("cost",), currency="USD"
    )

    assert dict(frame.schema) == {
        "team": pl.String(),
        "start": pl.Datetime("us", "UTC"),
        "cost_nanos": pl.Int64(),
        "currency": pl.String(),
    }

"""Questions about money and their answers on the wire."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tokenbudget.domain.costs import CostFilter, CostQuery, CostRow, CostTable
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.formats.costs import (
    CostQueryText,
    costs_csv,
    describe_row,
    describe_totals,
    parse_cost_query,
    parse_filters,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
TEXT = CostQueryText(start="2026-11-01T00:00:00Z", end="2026-12-01T01:00:00+01:00")
QUERY = CostQuery(Period(START, END), ("team", "tag:project"))
ROW = CostRow(
    ("growth", None),
    list_nanos=2_000_000_000,
    effective_nanos=1_234_500,
    requests=3,
    input_tokens=10,
    output_tokens=2,
)


def test_what_statements_answer_is_in_utc_and_has_no_unpriced_requests() -> None:
    text = replace(TEXT, group_by=["team"], view="as_invoiced")
    row = CostRow(("growth",), billed_nanos=1_500_000_000, undivided_tokens=12, requests=3)

    query = parse_cost_query(text, timezone="Asia/Kolkata")

    assert (query.timezone, query.view) == ("UTC", "as_invoiced")
    assert describe_row(row, query) == {
        "team": "growth",
        "cost": "0.000000000",
        "billed_cost": "1.500000000",
        "requests": 3,
        "tokens": 12,
    }


def test_lists_may_repeat_or_use_commas() -> None:
    text = replace(TEXT, group_by=["team,feature", "tag:project"], metric=["list_cost, requests"])

    query = parse_cost_query(text, timezone="Asia/Kolkata")

    assert query == CostQuery(
        Period(START, END),
        ("team", "feature", "tag:project"),
        timezone="Asia/Kolkata",
        metrics=("list_cost", "requests"),
        limit=10_000,
    )


@pytest.mark.parametrize(
    ("fault", "field", "message"),
    [
        ({"start": "2026-11-01T00:00:00"}, "start", "has no UTC offset"),
        ({"end": "soon"}, "end", "is not an RFC 3339 time"),
        ({"end": "2026-11-01T00:00:00Z"}, "end", "end must be after start"),
        ({"view": "as_seen"}, "view", "view 'as_seen' is not one of as_incurred, as_invoiced"),
        ({"filter": ["team"]}, "filter", "filter 'team' is not written as dimension:value"),
        ({"filter": ["!team:!growth"]}, "filter", "is not written as dimension:value"),
        ({"filter": [":growth"]}, "filter", "is not written as dimension:value"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused_by_name(
    fault: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_cost_query(replace(TEXT, **fault), timezone="UTC")

    assert caught.value.facts["field"] == field


def test_filters_on_the_same_dimension_are_joined() -> None:
    filters = parse_filters(
        ["team:growth", "team:!search", "team:support", "!tag:project:apollo:11", "tenant:"]
    )

    assert filters == (
        CostFilter("team", ("growth", "support")),
        CostFilter("team", ("search",), negated=True),
        CostFilter("tag:project", ("apollo:11",), negated=True),
        CostFilter("tenant", (None,)),
    )


def test_a_row_shows_cost_standing_metrics_and_those_asked_for() -> None:
    query = replace(QUERY, metrics=("list_cost", "cost_per_request", "cost_per_1k_tokens"))

    assert describe_row(ROW, query) == {
        "team": "growth",
        "tag:project": None,
        "cost": "0.001234500",
        "list_cost": "2.000000000",
        "cost_per_request": "0.000411500",
        "cost_per_1k_tokens": "0.102875000",
        "requests": 3,
        "unpriced_requests": 0,
        "tokens": 12,
    }


def test_a_unit_cost_without_a_denominator_is_null() -> None:
    query = replace(QUERY, group_by=(), metrics=("cost_per_request",))

    assert describe_totals(CostRow(), query)["cost_per_request"] is None


def test_starts_are_shown_in_the_zone_of_the_question() -> None:
    query = replace(QUERY, group_by=(), granularity="day")
    row = CostRow((), datetime(2026, 11, 1, 4, tzinfo=UTC))

    assert describe_row(row, query)["start"] == "2026-11-01T04:00:00Z"
    assert (
        describe_row(row, replace(query, timezone="America/New_York"))["start"]
        == "2026-11-01T00:00:00-04:00"
    )


def test_csv_has_one_line_a_row_and_no_formula() -> None:
    query = replace(QUERY, group_by=("team", "tag:=evil"))
    rows = [
        replace(ROW, group=("=1+1", "a,b")),
        replace(ROW, group=("@x", None), effective_nanos=-5),
    ]

    text = costs_csv(CostTable(rows, ROW), query)

    assert text.split("\r\n") == [
        "team,tag:=evil,cost,requests,unpriced_requests,tokens",
        '\'=1+1,"a,b",0.001234500,3,0,12',
        "'@x,,-0.000000005,3,0,12",
        "",
    ]

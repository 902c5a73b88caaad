"""What may be asked about money, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.cost_folding import MAX_ROWS, Piece, cut_pieces, fold
from tokenbudget.domain.costs import (
    CostFilter,
    CostQuery,
    CostRow,
    require_rolled_up,
    unit_cost,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import OwnerTree
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import MEASURES, RollupSum

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = Period(START, START + timedelta(days=1))
NOVEMBER = Period(START, START + timedelta(days=30))


@pytest.mark.parametrize(
    ("fault", "field", "message"),
    [
        ({"group_by": ("colour",)}, "group_by", "group_by 'colour' is not one of team, feature"),
        ({"group_by": ("tag:",)}, "group_by", "group_by 'tag:' is not one of"),
        ({"group_by": ("team", "team")}, "group_by", "group_by names a dimension twice"),
        (
            {"group_by": tuple(f"tag:{place}" for place in range(9))},
            "group_by",
            "more than 8 dimensions",
        ),
        ({"granularity": "fortnight"}, "granularity", "'fortnight' is not one of hour, day"),
        ({"timezone": "Mars/Olympus"}, "timezone", "timezone 'Mars/Olympus' is not an IANA zone"),
        ({"metrics": ("billed",)}, "metric", "metric 'billed' is not one of cost, list"),
        ({"view": "as_seen"}, "view", "view 'as_seen' is not one of as_incurred, as_invoiced"),
        (
            {"metrics": tuple(f"cost_per:o{place}" for place in range(9))},
            "metric",
            "metric names more than 8 outcomes",
        ),
        ({"order": "-cost_per_request"}, "order", "is not one of start, cost"),
        ({"limit": 0}, "limit", "limit 0 must be between 1 and 10000"),
        ({"limit": 10_001}, "limit", "limit 10001 must be between"),
        (
            {"period": Period(START + timedelta(minutes=1), DAY.end)},
            "start",
            "start must lie on a quarter-hour",
        ),
        (
            {"period": Period(START, START + timedelta(seconds=1))},
            "end",
            "end must lie on a quarter-hour",
        ),
        (
            {"period": Period(START.replace(year=1969), DAY.end)},
            "start",
            "start must lie between 1970 and 2200",
        ),
        (
            {"period": Period(START, START.replace(year=2200))},
            "end",
            "end must lie between 1970 and 2200",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_names_the_field(
    fault: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        CostQuery(**{"period": DAY, **fault})

    assert caught.value.facts["field"] == field


@pytest.mark.parametrize(
    ("fault", "field", "message"),
    [
        ({"group_by": ("environment",)}, "group_by", "group_by 'environment' is not what statem"),
        ({"filters": (CostFilter("tag:a", ("b",)),)}, "filter", "filter 'tag:a' is not what state"),
        ({"metrics": ("list_cost",)}, "metric", "metric 'list_cost' is not what statements tell"),
        ({"order": "-list_cost"}, "order", "order 'list_cost' is not what statements tell"),
        ({"metrics": ("cost_per:ok",)}, "metric", "metric 'cost_per:ok' is not what statements"),
        ({"granularity": "day"}, "granularity", "granularity 'day' is not what statements tell"),
        ({"timezone": "Asia/Kolkata"}, "timezone", "timezone must be UTC"),
        ({"period": DAY}, "end", "end must be the start of a month in UTC"),
        (
            {"period": Period(START + timedelta(days=1), NOVEMBER.end)},
            "start",
            "start must be the start of a month in UTC",
        ),
    ],
)
def test_what_is_finer_than_statements_is_refused_by_name(
    fault: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        CostQuery(**{"period": NOVEMBER, "view": "as_invoiced", **fault})

    assert caught.value.facts["field"] == field


@pytest.mark.parametrize(
    ("asked", "is_stated"),
    [
        ({}, False),
        ({"view": "as_invoiced"}, True),
        ({"metrics": ("requests", "billed_cost")}, True),
        ({"order": "-billed_cost"}, True),
    ],
)
def test_what_was_invoiced_is_asked_of_statements(asked: dict[str, Any], is_stated: bool) -> None:
    assert CostQuery(NOVEMBER, **asked).is_stated is is_stated


def test_a_filter_on_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(InvalidInput, match="filter 'colour' is not one of"):
        CostFilter("colour", ("red",))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (CostQuery(DAY, ("tag:user",)), "group_by"),
        (CostQuery(DAY, filters=(CostFilter("tag:user", ("u-17",)),)), "filter"),
    ],
)
def test_a_tag_outside_the_rollups_is_refused_with_the_setting(
    query: CostQuery, field: str
) -> None:
    with pytest.raises(InvalidInput, match="TOKENBUDGET_UNROLLED_TAGS") as caught:
        require_rolled_up(query, ("user", "session_id"))

    assert caught.value.facts["field"] == field


def test_tags_in_the_rollups_are_accepted() -> None:
    require_rolled_up(CostQuery(DAY, ("tag:project", "team")), ("user",))


def test_more_buckets_than_the_limit_are_refused() -> None:
    period = Period(START, START + timedelta(hours=5_001))

    with pytest.raises(InvalidInput, match="granularity 'hour' gives more than 5000 parts"):
        cut_pieces(CostQuery(period, granularity="hour"))


def test_pieces_are_cut_at_inner_instants_and_keep_the_start_of_their_bucket() -> None:
    noon = START + timedelta(hours=12)

    pieces = cut_pieces(CostQuery(DAY, granularity="day"), cuts=[START, noon, DAY.end])

    assert pieces == [
        Piece(START, Period(START, noon)),
        Piece(START, Period(noon, DAY.end)),
    ]


def test_more_rows_than_the_limit_are_refused() -> None:
    count = MAX_ROWS + 1
    sets = {place: DimensionSet(f"t{place}", "openai", "gpt-5.2") for place in range(count)}
    sums = (RollupSum(0, place, (1,) * len(MEASURES)) for place in range(count))

    with pytest.raises(InvalidInput, match="group_by gives more than 200000 rows"):
        fold(
            sums,
            CostQuery(DAY, ("team",)),
            pieces=[Piece(None, DAY)],
            trees=[OwnerTree()],
            dimension_sets=sets,
        )


def test_a_request_costs_what_the_priced_requests_cost_on_average() -> None:
    row = CostRow(effective_nanos=10, requests=5, unpriced_requests=1)

    # 10 nanos over 4 priced requests are 2.5, which rounds to the even 2.
    assert unit_cost(row, "cost_per_request") == 2


def test_a_thousand_tokens_cost_the_share_of_all_tokens() -> None:
    row = CostRow(effective_nanos=7, input_tokens=1_500, output_tokens=500)

    # 7 nanos * 1,000 / 2,000 tokens are 3.5, which rounds to the even 4.
    assert unit_cost(row, "cost_per_1k_tokens") == 4


@pytest.mark.parametrize("metric", ["cost_per_request", "cost_per_1k_tokens"])
def test_a_unit_cost_without_a_denominator_is_unknown(metric: str) -> None:
    assert unit_cost(CostRow(requests=1, unpriced_requests=1), metric) is None

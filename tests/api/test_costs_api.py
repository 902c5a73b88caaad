"""``GET /v1/costs`` over HTTP: shapes, pages, media types and refusals."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.rollup_builders import make_usage, roll_up
from tokenbudget.api.costs import choose_media_type
from tokenbudget.store.db import Database

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NOVEMBER = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}


def test_rows_carry_the_group_and_totals_their_sum(client: TestClient, database: Database) -> None:
    roll_up(
        database,
        [
            make_usage(NOON, team="growth", measures={"effective_nanos": 1_234_500}),
            make_usage(NOON, team="search", tenant="acme", measures={"effective_nanos": 1}),
        ],
    )

    answer = client.get("/v1/costs", params={**NOVEMBER, "group_by": "team,tenant"})

    assert answer.status_code == 200
    assert answer.json() == {
        "currency": "USD",
        "start": "2026-11-01T00:00:00Z",
        "end": "2026-12-01T00:00:00Z",
        "granularity": "none",
        "timezone": "UTC",
        "group_by": ["team", "tenant"],
        "rows": [
            {
                "team": "growth",
                "tenant": None,
                "cost": "0.001234500",
                "requests": 1,
                "unpriced_requests": 0,
                "tokens": 10,
            },
            {
                "team": "search",
                "tenant": "acme",
                "cost": "0.000000001",
                "requests": 1,
                "unpriced_requests": 0,
                "tokens": 10,
            },
        ],
        "totals": {
            "cost": "0.001234501",
            "requests": 2,
            "unpriced_requests": 0,
            "tokens": 20,
        },
        "next": None,
    }


def test_pages_are_linked_and_their_rows_add_up_to_the_totals(
    client: TestClient, database: Database
) -> None:
    roll_up(database, [make_usage(NOON, team=f"t{place}") for place in range(5)])
    url: str | None = str(client.base_url.join("/v1/costs"))
    params: dict[str, str] | None = {**NOVEMBER, "group_by": "team", "limit": "2"}
    amounts = []

    while url is not None:
        answer = client.get(url, params=params)
        amounts += [row["cost"] for row in answer.json()["rows"]]
        assert (answer.json()["next"] is None) == ("next" not in answer.links)
        url, params = answer.links.get("next", {}).get("url"), None

    assert amounts == ["0.010000000"] * 5
    assert sum(map(Decimal, amounts)) == Decimal(answer.json()["totals"]["cost"])


def test_csv_has_the_rows_alone_and_the_total_in_a_header(
    client: TestClient, database: Database
) -> None:
    roll_up(database, [make_usage(NOON, team="=1+1")])

    answer = client.get(
        "/v1/costs", params={**NOVEMBER, "group_by": "team"}, headers={"accept": "text/csv"}
    )

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-total-effective-cost"] == "0.010000000"
    assert answer.text == (
        "team,cost,requests,unpriced_requests,tokens\r\n'=1+1,0.010000000,1,0,10\r\n"
    )


def test_parquet_holds_integer_nanos(client: TestClient, database: Database) -> None:
    roll_up(database, [make_usage(NOON)])

    answer = client.get(
        "/v1/costs", params=NOVEMBER, headers={"accept": "application/vnd.apache.parquet"}
    )

    frame = pl.read_parquet(io.BytesIO(answer.content))
    assert frame["cost_nanos"].to_list() == [10_000_000]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"group_by": "colour"}, "group_by 'colour'"),
        ({"group_by": "tag:user"}, "TOKENBUDGET_UNROLLED_TAGS"),
        ({"metric": "billed"}, "metric 'billed'"),
        ({"start": "2026-11-01T00:00:00"}, "start"),
        ({"end": NOVEMBER["start"]}, "end must be after start"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"granularity": "year"}, "granularity"),
        ({"filter": "colour:red"}, "filter"),
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_parameter_at_fault_is_a_problem_that_names_it(
    client: TestClient, fault: dict[str, str], named: str
) -> None:
    answer = client.get("/v1/costs", params={**NOVEMBER, **fault})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_input"
    assert named in answer.json()["detail"]


def test_without_a_key_nothing_is_answered(make_client: MakeClient) -> None:
    client = make_client(auth="keys")

    assert client.get("/v1/costs", params=NOVEMBER).status_code == 401


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0, application/json;q=0.1", "application/json"),
        ("application/vnd.apache.parquet, text/csv;q=0.9", "application/vnd.apache.parquet"),
    ],
)
def test_the_best_liked_media_type_is_chosen(accept: str, chosen: str) -> None:
    assert choose_media_type(accept) == chosen

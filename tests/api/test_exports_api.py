"""``GET /v1/exports/focus``: a file by Accept or by name, whole, and clear refusals."""

from __future__ import annotations

import io

import polars as pl
import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.services.focus_cases import fill_everything
from tokenbudget.bootstrap import Services
from tokenbudget.services.ledger import Ledger

SEPTEMBER = "/v1/exports/focus?from=2026-09-01&to=2026-10-01"
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def filled(services: Services, ledger: Ledger, client: TestClient) -> TestClient:
    """Give a client of a ledger with something of everything."""
    fill_everything(services, ledger)
    return client


def test_csv_is_usual_and_says_what_is_in_it(filled: TestClient) -> None:
    answer = filled.get(SEPTEMBER)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == (
        'attachment; filename="focus-1.2-2026-09-01-2026-10-01.csv"'
    )
    assert answer.headers["x-currency"] == "USD"
    assert answer.headers["x-invoiced"] == "true"
    assert answer.headers["x-unpriced-requests"] == "1"
    frame = pl.read_csv(io.BytesIO(answer.content), infer_schema=False)
    assert frame.height == int(answer.headers["x-row-count"])
    assert frame.columns[0] == "AvailabilityZone"


@pytest.mark.parametrize(
    ("query", "accept"), [("&format=parquet", "text/csv"), ("", PARQUET)], ids=["name", "accept"]
)
def test_parquet_is_given_where_it_is_asked_for(
    filled: TestClient, query: str, accept: str
) -> None:
    answer = filled.get(SEPTEMBER + query, headers={"accept": accept})

    assert answer.headers["content-type"] == PARQUET
    frame = pl.read_parquet(io.BytesIO(answer.content))
    assert frame.height == int(answer.headers["x-row-count"])


def test_the_version_may_be_chosen(filled: TestClient) -> None:
    answer = filled.get(f"{SEPTEMBER}&version=1.4")

    assert "ServiceProviderName" in answer.text.partition("\n")[0]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("from=2026-01-01&to=2026-02-01", 404, "not_found"),
        ("from=2026-09-01&to=2026-09-01", 422, "invalid_input"),
        ("from=September&to=2026-10-01", 422, "invalid_input"),
        ("from=2026-09-01&to=2026-10-01&version=1.0", 422, "invalid_input"),
        ("from=2026-09-01&to=2026-10-01&format=json", 422, "invalid_input"),
        ("from=2026-09-01&to=2026-10-01&team=growth", 422, "invalid_input"),
        ("from=2026-09-01", 422, "invalid_input"),
    ],
)
def test_what_cannot_be_exported_is_a_problem(
    filled: TestClient, query: str, status: int, code: str
) -> None:
    answer = filled.get(f"/v1/exports/focus?{query}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_key_is_needed(make_client: MakeClient) -> None:
    client = make_client(auth="keys")

    assert client.get(SEPTEMBER).status_code == 401

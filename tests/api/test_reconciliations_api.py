"""``/v1/reconciliations`` over HTTP."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.rollup_builders import make_usage, roll_up
from tests.services.reconciliation_cases import make_line, september, store_bill
from tokenbudget.bootstrap import Services

MONTH = {"period": "2026-09"}


@pytest.fixture(autouse=True)
def bill(services: Services) -> None:
    """Put a key that matches, one that nobody reports, and tax into the ledger."""
    store_bill(
        services.database,
        make_line("2.02", api_key="key-a"),
        make_line("1", api_key="rogue"),
        make_line("0.6", category="tax", description="VAT", model=None),
    )
    usage = make_usage(
        september(1),
        measures={"effective_nanos": 2 * 10**9},
        model="gpt-4.1",
        account="key-a",
    )
    roll_up(services.database, [usage])


def test_a_month_is_compared_with_its_waterfall(client: TestClient) -> None:
    told = client.get("/v1/reconciliations", params=MONTH).json()

    assert (told["period"], told["currency"], told["next"]) == ("2026-09", "USD", None)
    assert [(row["account"], row["verdict"]) for row in told["rows"]] == [
        ("key-a", "matched"),
        ("org", "untracked"),
        (None, "untracked"),
    ]
    assert told["totals"]["invoiced_amount"] == "3.620000000"
    steps = {step["step"]: step["amount"] for step in told["waterfall"] if step["provider"] is None}
    assert steps["metered_effective"] == "2.000000000"
    assert steps["within_tolerance"] == "0.020000000"
    assert steps["untracked"] == "1.000000000"
    assert steps["tax"] == "0.600000000"
    assert steps["invoiced"] == "3.620000000"


def test_rows_are_paged_by_link_and_totals_are_those_of_the_whole(client: TestClient) -> None:
    first = client.get("/v1/reconciliations", params={**MONTH, "limit": 2})
    second = client.get(first.links["next"]["url"])

    assert [len(page.json()["rows"]) for page in (first, second)] == [2, 1]
    assert first.json()["totals"] == second.json()["totals"]
    assert second.json()["next"] is None


def test_untracked_names_are_listed(client: TestClient) -> None:
    told = client.get("/v1/reconciliations/untracked", params=MONTH).json()

    [name] = told["untracked"]
    assert (name["api_key"], name["untracked_amount"]) == ("rogue", "1.000000000")
    # 1 of 3.62
    assert name["invoice_share"] == "0.2762"


def test_coverage_is_told_by_team(client: TestClient) -> None:
    told = client.get(
        "/v1/reconciliations/coverage", params={**MONTH, "until": "2026-10", "by": "week"}
    ).json()

    assert [(each["start"], each["team"], each["coverage"]) for each in told["coverage"]] == [
        ("2026-08-31", "Untracked", "0.0000"),
        ("2026-08-31", "growth", "1.0000"),
    ]


def test_another_provider_has_rows_of_its_own(client: TestClient) -> None:
    told = client.get("/v1/reconciliations", params={**MONTH, "provider": "anthropic"}).json()

    assert told["rows"] == []


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        ("", {"period": "2026-13"}, "period"),
        ("", {**MONTH, "cursor": "WyJhIl0"}, "cursor"),
        ("", {**MONTH, "cursor": "Wy0xXQ"}, "cursor"),
        ("/coverage", {**MONTH, "by": "day"}, "by"),
        ("/coverage", {**MONTH, "until": "2026-08"}, "until"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    client: TestClient, path: str, parameters: dict[str, str], field: str
) -> None:
    answer = client.get(f"/v1/reconciliations{path}", params=parameters)

    assert answer.status_code == 422
    assert field in answer.json()["detail"]

"""``GET /v1/reconciliations/usage``: rows by page, and what was estimated."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.formats.calls.call_cases import BILLING, NOW
from tests.services.witness_cases import GATEWAY, SDK, tell
from tokenbudget.bootstrap import Services
from tokenbudget.services.bills import import_bills
from tokenbudget.services.ledger import Ledger

PATH = "/v1/reconciliations/usage"
PAGE = BILLING / "openai-usage-completions.page1.json"


@pytest.fixture(autouse=True)
def _reported(services: Services) -> None:
    import_bills(services.database, [PAGE], now=NOW)


def test_rows_are_paged_by_link_in_order(client: TestClient) -> None:
    first = client.get(PATH, params={"period": "2026-09", "limit": 3})
    second = client.get(first.links["next"]["url"])

    rows = first.json()["rows"] + second.json()["rows"]
    assert [(row["model"], row["day"], row["account"]) for row in rows] == [
        ("gpt-4.1-2025-04-14", "2026-09-01", "key_search_prod"),
        ("gpt-4.1-2025-04-14", "2026-09-01", "key_support"),
        ("gpt-4.1-2025-04-14", "2026-09-02", "key_search_prod"),
        ("gpt-4.1-mini-2025-04-14", "2026-09-01", "key_search_prod"),
        ("gpt-9-preview-2026-09-01", "2026-09-02", "key_support"),
    ]
    assert rows[0]["metered"] is None
    assert rows[0]["reported"] == {
        "input_tokens": 1_500_000,
        "output_tokens": 210_000,
        "requests": 812,
    }
    assert second.json()["next"] is None


def test_one_provider_may_be_asked_for(client: TestClient) -> None:
    answer = client.get(PATH, params={"period": "2026-09", "provider": "acme"})

    assert answer.json() == {"period": "2026-09", "rows": [], "estimates": [], "next": None}


def test_estimates_that_were_measured_later_are_told(client: TestClient, ledger: Ledger) -> None:
    tell(ledger, SDK, usage=None, text="some words of a prompt " * 40)
    tell(ledger, GATEWAY, usage={"input_tokens": 400})

    [estimate] = client.get(PATH, params={"period": "2026-11"}).json()["estimates"]

    assert (estimate["calls"], estimate["reported_tokens"]) == (1, 400)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"period": "September"}, "period"),
        ({}, "period"),
        ({"period": "2026-09", "cursor": "nonsense"}, "cursor"),
        ({"period": "2026-09", "cursor": "WzEsMiwzLDRd"}, "cursor"),
        ({"period": "2026-09", "limit": "0"}, "limit"),
        ({"period": "2026-09", "other": "1"}, "other"),
    ],
)
def test_a_question_at_fault_is_a_problem_that_names_it(
    client: TestClient, parameters: dict[str, str], named: str
) -> None:
    answer = client.get(PATH, params=parameters)

    assert answer.status_code == 422
    assert named in answer.text

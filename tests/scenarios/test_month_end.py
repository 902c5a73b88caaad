"""September of a small company, told through its statements and the API alone.

Two teams call OpenAI; a key that nobody knows does too. Ten dollars buy a million input tokens.

Metered of September (all on the 10th, by project proj_app): growth 120.00 of gpt-4.1 and 4.00 of
gpt-4.1-mini, search 76.00 of gpt-4.1; in all 200.00. The invoices of account org-1:

    gpt-4.1, proj_app        196.00   as metered
    gpt-4.1-mini, proj_app     8.00   4.00 more than metered: the price book has half the price
    gpt-4.1, proj_shadow       3.40   by nobody known
    usage                    207.40   3.7 % more than metered
    support fee               20.00   shared evenly by the two teams
    credit note              -10.00   shared by their direct cost
    in all                   217.40
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import broken_rules
from tests.conftest import FrozenClock
from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.api.app import create_app
from tokenbudget.bootstrap import Services
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import Price, ProviderPrices

TOKENS_PER_DOLLAR = 100_000
TEN_DOLLARS = {"input_tokens": 10_000_000, "output_tokens": 10_000_000}
FIVE_DOLLARS = {"input_tokens": 5_000_000, "output_tokens": 5_000_000}
BIG, MINI = "gpt-4.1", "gpt-4.1-mini"
FOCUS_COLUMNS = (
    "ProviderName,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,"
    "ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ChargeDescription,BilledCost"
)
SEPTEMBER = "2026-09-01T00:00:00Z,2026-10-01T00:00:00Z"
TENTH = "2026-09-10T12:00:00Z"
SEPTEMBER_IN_OCTOBER = {"growth": "127.89", "search": "85.11", "Untracked": "4.40"}
RULES = {
    "pool": [
        {
            "name": "support",
            "match": {"description": "*support*"},
            "driver": "even",
            "among": [{"team": "growth"}, {"team": "search"}],
        },
        {"name": "credits", "match": {"category": "credit"}, "exclude": {"team": "Untracked"}},
    ]
}


def price_list(*mini: Price, version: str) -> PriceList:
    """Give a price book in which gpt-4.1 costs ten dollars and gpt-4.1-mini what the rows say."""
    big = make_price(TEN_DOLLARS, provider="openai", model=BIG)
    models = (
        make_model(big, provider="openai", model=BIG),
        make_model(*mini, provider="openai", model=MINI),
    )
    return make_price_list(
        others=(ProviderPrices(provider="openai", names=("openai",), models=models),),
        version=version,
    )


WRONG = make_price(FIVE_DOLLARS, provider="openai", model=MINI)
FIX = make_price(TEN_DOLLARS, provider="openai", model=MINI, recorded_at=day("2026-11-04"))


@dataclass
class Company:
    """The company's service and its calendar; everything is asked over HTTP."""

    services: Services
    clock: FrozenClock
    opened: ExitStack
    client: TestClient = field(init=False)

    def start(self, prices: PriceList) -> None:
        """Start the service with this price book."""
        settings = self.services.settings.model_copy(update={"auth": "off"})
        app = create_app(replace(self.services, settings=settings, price_list=prices))
        self.client = self.opened.enter_context(TestClient(app, raise_server_exceptions=False))

    def ask(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """Give the answer, which has this status."""
        answer = self.client.request(method, path, **request)
        assert answer.status_code == status, answer.text
        return answer.json()

    def use(self, name: str, dollars: int, **facts: Any) -> None:
        """Report usage of as many tokens as OpenAI sells for so many dollars."""
        team, at = facts.pop("team"), facts.pop("at")
        event = {
            "event_id": name,
            "source": "app",
            "occurred_at": at,
            "provider": "openai",
            "model": BIG,
            "account": "proj_app",
            "usage": {"input_tokens": dollars * TOKENS_PER_DOLLAR},
            "tags": {"team": team},
            **facts,
        }
        answer = self.ask("POST", "/v1/events", json=event)
        assert answer["accepted"] == 1, answer

    def bill(self, name: str, source: str, body: str) -> None:
        """Bring a bill in."""
        parameters = {"source": source, "file_name": name}
        answer = self.client.post("/v1/bills", params=parameters, content=body.encode())
        assert answer.status_code in (200, 201), answer.text

    def close(self, period: str, status: int = 201) -> Any:
        """Close a month at once."""
        body = {"period": period, "grace_hours": 0}
        return self.ask("POST", "/v1/statements", status, json=body)

    def billed(self, view: str) -> Mapping[str, str]:
        """Give what September cost by team, as invoiced or as incurred."""
        start, end = SEPTEMBER.split(",")
        parameters = {
            "start": start, "end": end, "group_by": "team", "metric": "billed_cost", "view": view
        }  # fmt: skip
        rows = self.ask("GET", "/v1/costs", params=parameters)["rows"]
        return {row["team"]: row["billed_cost"][:-7] for row in rows}


@pytest.fixture
def company(services: Services, clock: FrozenClock) -> Iterator[Company]:
    """Give the company in the middle of September, with its rules of sharing."""
    clock.now = datetime(2026, 9, 15, tzinfo=UTC)
    with ExitStack() as opened:
        company = Company(services, clock, opened)
        company.start(price_list(WRONG, version="half price"))
        company.ask("PUT", "/v1/allocation-rules", json=RULES)
        yield company


def page_of(date: str, *results: tuple[str, str, str]) -> str:
    """Give a day of OpenAI's costs: (line item, project, dollars) each."""
    start = int(datetime.fromisoformat(f"{date}T00:00:00+00:00").timestamp())
    bucket = {
        "object": "bucket",
        "start_time": start,
        "end_time": start + 86_400,
        "results": [
            {
                "object": "organization.costs.result",
                "amount": {"value": dollars, "currency": "usd"},
                "line_item": line_item,
                "organization_id": "org-1",
                "project_id": project,
            }
            for line_item, project, dollars in results
        ],
    }
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None})


def focus_of(*rows: tuple[str, str, str]) -> str:
    """Give a FOCUS file of September's further charges: (category, description, dollars) each."""
    lines = [
        f"OpenAI,org-1,USD,{SEPTEMBER},{SEPTEMBER},{category},{description},{dollars}"
        for category, description, dollars in rows
    ]
    return "\n".join([FOCUS_COLUMNS, *lines, ""])


def by_team(statement: Mapping[str, Any]) -> Mapping[str, str]:
    """Give a statement's totals in dollars and cents."""
    return {row["team"]: row["amount"][:-7] for row in statement["totals"]}


def corrections(company: Company, statement: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    """Give the rows of a statement that correct another: (month, team, origin, amount)."""
    lines = company.ask("GET", f"/v1/statements/{statement['id']}/lines")["lines"]
    return [
        (line["service_month"], line["team"], line["origin"], line["amount"][:-7])
        for line in lines
        if line["corrects"] is not None
    ]


def use_september(company: Company) -> None:
    """Report September, which cannot be closed before it is over and invoiced."""
    company.use("g-1", 120, team="growth", at=TENTH)
    company.use("g-2", 8, team="growth", at=TENTH, model=MINI)
    company.use("s-1", 76, team="search", at=TENTH)

    assert "is not over" in company.close("2026-09", 409)["detail"]
    company.clock.now = datetime(2026, 10, 5, tzinfo=UTC)
    refused = company.close("2026-09", 409)
    assert {refusal["code"] for refusal in refused["refusals"]} == {"missing_bill"}
    assert company.ask("GET", "/v1/statements")["statements"] == []


def close_september(company: Company) -> Any:
    """Bring September's bills in and close it."""
    usage = page_of(
        "2026-09-10",
        (f"{BIG}, input", "proj_app", "196.00"),
        (f"{MINI}, input", "proj_app", "8.00"),
        (f"{BIG}, input", "proj_shadow", "3.40"),
    )
    company.bill("costs-09.json", "openai-costs", usage)
    further = focus_of(("Purchase", "Premium support", "20.00"), ("Credit", "Note", "-10.00"))
    company.bill("further-09.csv", "focus", further)

    # growth: 124.00 + 10.00 support - 6.20 credit (124 : 76); search: 76.00 + 10.00 - 3.80.
    # Untracked: 4.00 of mini and 3.40 of the unknown project.
    first = company.close("2026-09")
    assert by_team(first) == {"Untracked": "7.40", "growth": "127.80", "search": "82.20"}
    assert (first["state"], first["total"]) == ("closed", "217.400000000")
    return first


def close_october_after_late_usage(company: Company, first: Any) -> None:
    """Learn that the unknown project was search's, whose client delivers 3.00 late."""
    company.use("s-2", 3, team="search", at=TENTH, account="proj_shadow")
    company.clock.now = datetime(2026, 10, 20, tzinfo=UTC)
    company.use("g-3", 40, team="growth", at="2026-10-10T12:00:00Z")
    company.clock.now = datetime(2026, 11, 3, tzinfo=UTC)
    usage = page_of("2026-10-10", (f"{BIG}, input", "proj_app", "40.00"))
    company.bill("costs-10.json", "openai-costs", usage)

    # Of September 3.00 go from Untracked to search. The credit is now shared 124 : 79, that is
    # 6.11 and 3.89: 9 cents more for growth, 9 less for search. It all nets to nothing.
    october = company.close("2026-10")
    assert by_team(october) == {"Untracked": "-3.00", "growth": "40.09", "search": "2.91"}
    assert (october["total"], october["corrections"]) == ("40.000000000", "0.000000000")
    assert corrections(company, october) == [
        ("2026-09", "Untracked", "untracked", "-3.00"),
        ("2026-09", "growth", "credit", "0.09"),
        ("2026-09", "search", "credit", "-0.09"),
        ("2026-09", "search", "usage", "3.00"),
    ]
    # As invoiced, September is what was closed; as incurred, that and what October says of it.
    assert company.billed("as_invoiced") == by_team(first)
    assert company.billed("as_incurred") == SEPTEMBER_IN_OCTOBER
    views = company.ask("GET", f"/v1/statements/{first['id']}/differences")
    assert (views["as_invoiced"], views["difference"]) == ("217.400000000", "0.000000000")
    assert len(views["differences"]) == 4


def fix_the_price(company: Company) -> None:
    """Learn that 8.00 of mini were metered, so that no 4.00 of it are untracked any more."""
    company.clock.now = datetime(2026, 11, 5, tzinfo=UTC)
    company.start(price_list(WRONG, FIX, version="fixed"))
    rerate = company.ask("POST", "/v1/prices/rerates", json={"model": MINI})
    company.ask("POST", f"/v1/prices/rerates/{rerate['id']}/approve")


def restate_september(company: Company, first: Any) -> None:
    """Put the fixed price into September's own statement.

    As known now: growth 128.00 + 10.00 - 6.18, search 79.00 + 10.00 - 3.82 (128 : 79), Untracked
    0.40. October has stated 0.09, 2.91 and -3.00 of it; the rest is version 2.
    """
    body = {"reason": "wrong price"}
    proposed = company.ask("POST", f"/v1/statements/{first['id']}/restatements", 201, json=body)
    assert {row["team"]: row["change"][:-7] for row in proposed["changes"]} == {
        "Untracked": "-4.00",
        "growth": "3.93",
        "search": "0.07",
    }
    assert company.billed("as_incurred") == SEPTEMBER_IN_OCTOBER

    restated = company.ask("POST", f"/v1/statements/{proposed['id']}/approve")

    assert by_team(restated) == {"Untracked": "3.40", "growth": "131.73", "search": "82.27"}
    assert (restated["version"], restated["total"]) == (2, "217.400000000")
    assert company.billed("as_incurred") == {
        "growth": "131.82",
        "search": "85.18",
        "Untracked": "0.40",
    }
    kept = company.ask("GET", f"/v1/statements/{first['id']}")
    assert (kept["state"], by_team(kept)) == ("superseded", by_team(first))


def close_november_after_a_restated_bill(company: Company) -> Any:
    """Have the bill of October 5.00 higher: the statement of November brings just that."""
    company.clock.now = datetime(2026, 12, 2, tzinfo=UTC)
    usage = page_of(
        "2026-10-10",
        (f"{BIG}, input", "proj_app", "40.00"),
        (f"{BIG}, input", "proj_other", "5.00"),
    )
    company.bill("costs-10-again.json", "openai-costs", usage)

    november = company.close("2026-11")

    assert by_team(november) == {"Untracked": "5.00"}
    invoiced = [(each["service_month"], each["amount"]) for each in november["invoiced"]]
    assert invoiced == [("2026-10", "5.000000000")]
    return november


def test_a_month_from_bills_to_a_restatement(company: Company) -> None:
    use_september(company)
    first = close_september(company)
    close_october_after_late_usage(company, first)
    fix_the_price(company)
    restate_september(company, first)
    november = close_november_after_a_restated_bill(company)

    assert company.ask("GET", f"/v1/statements/{november['id']}/verification")["ok"]
    assert broken_rules(company.services.database) == []

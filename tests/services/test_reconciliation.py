"""Reconciling stored bills with the daily rollups."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.rollup_builders import RolledUsage, make_usage, roll_up
from tests.services.bill_cases import BILLING, NOW, empty_ledger
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import ModelPrices, Price, ProviderPrices
from tokenbudget.domain.reconciliation import Reconciliation, Verdict
from tokenbudget.services.bills import import_bills
from tokenbudget.services.reconciliation import canonical_names, reconcile
from tokenbudget.store.db import Database

SEPTEMBER = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with empty_ledger(request, tmp_path) as ledger:
        yield ledger


def september(day: int) -> datetime:
    return datetime(2026, 9, day, tzinfo=UTC)


def make_metered(
    day: datetime, model: str, effective_nanos: int, *, team: str = "growth", **measures: int
) -> RolledUsage:
    return make_usage(
        day, measures={"effective_nanos": effective_nanos, **measures}, model=model, team=team
    )


def import_samples(database: Database, *names: str) -> None:
    import_bills(database, [BILLING / name for name in names], now=NOW)


def compare(database: Database, **overrides: Any) -> Reconciliation:
    options = {
        "period": SEPTEMBER,
        "currency": "USD",
        "canonical_model": lambda _provider, model: model,
    }
    return reconcile(database, **{**options, **overrides})


def test_a_month_of_usage_is_compared_with_its_bill_by_day_and_model(database: Database) -> None:
    import_samples(database, "openai-costs.page1.json", "openai-costs.page2.json")
    # Invoiced on the first: gpt-4.1 2.4 + 0.15 + 1.68 + 0.8 + 0.6 = 5.63, gpt-4.1-mini 3.69.
    usages = [
        make_metered(september(1), "gpt-4.1-2025-04-14", 5_600_000_000),
        make_metered(september(1), "gpt-4.1-mini-2025-04-14", 3_000_000_000),
        make_metered(september(1), "gpt-4.1-mini-2025-04-14", 900_000_000, team="search"),
        make_metered(september(3), "gpt-4.1-2025-04-14", 250_000_000),
        make_metered(september(3), "gpt-9", 0, unpriced_requests=1),
        make_metered(september(3), "revised-away", 0, requests=0),
    ]
    roll_up(database, usages)

    result = compare(database)

    rows = {(row.period.start.day, row.model or row.description): row for row in result.rows}
    facts = {key: (row.metered, row.invoiced, row.verdict) for key, row in rows.items()}
    assert facts[1, "gpt-4.1-2025-04-14"] == (Decimal("5.6"), Decimal("5.63"), Verdict.MATCHED)
    assert facts[1, "gpt-4.1-mini-2025-04-14"] == (
        Decimal("3.9"),
        Decimal("3.69"),
        Verdict.OVER_COUNTED,
    )
    assert facts[1, "text-embedding-3-small"] == (None, Decimal("0.08"), Verdict.UNTRACKED)
    assert facts[3, "gpt-4.1-2025-04-14"] == (Decimal("0.25"), None, Verdict.MISSING_BILL)
    assert facts[3, "gpt-9"] == (Decimal("0"), None, Verdict.MISSING_BILL)
    assert facts[4, "Promotional credit adjustment"] == (None, Decimal("-2.5"), Verdict.DISCOUNT)
    assert (3, "revised-away") not in rows
    assert result.is_over_counted
    assert result.invoiced == Decimal("13.7752120")
    assert result.metered == Decimal("9.75")
    assert result.variance == Decimal("4.0252120")


def test_superseded_lines_and_other_months_have_no_part(database: Database) -> None:
    import_samples(
        database,
        "openai-costs.page1.json",
        "openai-costs.page2.json",
        "openai-costs.restated-day2.json",
    )
    before, after = datetime(2026, 8, 31, 23, tzinfo=UTC), SEPTEMBER.end
    roll_up(database, [make_metered(before, "o3", 1), make_metered(after, "o3", 1)])

    result = compare(database)

    assert result.invoiced == Decimal("13.7752140")
    assert result.metered == Decimal("0")


def test_an_invoice_sums_exactly_with_tax_credit_and_correction(database: Database) -> None:
    import_samples(database, "focus-1.2-llm-golden.csv")

    result = compare(database)

    assert result.invoiced == Decimal("104.250831625")
    assert result.other_currencies == {"EUR": Decimal("7.36")}
    correction = result.rows[0]
    assert correction.period == SEPTEMBER
    assert correction.description == "Refund of over-billed output tokens for August 2026"


def test_the_price_list_names_one_model_for_all_its_spellings(database: Database) -> None:
    import_samples(database, "openai-costs.page1.json")
    roll_up(database, [make_metered(september(1), "gpt-4.1", 5_630_000_000)])
    model = ModelPrices(
        "openai",
        "gpt-4.1",
        ("gpt-4.1", "gpt-4.1-2025-*"),
        (Price("openai", "gpt-4.1", {"input_tokens": 2_000_000}),),
    )
    price_list = PriceList([ProviderPrices("openai", ("openai",), (model,))], version="test")

    result = compare(database, canonical_model=canonical_names(price_list, at=SEPTEMBER.start))

    first = [row for row in result.rows if row.period.start == september(1)]
    assert [(row.model, row.verdict) for row in first] == [
        ("gpt-4.1", Verdict.MATCHED),
        ("gpt-4.1-mini-2025-04-14", Verdict.UNTRACKED),
        ("text-embedding-3-small", Verdict.UNTRACKED),
    ]


def test_a_period_without_anything_is_an_empty_comparison(database: Database) -> None:
    result = compare(database)

    assert result.rows == ()
    assert result.metered == result.invoiced == result.variance == Decimal(0)

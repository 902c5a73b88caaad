"""Reconciling stored bills with the daily rollups."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.rollup_builders import RolledUsage, make_usage, roll_up
from tests.services.bill_cases import BILLING, NOW
from tests.services.reconciliation_cases import make_line, september, store_bill
from tokenbudget.domain.agreements import Agreements
from tokenbudget.domain.exchange import FxTable, Quote
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import ModelPrices, Price, ProviderPrices
from tokenbudget.domain.reconciliation import (
    MatchLevel,
    MeteredCost,
    Reconciliation,
    Verdict,
)
from tokenbudget.domain.statements import Bearer
from tokenbudget.services.bills import import_bills
from tokenbudget.services.reconciliation import (
    MonthFacts,
    Reading,
    read_month,
    reconcile_month,
)
from tokenbudget.store.db import Database

SEPTEMBER = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))


def make_metered(
    day: datetime, model: str, effective_nanos: int, *, team: str = "growth", **measures: int
) -> RolledUsage:
    return make_usage(
        day, measures={"effective_nanos": effective_nanos, **measures}, model=model, team=team
    )


def import_samples(database: Database, *names: str) -> None:
    import_bills(database, [BILLING / name for name in names], now=NOW)


def price_list(*models: ModelPrices, **facts: Any) -> PriceList:
    """Give a price list that knows these models, and what it calls these providers."""
    known = [
        ProviderPrices("openai", ("openai",), models),
        ProviderPrices("google", ("google", "gcp.vertex_ai"), ()),
        ProviderPrices("bedrock", ("bedrock", "aws", "aws.bedrock"), ()),
    ]
    return PriceList(known, version="test", **facts)


def read(database: Database, **overrides: Any) -> MonthFacts:
    options = {"currency": "USD", "price_list": price_list(), **overrides}
    return reconcile_month(database, 202609, Reading(**options))


def compare(database: Database, **overrides: Any) -> Reconciliation:
    return read(database, **overrides).reconciliation


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

    result = compare(database, price_list=price_list(model))

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


def test_metered_tells_account_bearer_and_measures(database: Database) -> None:
    roll_up(
        database,
        [
            make_usage(
                september(1),
                measures={
                    "list_nanos": 9,
                    "contracted_nanos": 8,
                    "effective_nanos": 7,
                    "requests": 2,
                },
                account="proj",
                feature="chat",
                tenant="acme",
            )
        ],
    )

    [cost] = read(database).metered

    assert cost == MeteredCost(
        provider="openai",
        model="gpt-5.2",
        period=Period(september(1), september(2)),
        effective_nanos=7,
        account="proj",
        bearer=Bearer("growth", "chat", "acme"),
        requests=2,
        tokens=10,
        list_nanos=9,
        contracted_nanos=8,
    )


def test_usage_and_lines_of_one_key_meet_and_lines_tell_all_they_know(database: Database) -> None:
    store_bill(
        database,
        make_line("1.01", project="lab", api_key="key-a", usage_type="input_tokens"),
        make_line("5", superseded_by="import"),
        make_line("3", billing_month=202610),
    )
    usage = make_usage(
        september(1), measures={"effective_nanos": 10**9}, model="gpt-4.1", account="key-a"
    )
    roll_up(database, [usage])

    facts = read(database)

    [row] = facts.reconciliation.rows
    assert (row.level, row.account, row.verdict) == (
        MatchLevel.ACCOUNT,
        "key-a",
        Verdict.MATCHED,
    )
    [line] = facts.lines
    assert (line.project, line.api_key, line.usage_type) == ("lab", "key-a", "input_tokens")
    assert (line.account, line.billing_month, line.amount) == ("org", 202609, Decimal("1.01"))


def test_googles_month_is_cut_at_midnight_of_the_pacific(database: Database) -> None:
    # September's invoice is for the time from 1 September 07:00 to 1 October 07:00 UTC.
    october = datetime(2026, 10, 1, 6, 59, tzinfo=UTC)
    times = [september(1, 6), september(1, 7), september(15), october, september(1, 6)]
    google = ["gcp.vertex_ai"] * 4
    roll_up(
        database,
        [
            make_usage(at, measures={"effective_nanos": 1}, provider=provider)
            for at, provider in zip(times, [*google, "openai"], strict=True)
        ],
    )
    store_bill(
        database,
        make_line("7", provider="google_cloud", model=None),
        make_line(
            "0.1",
            provider="gcp.vertex_ai",
            model="gpt-5.2",
            start=october.replace(hour=0, minute=0),
            end=october.replace(hour=1, minute=0),
        ),
    )

    facts = read(database)

    metered = sorted((cost.provider, cost.period.start) for cost in facts.metered)
    assert metered == [
        ("gcp.vertex_ai", september(1)),
        ("gcp.vertex_ai", september(15)),
        ("gcp.vertex_ai", datetime(2026, 10, 1, tzinfo=UTC)),
        ("openai", september(1)),
    ]
    assert facts.reconciliation.metered == Decimal("0.000000004")
    assert facts.reconciliation.invoiced == Decimal("7.1")


def test_usage_goes_by_the_name_that_bills_have_for_its_provider(database: Database) -> None:
    store_bill(
        database,
        make_line("1", provider="aws.bedrock", model="nova"),
        make_line("50", provider="aws", model=None, description="EC2"),
    )
    usage = make_usage(
        september(1), measures={"effective_nanos": 10**9}, provider="aws", model="nova"
    )
    roll_up(database, [usage])

    result = compare(database)

    assert [(row.provider, row.verdict) for row in result.rows] == [
        ("aws", Verdict.UNTRACKED),
        ("aws.bedrock", Verdict.MATCHED),
    ]


def test_other_currencies_are_converted_by_dated_quotes_or_listed(database: Database) -> None:
    store_bill(
        database,
        make_line("10", currency="EUR"),
        make_line("3", currency="CHF"),
        make_line("1", model="o3"),
    )
    quote = Quote(date(2026, 9, 1), "EUR", {"USD": Fraction(11, 10)}, "ecb")
    agreements = Agreements(exchange=FxTable((quote,)))

    facts = read(database, price_list=price_list(agreements=agreements))

    assert facts.reconciliation.invoiced == Decimal("12")
    assert facts.reconciliation.other_currencies == {"CHF": Decimal("3")}
    assert [each.flag for each in facts.conversions] == ["fx:EUR@2026-09-01"]
    assert [line.amount for line in facts.unconverted] == [Decimal("3")]
    assert len(facts.reconciliation.line_rows) == len(facts.lines) == 2


def test_one_provider_may_be_asked_for_however_it_is_spelt(database: Database) -> None:
    store_bill(
        database, make_line("1", provider="aws.bedrock"), make_line("2"), make_line("9", model="o3")
    )
    roll_up(database, [make_metered(september(1), "gpt-4.1", 2 * 10**9)])

    bedrock, openai = (read(database, provider=name) for name in ("bedrock", "openai"))

    assert (bedrock.reconciliation.invoiced, bedrock.metered) == (Decimal("1"), ())
    assert openai.reconciliation.invoiced == Decimal("11")
    assert openai.reconciliation.metered == Decimal("2")


def test_a_model_priced_in_the_midst_of_the_month_goes_by_its_later_name(
    database: Database,
) -> None:
    store_bill(database, make_line("1", model="new-2026-09-20", start=september(20)))
    roll_up(database, [make_metered(september(20), "new", 10**9)])
    price = Price("openai", "new", {"input_tokens": 1}, valid_from=september(20))
    model = ModelPrices("openai", "new", ("new", "new-2026-*"), (price,))

    result = compare(database, price_list=price_list(model))

    assert [(row.model, row.level) for row in result.rows] == [("new", MatchLevel.MODEL_DAY)]


def test_the_day_that_is_not_over_is_not_judged(database: Database) -> None:
    roll_up(database, [make_metered(september(day), "o3", 10**9) for day in (1, 2)])

    result = compare(database, as_of=september(2, 12))

    assert [row.verdict for row in result.rows] == [Verdict.MISSING_BILL, Verdict.OPEN]


def test_a_month_is_read_inside_the_transaction_of_whoever_asks(database: Database) -> None:
    store_bill(database, make_line("2"))

    with database.reading() as session:
        facts = read_month(
            session,
            month=202609,
            currency="USD",
            price_list=price_list(),
            tolerance_basis_points=100,
        )

    assert (facts.month, facts.period) == (202609, SEPTEMBER)
    assert facts.reconciliation.line_rows == [0]

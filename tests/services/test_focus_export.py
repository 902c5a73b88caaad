"""A FOCUS export of closed and open months, of agreed prices, and what cannot be exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.builders import make_event, record
from tests.services.focus_cases import (
    BOOK,
    NOW,
    OCTOBER,
    SEARCH,
    SEPTEMBER,
    close_september,
    export_file,
    fill_bill,
    fill_everything,
    fill_rollup,
    make_line,
    make_price_row,
    make_stated,
)
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.periods import Period
from tokenbudget.domain.statements import Method, Origin
from tokenbudget.formats import focus
from tokenbudget.formats.focus import FileKind
from tokenbudget.services import focus_export
from tokenbudget.services.closing import close_month
from tokenbudget.services.focus_export import FocusQuestion, export_focus
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.stating import make_allocate
from tokenbudget.store.db import Database

BOTH = Period(SEPTEMBER.start, OCTOBER.end)
PERIODS = {"closed": SEPTEMBER, "open": OCTOBER, "both": BOTH}
NANO = Decimal("0.000000001")


@pytest.fixture
def everything(services: Services, ledger: Ledger) -> Database:
    """Give a ledger with something of everything."""
    fill_everything(services, ledger)
    return services.database


def test_billed_cost_of_a_closed_month_is_its_statement(
    everything: Database, tmp_path: Path
) -> None:
    file = export_file(everything, tmp_path / "focus.csv")

    # 3 + 4 + 1 + 30 + 70 + 250 + 123 - 500 + 1000 - 10 + 2 - 2 cents.
    assert file.total("BilledCost") == Decimal("9.71")
    assert file.export.is_invoiced
    assert {row["InvoiceId"] for row in file.rows} == {"statement-2026-09-v1"}
    # Two days of plain usage for 4 cents of search: 3 cents of 3 metered, so it gets all of them.
    search = "Suche & Z\\xfcrich"
    assert file.total("BilledCost", x_Team=search, x_Model="plain", ChargeClass=None) == (
        Decimal("0.04")
    )
    assert file.total("BilledCost", ChargeCategory="Tax") == Decimal("1.23")
    assert file.total("BilledCost", x_CostSource="untracked") == Decimal("2.5")
    assert file.total("BilledCost", CommitmentDiscountStatus="Unused") == Decimal("0.3")


def test_billed_cost_of_an_open_month_is_what_is_expected(
    everything: Database, tmp_path: Path
) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=OCTOBER)

    assert not file.export.is_invoiced
    assert {row["InvoiceId"] for row in file.rows} == {None}
    # Metered: 0.02 + 0.03 + 0.001177; what a commitment covers is paid for by itself.
    usage = file.total("BilledCost", ChargeCategory="Usage", ChargeClass=None)
    assert usage == Decimal("0.051177")
    assert file.total("EffectiveCost", CommitmentDiscountStatus="Used") == Decimal("0.700000001")
    assert file.total("BilledCost", CommitmentDiscountId="ptu-1") == 0
    assert file.total("BilledCost", BillingCurrency="EUR") == Decimal("9.99")
    [correction] = file.rows_with(ChargeClass="Correction")
    assert correction["BilledCost"] == "-0.8"
    assert correction["ChargePeriodStart"] == "2026-09-01T00:00:00Z"
    assert correction["BillingPeriodStart"] == "2026-10-01T00:00:00Z"


def test_a_file_is_wholly_invoiced_or_wholly_not(everything: Database, tmp_path: Path) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=BOTH)

    assert {row["InvoiceId"] for row in file.rows} == {None}
    closed = file.total("BilledCost", BillingPeriodStart="2026-09-01T00:00:00Z")
    assert closed == Decimal("9.71")


def test_versions_since_1_3_name_the_provider_and_the_split_their_own_way(
    everything: Database, tmp_path: Path
) -> None:
    file = export_file(everything, tmp_path / "focus.csv", version="1.4")

    assert {row["ServiceProviderName"] for row in file.rows} == {"acme"}
    assert "ProviderName" not in file.rows[0]
    [tax] = file.rows_with(ChargeCategory="Tax")
    assert (tax["AllocatedMethodId"], tax["x_AllocationRule"]) == ("by_direct_cost", "tax")
    assert tax["AllocatedMethodDetails"] == '{"x_Rule": "tax"}'
    assert tax["AllocatedTags"] == tax["Tags"]


def test_the_invoice_of_the_bill_and_its_account_are_named(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    record(ledger, make_event(occurred_at="2026-09-03T10:00:00Z"))
    line = make_line("usage", "0.02", billing_month=202609, invoice_ref="INV-9")
    fill_bill(services.database, [line])
    close_september(services.database, [make_stated(2)])

    file = export_file(services.database, tmp_path / "focus.csv")

    assert {(row["InvoiceId"], row["BillingAccountId"]) for row in file.rows} == {
        ("INV-9", "org-1")
    }
    assert file.total("BilledCost") == Decimal("0.02")


def test_a_month_that_the_ledger_closed_itself_is_billed_to_the_cent(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    database = services.database
    usage = {"input_tokens": 1_000_000, "output_tokens": 500_000}
    growth = make_event(occurred_at="2026-09-03T10:00:00Z", usage=usage)
    search = make_event(
        event_id="e2",
        occurred_at="2026-09-04T10:00:00Z",
        usage={"input_tokens": 3_000_000},
        tags={"team": "search"},
    )
    record(ledger, growth, search)
    september = {"billing_month": 202609, "model": "plain"}
    days = [datetime(2026, 9, day, tzinfo=UTC) for day in (3, 4, 5)]
    fill_bill(
        database,
        [
            make_line("usage", "2.00", period_start=days[0], period_end=days[1], **september),
            make_line("usage", "3.05", period_start=days[1], period_end=days[2], **september),
            make_line(
                "usage",
                "5.00",
                **{**september, "model": "other"},
                period_start=days[1],
                period_end=days[2],
            ),
            make_line(
                "tax",
                "1.00",
                billing_month=202609,
                period_start=SEPTEMBER.start,
                period_end=SEPTEMBER.end,
            ),
        ],
    )
    allocate = make_allocate(currency="USD", price_list=BOOK)
    close_month(database, allocate, month=202609, now=NOW, grace=timedelta(0))

    file = export_file(database, tmp_path / "focus.csv")

    assert file.total("BilledCost") == Decimal("11.05")
    # Within tolerance a team bears what was invoiced for its usage: 2.00, and 3.05 for 3.00.
    metered = {"x_CostSource": "metered"}
    assert file.total("BilledCost", x_Team="growth", **metered) == Decimal("2.00")
    assert file.total("BilledCost", x_Team="search", **metered) == Decimal("3.05")
    assert file.total("EffectiveCost", x_Team="search", **metered) == Decimal("3.00")
    assert file.total("BilledCost", x_CostSource="untracked") == Decimal("5.00")
    assert file.total("BilledCost", ChargeCategory="Tax") == Decimal("1.00")
    assert {row["BillingAccountId"] for row in file.rows} == {"org-1"}


def test_usage_that_came_after_the_closing_is_not_billed(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    record(ledger, make_event(occurred_at="2026-09-03T10:00:00Z"))
    close_september(services.database, [make_stated(2, tenant="other")])

    file = export_file(services.database, tmp_path / "focus.csv")

    assert file.total("BilledCost", x_CostSource="metered") == 0
    assert file.total("EffectiveCost", x_CostSource="metered") == Decimal("0.02")
    # What the statement says of usage that is no longer there is a row of its own.
    [stated] = file.rows_with(x_CostSource="statement")
    assert (stated["ChargeCategory"], stated["BilledCost"]) == ("Adjustment", "0.02")


def test_what_no_invoice_carries_is_not_billed(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    record(ledger, make_event(occurred_at="2026-09-03T10:00:00Z"))
    own = make_stated(2, origin=Origin.UNBILLED, method=Method.DIRECT)
    close_september(services.database, [own])

    file = export_file(services.database, tmp_path / "focus.csv")

    assert file.total("BilledCost") == 0
    assert file.total("EffectiveCost") == Decimal("0.02")


def test_an_invoice_for_usage_without_cost_is_spread_over_its_days(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    days = [f"2026-09-{day:02d}T10:00:00Z" for day in (1, 2, 3)]
    events = [make_event(event_id=day, occurred_at=day, model="gpt-9-zeta") for day in days]
    record(ledger, *events)
    close_september(services.database, [make_stated(1, model="gpt-9-zeta")])

    file = export_file(services.database, tmp_path / "focus.csv")

    # A cent in three, to the nano; each day's is on its first class of tokens and its second.
    by_day = [file.total("BilledCost", ChargePeriodStart=f"{day[:10]}T00:00:00Z") for day in days]
    assert by_day == [Decimal("0.003333333"), Decimal("0.003333334"), Decimal("0.003333333")]


def test_contracts_multipliers_and_quotes_are_in_the_prices(
    database: Database, tmp_path: Path
) -> None:
    row = make_price_row(
        "agreed",
        selector={"tier": "batch", "region": "eu", "above": 200_000, "times": "1/2", "divisor": 4},
        rates={"input_tokens": 8_000_000, "requests": 40_000_000_000},
        agreed={
            "exchange": {"into": "USD", "rate": "3/2", "day": "2026-09-01", "source": "ecb"},
            "contracts": ["c1"],
            "rates": {"input_tokens": "4000000", "requests": "10000000000"},
            "times": "3/4",
        },
    )
    # 8 dollars a million halved and half as much again are 6, of which the contract leaves 3; a
    # request is 0.04 / 4 x 1.5 = 0.015 dollars, under contract 0.0075.
    sums = {
        "requests": 1,
        "input_tokens": 1_000_000,
        "list_nanos": 6_015_000_000,
        "contracted_nanos": 3_007_500_000,
        "effective_nanos": 3_007_500_000,
    }
    fill_rollup(database, row, SEPTEMBER.start, sums=sums)

    file = export_file(database, tmp_path / "focus.csv")

    tokens, requests = file.rows
    assert (tokens["ListUnitPrice"], tokens["ContractedUnitPrice"]) == ("6.0", "3.0")
    assert tokens["SkuPriceId"] == "acme/plain/input_tokens/batch/eu/above-200000"
    assert tokens["SkuPriceDetails"] == (
        '{"x_ServiceTier": "batch", "x_Region": "eu", "x_AboveInputTokens": "200000"}'
    )
    assert (requests["ListUnitPrice"], requests["ContractedUnitPrice"]) == ("0.015", "0.0075")
    assert (requests["PricingUnit"], requests["PricingQuantity"]) == ("Requests", "1.0")


def test_writing_to_a_cache_has_the_price_of_the_usual_time(
    everything: Database, tmp_path: Path
) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=OCTOBER)

    [written] = file.rows_with(x_TokenType="cache_write_tokens")
    [rest] = file.rows_with(x_TokenType="other_units")
    assert (written["ListUnitPrice"], written["ConsumedQuantity"]) == ("1.25", "150.0")
    # The fifty tokens that were written for an hour cost 0.75 dollars a million more.
    assert rest["ListCost"] == "0.0000375"


def test_lines_that_reach_beyond_their_month_are_charged_within_it(
    database: Database, tmp_path: Path
) -> None:
    year = datetime.fromisoformat("2027-09-01T00:00:00Z")
    fill_bill(
        database,
        [
            make_line("purchase", "12.00", period_start=SEPTEMBER.start, period_end=year),
            make_line("credit", "-1.00", period_start=year, period_end=year + timedelta(days=1)),
            make_line("purchase", "-3.00", list_nanos=1),
        ],
    )

    file = export_file(database, tmp_path / "focus.csv", period=OCTOBER)

    periods = [(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in file.rows]
    month = ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert periods == [month, month, ("2026-10-01T00:00:00Z", "2026-10-03T00:00:00Z")]
    assert [row["ChargeFrequency"] for row in file.rows[::2]] == ["Recurring", "Recurring"]
    refund = file.rows[2]
    assert (refund["PricingQuantity"], refund["ListUnitPrice"]) == ("-1.0", "3.0")


def test_an_empty_period_writes_no_file(database: Database, tmp_path: Path) -> None:
    out = tmp_path / "focus.csv"

    with pytest.raises(NotFound, match="from 2026-09-01 until 2026-10-01"):
        export_file(database, out)

    assert not list(tmp_path.glob("*focus*"))


def test_a_file_is_there_as_a_whole_or_stays_what_it_was(
    everything: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "focus.parquet"
    out.write_text("earlier")
    question = FocusQuestion(SEPTEMBER, FileKind.PARQUET)

    monkeypatch.setattr(focus, "ROWS_PER_BATCH", 2)
    monkeypatch.setattr(focus_export, "DAYS_AT_ONCE", 2)
    told: list[int] = []

    def give_up(count: int) -> None:
        told.append(count)
        if len(told) > 2:
            raise KeyError("given up")

    with pytest.raises(KeyError, match="given up"):
        export_focus(everything, question, out, price_list=BOOK, advance=give_up)

    assert out.read_text() == "earlier"
    assert [path.name for path in tmp_path.glob("*focus*")] == ["focus.parquet"]
    export_focus(everything, question, out, price_list=BOOK)
    assert out.read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": "1.1"}, "version"),
        ({"period": Period(SEPTEMBER.start, SEPTEMBER.start + timedelta(days=1_101))}, "to"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(
    database: Database, tmp_path: Path, change: Mapping[str, object], field: str
) -> None:
    question = replace(FocusQuestion(SEPTEMBER, FileKind.CSV), **change)  # type: ignore[arg-type]

    with pytest.raises(InvalidInput) as refused:
        export_focus(database, question, tmp_path / "focus.csv", price_list=BOOK)

    assert refused.value.facts["field"] == field


def test_a_place_that_is_not_there_is_refused_in_a_sentence(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="cannot be written: No such file or directory"):
        export_file(database, tmp_path / "nowhere" / "focus.csv")


def test_a_folder_in_the_way_is_refused_and_leaves_nothing_behind(
    everything: Database, tmp_path: Path
) -> None:
    (tmp_path / "focus.csv" / "full").mkdir(parents=True)

    with pytest.raises(InvalidInput, match="cannot be written"):
        export_file(everything, tmp_path / "focus.csv")

    assert [path.name for path in tmp_path.glob("*focus*")] == ["focus.csv"]


def test_statement_rows_that_differ_in_one_word_stay_apart(
    services: Services, ledger: Ledger, tmp_path: Path
) -> None:
    lines = [
        make_stated(1, **SEARCH, origin=Origin.TAX, model=None, method=method)
        for method in (Method.EVENLY, Method.BY_TOKENS)
    ]
    close_september(services.database, lines)

    file = export_file(services.database, tmp_path / "focus.csv")

    assert file.total("BilledCost", ChargeCategory="Tax") == Decimal("0.02")
    assert len(file.rows) == 2

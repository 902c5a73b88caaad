"""FOCUS files as they are spelt: columns, numbers, texts, times, and both encodings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.focus import (
    ATTOS_PER_UNIT,
    NO_TERMS,
    SHARE,
    CostSource,
    ExportedCharge,
    ExportedUsage,
    Part,
    PriceTerms,
)
from tokenbudget.domain.periods import Period
from tokenbudget.formats import focus, focus_rows
from tokenbudget.formats.focus import (
    FileKind,
    file_kind,
    parse_days,
    parse_kind,
    write_focus,
)
from tokenbudget.formats.focus_columns import columns_of
from tokenbudget.formats.focus_rows import Cells, RowBuilder
from tokenbudget.formats.focus_text import (
    decimal_text,
    end_text,
    id_text,
    instant_text,
    json_text,
    name_text,
)

DAY = Period(datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 4, tzinfo=UTC))
MONTH = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
PART = Part("input_tokens", 1_000, True, 10**6, 10**15, 2 * ATTOS_PER_UNIT, ATTOS_PER_UNIT)


def make_usage(number: int = 1, **changes: Any) -> ExportedUsage:
    usage = ExportedUsage(
        key=f"20260903/{number}/1/input_tokens",
        day=DAY,
        dimensions=DimensionSet("growth", "openai", "gpt-5.2"),
        terms=NO_TERMS,
        part=PART,
        source=CostSource.METERED,
        account="org",
    )
    return usage._replace(**changes)


def make_charge(**changes: Any) -> ExportedCharge:
    charge = ExportedCharge(
        key="line/1",
        provider="openai",
        account="org",
        period=DAY,
        month=202609,
        category=ChargeCategory.PURCHASE,
        billed=5 * ATTOS_PER_UNIT,
        listed=8 * ATTOS_PER_UNIT,
        currency="EUR",
        source=CostSource.INVOICE,
        description="Prepaid",
    )
    return replace(charge, **changes)


def test_versions_have_the_columns_that_the_specification_counts() -> None:
    names = {version: [column.name for column in columns_of(version)] for version in ("1.2", "1.4")}

    assert sum(not name.startswith("x_") for name in names["1.2"]) == 57
    assert sum(not name.startswith("x_") for name in names["1.4"]) == 65
    assert set(names["1.2"]) - set(names["1.4"]) == {"ProviderName", "PublisherName"}
    assert "ServiceProviderName" in names["1.4"]


def test_a_version_that_is_not_written_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"version '1.0' is not one of 1.2, 1.3, 1.4"):
        columns_of("1.0")


@pytest.mark.parametrize(
    ("attos", "text"),
    [
        (0, "0.0"),
        (12 * ATTOS_PER_UNIT, "12.0"),
        (-ATTOS_PER_UNIT // 2, "-0.5"),
        (1, "0.000000000000000001"),
        (10**21 + 10**9, "1000.000000001"),
    ],
)
def test_numbers_are_plain_and_never_look_like_integers(attos: int, text: str) -> None:
    assert decimal_text(attos) == text


def test_times_are_told_in_utc_to_the_second() -> None:
    berlin = timezone(timedelta(hours=2))
    instant = datetime(2026, 9, 1, 2, 0, 0, 999_999, tzinfo=berlin)

    assert instant_text(instant) == "2026-09-01T00:00:00Z"
    assert end_text(instant, instant + timedelta(microseconds=1)) == "2026-09-01T00:00:01Z"


@pytest.mark.parametrize(
    ("text", "identity", "name"),
    [
        ("plain", "plain", "plain"),
        ("Zürich", r"Z\xfcrich", "Zurich"),
        ("≤ 200k", r"\u2264 200k", r"\u2264 200k"),
        ("a\nb", r"a\x0ab", r"a\x0ab"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_texts_are_ascii_and_ids_never_fall_together(
    text: str | None, identity: str | None, name: str | None
) -> None:
    assert (id_text(text), name_text(text)) == (identity, name)


def test_tags_are_flat_json_in_ascii_or_nothing() -> None:
    assert json_text({"team": "Zürich", "tenant": None}) == r'{"team": "Z\u00fcrich"}'
    assert json_text({"tenant": None}) is None


@pytest.mark.parametrize(
    ("provider", "seller", "service"),
    [
        ("openai", "OpenAI", "OpenAI API"),
        ("aws.bedrock", "AWS", "Amazon Bedrock"),
        ("own hosts", "own hosts", "own hosts"),
    ],
)
def test_providers_have_the_names_that_companies_go_by(
    provider: str, seller: str, service: str
) -> None:
    usage = make_usage(dimensions=DimensionSet("growth", provider, "m"))

    row = RowBuilder("USD").usage_row(usage)

    assert {row[f"{name}Name"] for name in ("Provider", "Publisher", "InvoiceIssuer")} == {seller}
    assert row["ServiceName"] == service


def test_what_is_remembered_of_usage_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focus_rows, "MAX_REMEMBERED", 2)
    builder = RowBuilder("USD")
    models = ("a", "b", "c", "c")

    rows = [
        builder.usage_row(
            make_usage(number, dimensions=DimensionSet(model.upper(), "openai", model))
        )
        for number, model in zip((1, 2, 3, 3), models, strict=True)
    ]

    assert [(row["x_Team"], row["x_Model"], row["SkuId"]) for row in rows] == [
        (model.upper(), model, f"openai/{model}/input_tokens") for model in models
    ]


def test_covered_usage_names_its_commitment_and_what_nobody_used_consumed_nothing() -> None:
    covered = PriceTerms(commitment="ptu-1", region="eu", above=200_000)
    share = PriceTerms(commitment="ptu-1", is_share=True)
    nobody = DimensionSet("unallocated", "openai", UNUSED)
    builder = RowBuilder("USD")

    used = builder.usage_row(make_usage(1, terms=covered))
    unused = builder.usage_row(make_usage(2, terms=share, part=SHARE, dimensions=nobody))

    assert (used["PricingCategory"], unused["PricingCategory"]) == ("Committed", "Committed")
    assert (used["CommitmentDiscountStatus"], used["CommitmentDiscountQuantity"]) == (
        "Used",
        "1000.0",
    )
    assert used["SkuPriceId"] == "openai/gpt-5.2/input_tokens/standard/eu/above-200000"
    assert unused["CommitmentDiscountStatus"] == "Unused"
    assert (unused["ConsumedUnit"], unused.get("ConsumedQuantity")) == (None, None)
    assert unused["ChargeDescription"] == "ptu-1 commitment"


def test_usage_without_a_price_says_so_in_words_and_in_columns() -> None:
    row = RowBuilder("USD").usage_row(make_usage(source=CostSource.UNPRICED))

    assert row["PricingCategory"] == "Other"
    assert row["ChargeDescription"] == (
        "gpt-5.2 input tokens (no price is known: the cost is unknown, not zero)"
    )


def test_a_blended_price_is_for_all_requests_together() -> None:
    part = Part("other_units", 3, False, 3, ATTOS_PER_UNIT, 7, 7)

    row = RowBuilder("USD").usage_row(make_usage(part=part))

    assert (row["PricingUnit"], row["PricingQuantity"]) == ("3 Requests", "1.0")
    assert (row["ConsumedUnit"], row["ConsumedQuantity"]) == ("Requests", "3.0")
    assert row["ChargeDescription"] == "gpt-5.2 other units, which prices of tokens do not explain"


def test_a_share_says_by_which_method_and_rule_it_came_to_its_bearer() -> None:
    tags = {"team": "Zürich"}

    row = RowBuilder("USD").charge_row(
        make_charge(category=ChargeCategory.TAX, method="evenly", rule="support", tags=tags)
    )

    assert row["AllocatedMethodId"] == row["x_AllocationMethod"] == "evenly"
    assert row["AllocatedMethodDetails"] == '{"x_Rule": "support"}'
    assert row["AllocatedTags"] == row["Tags"] == r'{"team": "Z\u00fcrich"}'


def test_a_purchase_is_once_its_price_and_a_list_price_of_another_sign_is_left_out() -> None:
    builder = RowBuilder("USD")

    row = builder.charge_row(make_charge())
    refund = builder.charge_row(make_charge(billed=-5 * ATTOS_PER_UNIT))

    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == ("8.0", "5.0")
    assert (row["PricingQuantity"], row["ChargeFrequency"]) == ("1.0", "One-Time")
    assert (row["BillingCurrency"], row["EffectiveCost"]) == ("EUR", "0.0")
    assert (refund["PricingQuantity"], refund["ListCost"], refund["ListUnitPrice"]) == (
        "-1.0",
        "-5.0",
        "5.0",
    )


def test_a_purchase_that_corrects_an_earlier_invoice_has_no_price() -> None:
    august = Period(datetime(2026, 8, 1, tzinfo=UTC), MONTH.start)

    row = RowBuilder("USD").charge_row(make_charge(is_correction=True, period=august))

    assert (row["ChargeClass"], row.get("PricingQuantity")) == ("Correction", None)
    assert row["ChargePeriodEnd"] == row["BillingPeriodStart"] == "2026-09-01T00:00:00Z"


def test_a_charge_of_another_time_is_charged_for_its_billing_period() -> None:
    before = Period(MONTH.start - timedelta(days=9), MONTH.start - timedelta(days=8))

    row = RowBuilder("USD").charge_row(make_charge(period=before, category=ChargeCategory.TAX))

    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        "2026-09-01T00:00:00Z",
        "2026-10-01T00:00:00Z",
    )


def test_an_account_stands_for_a_missing_one() -> None:
    row = RowBuilder("USD").charge_row(make_charge(account="", project="proj"))

    assert (row["BillingAccountId"], row["SubAccountId"]) == ("openai", "proj")


def make_rows(count: int) -> Iterator[Cells]:
    builder = RowBuilder("USD")
    for number in range(count):
        yield builder.usage_row(make_usage(number))


@pytest.mark.parametrize("kind", FileKind)
def test_rows_are_written_batch_by_batch_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: FileKind
) -> None:
    monkeypatch.setattr(focus, "ROWS_PER_BATCH", 10)
    path = tmp_path / "focus"

    written = write_focus(path, make_rows(25), version="1.2", kind=kind)

    frame = pl.read_csv(path) if kind is FileKind.CSV else pl.read_parquet(path)
    assert written == frame.height == 25
    assert frame["x_ChargeKey"].to_list() == [
        f"20260903/{number}/1/input_tokens" for number in range(25)
    ]
    assert Decimal(str(frame["ListCost"].to_list()[0])) == Decimal("0.002")


@pytest.mark.parametrize("kind", FileKind)
def test_without_rows_nothing_is_written(tmp_path: Path, kind: FileKind) -> None:
    assert write_focus(tmp_path / "focus", iter(()), version="1.2", kind=kind) == 0
    assert not list(tmp_path.iterdir())


def test_a_number_that_no_file_holds_is_an_error_of_writing(tmp_path: Path) -> None:
    [row] = make_rows(1)
    huge = {**row, "ListCost": f"{10**21}.0"}

    with pytest.raises(OSError, match="conversion"):
        write_focus(tmp_path / "focus", [huge], version="1.2", kind=FileKind.PARQUET)


@pytest.mark.parametrize(("name", "kind"), [("a.CSV", "csv"), ("b.c.parquet", "parquet")])
def test_the_ending_of_a_file_says_how_it_is_encoded(name: str, kind: str) -> None:
    assert file_kind(name).value == kind == parse_kind(kind).value


def test_other_encodings_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"'a.json' must end with .csv or .parquet"):
        file_kind("a.json")
    with pytest.raises(InvalidInput, match="format 'json' is not csv or parquet"):
        parse_kind("json")


def test_days_are_half_open() -> None:
    assert parse_days("2026-09-03", "2026-09-04") == DAY


@pytest.mark.parametrize(
    ("first", "end", "field"),
    [
        ("2026-9-3", "2026-09-04", "from"),
        ("2026-09-03", "2026-09-31", "to"),
        ("2026-09-03", "2026-09-03", "to"),
    ],
)
def test_days_that_are_none_are_refused(first: str, end: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_days(first, end)

    assert refused.value.facts["field"] == field

"""Azure cost exports of either agreement."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, azure

OFFICIAL = BILLING / "azure-ea-actualcost-official.csv"
EA = BILLING / "azure-openai-ea-actualcost.csv"
MCA = BILLING / "azure-openai-mca-actualcost.csv"
SECOND = Period(datetime(2026, 9, 2, tzinfo=UTC), datetime(2026, 9, 3, tzinfo=UTC))


def read(path: Path) -> list[BillLine]:
    return list(azure.read(path))


def total(path: Path) -> Decimal:
    return sum((line.billed for line in read(path)), Decimal(0))


def frame(path: Path = EA) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def write(directory: Path, **cells: str | None) -> Path:
    """Give a file of the EA sample's first row in which these columns hold these cells."""
    path = directory / "azure.csv"
    columns = [pl.lit(cell, dtype=pl.String).alias(name) for name, cell in cells.items()]
    frame().head(1).with_columns(columns).write_csv(path)
    return path


def test_the_samples_sum_to_their_published_totals() -> None:
    assert total(EA) == Decimal("298.9993301")
    assert total(MCA) == Decimal("7.5995680")
    assert total(OFFICIAL) == Decimal("8.5450077867419368")


def test_a_line_keeps_what_the_export_says() -> None:
    assert read(EA)[1] == BillLine(
        row_number=2,
        provider="azure.ai.openai",
        account="1234567",
        period=SECOND,
        category=ChargeCategory.USAGE,
        billed=Decimal("1.9"),
        currency="USD",
        project="00000000-1111-2222-3333-444444444444",
        model="gpt-4.1",
        usage_type="cached_input_tokens",
        description="gpt 4.1 cchd Inp glbl Tokens",
        quantity=Decimal("4000000"),
        unit="tokens",
        listed=Decimal("2"),
        month=202609,
        tags={"team": "search", "env": "prod"},
    )


def test_a_bill_in_euros_priced_in_dollars_stays_in_euros() -> None:
    lines = read(MCA)

    assert {line.currency for line in lines} == {"EUR"}
    assert (lines[2].billed, lines[2].listed) == (Decimal("3.588"), Decimal("3.795"))
    assert (lines[3].category, lines[3].is_correction) == (ChargeCategory.ADJUSTMENT, True)
    assert (lines[3].invoice_ref, lines[3].tags) == (
        "G100000002",
        {"x_previous_invoice": "G100000001"},
    )


def test_purchases_hours_and_marketplace_models_are_told_apart() -> None:
    hours, purchase, refund, model = read(EA)[6:]

    assert (hours.model, hours.quantity, hours.unit) == (None, Decimal(24), "1 Hour")
    assert (purchase.category, purchase.billed) == (ChargeCategory.PURCHASE, Decimal(260))
    assert (refund.quantity, refund.category) == (Decimal(-10000), ChargeCategory.ADJUSTMENT)
    assert (model.provider, model.model) == ("azure.ai.inference", "claude-sonnet-4-5")


def test_other_services_stay_under_the_clouds_own_name() -> None:
    lines = read(OFFICIAL)

    assert {line.provider for line in lines} == {"microsoft"}
    assert {line.model for line in lines} == {None}
    assert sum(line.folded_rows for line in lines) == 11


@pytest.mark.parametrize(
    ("quantity", "price", "cost", "counted"),
    [
        ("1234.567", "0.0019", "2.3456773", "1234567"),
        ("1234567", "0.0019", "2.3456773", "1234567"),
        ("1234567", None, "2.3456773", "1234567000"),
        (None, "0.0019", "2.3456773", None),
    ],
)
def test_each_row_is_asked_whether_it_counts_blocks_or_single_tokens(
    tmp_path: Path, quantity: str | None, price: str | None, cost: str, counted: str | None
) -> None:
    [line] = read(write(tmp_path, Quantity=quantity, EffectivePrice=price, Cost=cost))

    assert line.quantity == (None if counted is None else Decimal(counted))


def test_the_list_price_is_that_of_a_block_whatever_is_counted(tmp_path: Path) -> None:
    [by_blocks] = read(write(tmp_path, Quantity="1234.567", PayGPrice="0.002"))
    [by_tokens] = read(write(tmp_path, Quantity="1234567", PayGPrice="0.002"))
    [unknown] = read(write(tmp_path, PayGPrice="0"))

    assert by_blocks.listed == by_tokens.listed == Decimal("2.469134")
    assert unknown.listed is None


def test_names_in_any_case_and_order_are_found(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    reordered = frame().select(sorted(frame().columns, reverse=True))
    reordered.rename(str.lower).write_csv(path)

    assert read(path) == read(EA)


def test_semicolons_and_decimal_commas_give_the_same_lines(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    numbers = ("Quantity", "EffectivePrice", "Cost", "UnitPrice", "PayGPrice")
    commas = frame().with_columns(pl.col(*numbers).str.replace(".", ",", literal=True))
    path.write_bytes(commas.write_csv(separator=";").encode("utf-16"))

    assert read(path) == read(EA)


def test_iso_days_are_read_too(tmp_path: Path) -> None:
    [line] = read(write(tmp_path, Date="2026-09-02T00:00:00Z"))

    assert line.period == SECOND


def test_a_type_of_charge_nobody_knows_is_an_adjustment(tmp_path: Path) -> None:
    assert read(write(tmp_path, ChargeType="RoundingAdjustment"))[0].category.value == "adjustment"


def test_a_model_without_a_plan_on_the_marketplace_is_named_by_its_meter(tmp_path: Path) -> None:
    [line] = read(
        write(
            tmp_path,
            PublisherType="Marketplace",
            MeterSubCategory=None,
            Product="Claude via Foundry",
            MeterName="Claude Opus Input Tokens",
        )
    )

    assert (line.provider, line.model) == ("azure.ai.inference", "claude-opus")


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("Cost", None, "must not be null"),
        ("Cost", "free", "'free' is not a decimal number"),
        ("Date", "13/13/2026", "'13/13/2026' is not a day such as 09/02/2026"),
        ("Date", "yesterday", "'yesterday' is not a day"),
        ("BillingPeriodStartDate", None, "must not be null"),
        ("BillingCurrency", "usd", "is not a currency"),
        ("ChargeType", "UnusedReservation", "the file is of amortised cost"),
        ("EffectivePrice", "cheap", "'cheap' is not a decimal number"),
        ("Tags", "team=search", "is not a flat JSON object"),
    ],
)
def test_a_wrong_cell_is_refused_naming_row_column_and_rule(
    tmp_path: Path, column: str, cell: str | None, rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"azure\.csv: row 1, column {column}: .*{rule}"):
        read(write(tmp_path, **{column: cell}))


def test_a_missing_and_a_doubled_column_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    frame().drop("Cost").write_csv(path)
    with pytest.raises(BadFile, match=r"azure\.csv: column costinbillingcurrency is missing"):
        read(path)

    path.write_text(EA.read_text(encoding="utf-8-sig").replace("ServiceInfo1", "QUANTITY"))
    with pytest.raises(BadFile, match=r"azure\.csv: column QUANTITY is there twice"):
        read(path)

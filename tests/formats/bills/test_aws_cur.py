"""AWS cost and usage reports: CUR 2.0 and the legacy one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, aws_cur

SAMPLE = BILLING / "aws-cur2-bedrock.csv"
SEPTEMBER = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
FIRST = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))


def read(path: Path) -> list[BillLine]:
    return list(aws_cur.read(path))


def frame() -> pl.DataFrame:
    return pl.read_csv(SAMPLE, infer_schema=False)


def write(directory: Path, **cells: str | None) -> Path:
    """Give a file of the sample's first row in which these columns hold these cells."""
    path = directory / "cur.csv"
    columns = [pl.lit(cell, dtype=pl.String).alias(name) for name, cell in cells.items()]
    frame().head(1).with_columns(columns).write_csv(path)
    return path


def test_the_sample_sums_to_its_published_total() -> None:
    lines = read(SAMPLE)

    assert len(lines) == 14
    assert sum((line.billed for line in lines), Decimal(0)) == Decimal("24.7176805200")
    assert {line.currency for line in lines} == {"USD"}
    assert {line.provider for line in lines} == {"aws.bedrock"}


def test_a_line_of_bedrock_keeps_what_the_report_says() -> None:
    assert read(SAMPLE)[1] == BillLine(
        row_number=2,
        provider="aws.bedrock",
        account="111122223333",
        period=FIRST,
        category=ChargeCategory.USAGE,
        billed=Decimal("1.1061696"),
        currency="USD",
        project="012345678901",
        model="amazon.nova-pro-v1:0",
        usage_type="output_tokens",
        description="$0.0032 per 1K tokens for NovaPro-output-tokens in US East (N. Virginia),"
        " USE1-NovaPro-output-tokens",
        quantity=Decimal("345678"),
        unit="tokens",
        listed=Decimal("1.1061696"),
        month=202609,
        tags={"team": "search", "env": "prod"},
    )


def test_models_of_the_marketplace_count_millions_and_have_no_list_price() -> None:
    line = read(SAMPLE)[6]

    assert line.model == "anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert (line.quantity, line.unit, line.listed) == (Decimal("2500000"), "tokens", None)


def test_tax_credit_discount_and_refund_are_told_apart() -> None:
    tax, credit, refund, discount = read(SAMPLE)[10:]

    assert [line.category.value for line in (tax, credit, refund, discount)] == [
        "tax",
        "credit",
        "adjustment",
        "credit",
    ]
    assert (refund.period, refund.is_correction) == (SEPTEMBER, True)
    assert discount.description == (
        "Enterprise Discount Program discount, USE1-NovaPro-input-tokens, EdpDiscount"
    )


def test_who_called_is_a_tag_of_its_own() -> None:
    tags = read(SAMPLE)[0].tags

    assert tags["x_iam_principal"].endswith("assumed-role/search-api/session-1")
    assert tags["iamPrincipal/department"] == "eng"


def test_the_legacy_report_with_slashes_and_a_column_a_tag_is_read(tmp_path: Path) -> None:
    legacy = {
        "identity/LineItemId": "x",
        "bill/PayerAccountId": "111122223333",
        "bill/BillType": "Anniversary",
        "bill/BillingPeriodStartDate": "2026-09-01T00:00:00Z",
        "lineItem/UsageAccountId": "012345678901",
        "lineItem/LineItemType": "Usage",
        "lineItem/UsageStartDate": "2026-09-01T05:00:00Z",
        "lineItem/UsageEndDate": "2026-09-01T06:00:00Z",
        "lineItem/ProductCode": "AmazonBedrock",
        "lineItem/UsageType": "USE1-NovaPro-input-tokens",
        "lineItem/UsageAmount": "2",
        "lineItem/CurrencyCode": "USD",
        "lineItem/UnblendedCost": "0.0016",
        "pricing/unit": "1K tokens",
        "resourceTags/user:team": "search",
        "resourceTags/aws:createdBy": None,
    }
    path = tmp_path / "legacy.csv"
    pl.DataFrame({name: [cell] for name, cell in legacy.items()}).write_csv(path)

    [line] = read(path)

    assert (line.model, line.quantity, line.tags) == (
        "amazon.nova-pro-v1:0",
        Decimal(2000),
        {"team": "search"},
    )
    assert (line.period, line.billing_month) == (FIRST, 202609)


def test_parquet_with_maps_and_timestamps_gives_the_same_lines(tmp_path: Path) -> None:
    def pairs(column: str) -> pl.Series:
        return pl.Series(
            column,
            [
                [{"key": key, "value": value} for key, value in line.items()] if line else []
                for line in map(pl_json, frame()[column].to_list())
            ],
            dtype=pl.List(pl.Struct({"key": pl.String, "value": pl.String})),
        )

    path = tmp_path / "cur.parquet"
    times = ("line_item_usage_start_date", "line_item_usage_end_date")
    frame().with_columns(
        *(pairs(name) for name in ("resource_tags", "tags", "product")),
        *(pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ") for name in times),
        pl.col("line_item_unblended_cost").cast(pl.Float64),
    ).write_parquet(path)

    assert read(path) == read(SAMPLE)


def pl_json(text: str | None) -> dict[str, str]:
    parsed: dict[str, str] = json.loads(text or "{}")
    return parsed


def test_other_services_stay_under_the_clouds_own_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line_item_product_code="AmazonEC2",
        product_servicecode="AmazonEC2",
        line_item_usage_type="USE1-BoxUsage:t3.micro",
        pricing_unit="Hrs",
        line_item_line_item_description=None,
        line_item_usage_amount=None,
    )

    [line] = read(path)

    assert (line.provider, line.model, line.usage_type) == ("aws", None, None)
    assert (line.unit, line.quantity) == ("Hrs", None)
    assert line.description == "USE1-BoxUsage:t3.micro"


def test_a_kind_of_row_nobody_knows_is_an_adjustment_and_says_so(tmp_path: Path) -> None:
    [line] = read(write(tmp_path, line_item_line_item_type="Surprise"))

    assert line.category is ChargeCategory.ADJUSTMENT
    assert line.description is not None
    assert line.description.endswith(", Surprise")


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("line_item_unblended_cost", None, "must not be null"),
        ("line_item_unblended_cost", "free", "'free' is not a decimal number"),
        ("line_item_usage_amount", "many", "'many' is not a decimal number"),
        ("line_item_usage_start_date", "09/01/2026", "'09/01/2026' is not a UTC time"),
        ("line_item_usage_end_date", "2026-09-01T00:00:00Z", "must end after it starts"),
        ("bill_billing_period_start_date", None, "must not be null"),
        ("line_item_currency_code", "usd", "is not a currency"),
        ("line_item_line_item_type", None, "must not be null"),
        ("resource_tags", "team=search", "is not a flat JSON object"),
        ("product", "Bedrock", "is not a flat JSON object"),
    ],
)
def test_a_wrong_cell_is_refused_naming_row_column_and_rule(
    tmp_path: Path, column: str, cell: str | None, rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"cur\.csv: row 1, column {column}: .*{rule}"):
        read(write(tmp_path, **{column: cell}))


def test_an_error_names_the_column_as_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "legacy.csv"
    path.write_text(
        "bill/PayerAccountId,bill/BillingPeriodStartDate,lineItem/UsageStartDate,"
        "lineItem/UsageEndDate,lineItem/UnblendedCost,lineItem/CurrencyCode,lineItem/LineItemType\n"
        "1,2026-09-01T00:00:00Z,2026-09-01T00:00:00Z,2026-09-02T00:00:00Z,free,USD,Usage\n"
    )

    with pytest.raises(BadFile, match="row 1, column lineItem/UnblendedCost: 'free'"):
        read(path)


@pytest.mark.parametrize("column", aws_cur.REQUIRED)
def test_a_missing_column_is_refused_by_name(tmp_path: Path, column: str) -> None:
    path = tmp_path / "cur.csv"
    frame().drop(column).write_csv(path)

    with pytest.raises(BadFile, match=rf"cur\.csv: column {column} is missing"):
        read(path)

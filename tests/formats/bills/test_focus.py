"""FOCUS files from several emitters, as CSV and as Parquet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, focus

GOLDEN = BILLING / "focus-1.2-llm-golden.csv"
SEPTEMBER = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
THIRD = Period(datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 4, tzinfo=UTC))


def read(path: Path) -> list[BillLine]:
    return list(focus.read(path))


def total(lines: list[BillLine], currency: str = "USD") -> Decimal:
    return sum((line.billed for line in lines if line.currency == currency), Decimal(0))


def golden_frame() -> pl.DataFrame:
    return pl.read_csv(GOLDEN, infer_schema=False)


def write_golden(directory: Path, **columns: list[str | None]) -> Path:
    """Give a copy of the golden file's first rows in which these columns hold these cells."""
    row_count = max(map(len, columns.values()))
    path = directory / "focus.csv"
    changed = [pl.Series(name, cells, dtype=pl.String) for name, cells in columns.items()]
    golden_frame().head(row_count).with_columns(changed).write_csv(path)
    return path


def test_the_golden_file_sums_to_the_total_worked_out_by_hand() -> None:
    lines = read(GOLDEN)

    assert len(lines) == 10
    assert total(lines) == Decimal("104.250831625")
    assert total(lines, "EUR") == Decimal("7.36")


def test_csv_and_parquet_of_one_bill_give_equal_lines() -> None:
    assert read(GOLDEN) == read(GOLDEN.with_suffix(".parquet"))


def test_a_usage_line_keeps_what_the_file_says() -> None:
    assert read(GOLDEN)[3] == BillLine(
        row_number=4,
        provider="anthropic",
        account="org-EXAMPLE2",
        period=THIRD,
        category=ChargeCategory.USAGE,
        billed=Decimal("1.3500135"),
        currency="USD",
        project="wrkspc_1",
        model="claude-sonnet-4",
        usage_type="output_tokens",
        description="claude-sonnet-4 output tokens",
        quantity=Decimal("100001"),
        unit="Tokens",
        listed=Decimal("1.500015"),
        invoice_ref="INV-ANT-09",
        month=202609,
        tags={"team": "search", "env": "prod"},
    )


def test_semicolons_tabs_and_other_encodings_give_the_same_lines(tmp_path: Path) -> None:
    commas = golden_frame().with_columns(
        pl.col("BilledCost", "ListCost", "EffectiveCost").str.replace(".", ",", literal=True),
        pl.col("ConsumedQuantity", "PricingQuantity").str.replace(".", ",", literal=True),
    )
    for name, separator, encoding, frame in (
        ("a.csv", ";", "utf-8-sig", commas),
        ("b.csv", ";", "utf-16", commas),
        ("c.tsv", "\t", "utf-16", golden_frame()),
        ("d.csv", ",", "utf-8", golden_frame().select(sorted(golden_frame().columns))),
    ):
        path = tmp_path / name
        text = frame.write_csv(separator=separator, line_terminator="\r\n")
        path.write_bytes(text.encode(encoding))

        assert read(path) == read(GOLDEN)


def test_every_charge_category_is_kept() -> None:
    lines = read(GOLDEN)

    assert [line.category.value for line in lines[4:9]] == [
        "usage",
        "credit",
        "tax",
        "purchase",
        "usage",
    ]


def test_a_correction_of_an_earlier_month_belongs_to_the_invoice_that_carries_it() -> None:
    correction = read(GOLDEN)[8]

    assert correction.billed == Decimal("-0.80")
    assert correction.model is None
    assert correction.period == SEPTEMBER
    assert (correction.is_correction, correction.billing_month) == (True, 202609)
    assert correction.tags["x_charge_period"] == "2026-08-03T00:00:00Z/2026-08-04T00:00:00Z"


def test_the_official_sample_with_null_words_and_zoneless_times_is_read() -> None:
    lines = read(BILLING / "focus-1.0-official-rows.csv")

    assert sum(line.folded_rows for line in lines) == 22
    assert total(lines) == Decimal("0.28047952725")
    assert lines[0].period == Period(
        datetime(2024, 9, 18, tzinfo=UTC), datetime(2024, 9, 19, tzinfo=UTC)
    )
    assert lines[0].tags == {}
    assert {line.provider for line in lines} == {"aws", "microsoft", "oracle"}


def test_amazons_file_names_bedrock_and_sums_to_its_published_total() -> None:
    lines = read(BILLING / "aws-focus-1.2-bedrock.csv")

    assert total(lines) == Decimal("24.767063200")
    assert lines[0].provider == "aws.bedrock"
    assert (lines[0].model, lines[0].usage_type) == ("amazon.nova-pro-v1:0", "input_tokens")
    assert (lines[9].provider, lines[9].model) == ("aws.bedrock", None)
    assert lines[9].usage_type == "input_tokens"


def test_a_row_without_a_provider_is_kept_as_unknown() -> None:
    lines = read(BILLING / "litellm-focus.csv")

    assert [(line.provider, line.billed) for line in lines] == [
        ("openai", Decimal("0.004350")),
        ("unknown", Decimal("0.000000")),
    ]
    assert [line.model for line in lines] == ["gpt-4.1-2025-04-14", "zeta-9"]
    assert lines[0].api_key == lines[0].account == "88dc28d0f030c55e"


@pytest.mark.parametrize(
    ("provider", "service", "word"),
    [
        ("Microsoft", "Azure OpenAI Service", "azure.ai.openai"),
        ("Google Cloud", "Vertex AI", "gcp.vertex_ai"),
        ("Google Cloud", None, "google_cloud"),
        ("Mistral AI", "La Plateforme", "mistral_ai"),
    ],
)
def test_a_cloud_is_named_by_its_service_in_the_ledgers_words(
    tmp_path: Path, provider: str, service: str | None, word: str
) -> None:
    path = write_golden(tmp_path, ProviderName=[provider], ServiceName=[service])

    assert read(path)[0].provider == word


def test_a_newer_file_names_its_provider_in_another_column(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    golden_frame().rename({"ProviderName": "ServiceProviderName"}).write_csv(path)

    assert read(path)[3].provider == "anthropic"


def test_a_file_that_names_no_provider_still_names_who_sends_the_invoice(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    golden_frame().drop("ProviderName").write_csv(path)

    assert {line.provider for line in read(path)} == {"openai", "anthropic"}


def test_the_priced_quantity_stands_in_for_an_absent_consumed_one(tmp_path: Path) -> None:
    path = write_golden(tmp_path, ConsumedQuantity=[None], ConsumedUnit=[None])

    line = read(path)[0]

    assert (line.quantity, line.unit) == (Decimal("1.234567"), "1000000 Tokens")


def test_an_absent_list_cost_is_absent_and_not_zero(tmp_path: Path) -> None:
    assert read(write_golden(tmp_path, ListCost=[None]))[0].listed is None


def test_a_byte_order_mark_and_empty_rows_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    path.write_bytes(b"\xef\xbb\xbf" + GOLDEN.read_bytes() + b"\n\n")

    assert read(path) == read(GOLDEN)


def test_a_file_with_a_header_only_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    path.write_text(GOLDEN.read_text().partition("\n")[0] + "\n")

    assert read(path) == []


def test_parquet_times_without_a_zone_and_costs_as_doubles_are_read(tmp_path: Path) -> None:
    path = tmp_path / "focus.parquet"
    golden = pl.read_parquet(GOLDEN.with_suffix(".parquet"))
    golden.with_columns(
        pl.col("ChargePeriodStart").dt.replace_time_zone(None),
        pl.col("BilledCost").cast(pl.Float64),
    ).write_parquet(path)

    assert read(path) == read(GOLDEN)


def test_tags_are_texts_whatever_their_value(tmp_path: Path) -> None:
    tags = '{"a": 1.50, "b": true, "c": null, "d": "x"}'
    path = write_golden(tmp_path, Tags=[tags], InvoiceId=[None])

    assert read(path)[0].tags == {"a": "1.50", "b": "true", "c": "", "d": "x"}


def test_the_invalid_file_is_refused_at_its_first_wrong_row() -> None:
    with pytest.raises(BadFile) as caught:
        read(BILLING / "focus-1.2-llm-invalid.csv")

    assert caught.value.detail == (
        "focus-1.2-llm-invalid.csv: row 1, column BillingCurrency:"
        " 'usd' is not a currency of three capital letters"
    )


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("BilledCost", None, "must not be null"),
        ("BilledCost", "1,50", "'1,50' is not a decimal number"),
        ("BillingAccountId", "NULL", "must not be null"),
        ("ChargeCategory", "usage", "'usage' is not one of Usage, Purchase, Tax, Credit, Adj"),
        ("ChargeClass", "Refund", "'Refund' is neither null nor Correction"),
        ("ChargePeriodStart", "13/3/26", "'13/3/26' is not a UTC time"),
        ("ChargePeriodEnd", "2026-09-03T00:00:00Z", "the period must end after it starts"),
        ("BillingPeriodStart", None, "must not be null"),
        ("ConsumedQuantity", "many", "'many' is not a decimal number"),
        ("ListCost", "free", "'free' is not a decimal number"),
        ("Tags", "team=search", "'team=search' is not a flat JSON object"),
        ("Tags", '["team"]', "is not a flat JSON object"),
        ("Tags", '{"team": {"name": "search"}}', "is not a flat JSON object"),
    ],
)
def test_a_wrong_cell_is_refused_naming_row_column_and_rule(
    tmp_path: Path, column: str, cell: str | None, rule: str
) -> None:
    good = golden_frame()[column][0]
    path = write_golden(tmp_path, **{column: [good, cell]})

    with pytest.raises(BadFile) as caught:
        read(path)

    assert caught.value.detail.startswith(f"focus.csv: row 2, column {column}: ")
    assert rule in caught.value.detail


@pytest.mark.parametrize("column", [*focus.REQUIRED_COLUMNS, "ProviderName"])
def test_a_missing_column_is_refused_by_name(tmp_path: Path, column: str) -> None:
    path = tmp_path / "focus.csv"
    golden_frame().drop(column, "InvoiceIssuerName").write_csv(path)

    with pytest.raises(BadFile, match=rf"focus\.csv: column {column} is missing"):
        read(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    path.write_text(GOLDEN.read_text().replace("AvailabilityZone", "BilledCost", 1))

    with pytest.raises(BadFile, match="column BilledCost is there twice"):
        read(path)


def test_parquet_maps_for_tags_are_read(tmp_path: Path) -> None:
    path = tmp_path / "focus.parquet"
    tags = pl.Series("Tags", [[{"key": "team", "value": "search"}], None] * 5)
    golden_frame().with_columns(tags).write_parquet(path)

    lines = read(path)

    assert [line.tags for line in lines[:2]] == [{"team": "search"}, {}]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda content: content.replace(b"Promotional", b'"Promotional'), "damaged"),
        (lambda content: content.replace(b"Promotional", b"Promo\xff"), "the text is not UTF-8"),
        (lambda content: content[:-300], "row 10: the row is too short"),
        (lambda _content: b"PAR1 and no more", "is cut short or damaged"),
        (lambda _content: b"", "has no header line"),
        (lambda content: content.decode().encode("utf-16-le"), "has no header line of UTF-8"),
    ],
)
def test_a_damaged_file_is_one_error_about_the_file(
    tmp_path: Path, damage: Callable[[bytes], bytes], rule: str
) -> None:
    path = tmp_path / "focus.csv"
    path.write_bytes(damage(GOLDEN.read_bytes()))

    with pytest.raises(BadFile, match=rf"focus\.csv: .*{rule}"):
        read(path)


@pytest.mark.parametrize(
    ("sample", "total_billed", "category"),
    [("a1", "200000", "purchase"), ("b2", "0", "usage"), ("c", "53000", "purchase")],
)
def test_the_specifications_own_examples_with_american_dates_are_read(
    sample: str, total_billed: str, category: str
) -> None:
    lines = read(BILLING / f"focus-spec-virtual-currency-{sample}.csv")

    assert total(lines) == Decimal(total_billed)
    assert {line.category.value for line in lines} == {category}


def test_what_is_used_up_of_a_prepaid_credit_costs_nothing_and_has_an_effective_cost() -> None:
    line = read(BILLING / "focus-spec-virtual-currency-b2.csv")[0]

    assert (line.billed, line.effective) == (Decimal("0"), Decimal("245"))
    assert line.period == Period(datetime(2025, 4, 1, tzinfo=UTC), datetime(2025, 4, 2, tzinfo=UTC))


def test_hours_that_differ_in_nothing_else_are_one_line_a_day(tmp_path: Path) -> None:
    hours = [f"2026-09-03T{hour:02}:00:00Z" for hour in (0, 5, 23)] + ["2026-09-04T00:00:00Z"]
    ends = ["2026-09-03T01:00:00Z", "2026-09-03T06:00:00Z", hours[3], "2026-09-04T01:00:00Z"]
    costs = ["0.10", "0.000000000000000000000000000001", "-0.03", "7"]
    path = tmp_path / "focus.csv"
    one_line = pl.concat([golden_frame().head(1)] * 4)
    one_line.with_columns(
        ChargePeriodStart=pl.Series(hours),
        ChargePeriodEnd=pl.Series(ends),
        BilledCost=pl.Series(costs),
        ConsumedQuantity=pl.Series(["1", "2", "3", "4"]),
    ).write_csv(path)

    first, second = read(path)

    assert (first.folded_rows, second.folded_rows) == (3, 1)
    assert first.billed == Decimal("0.070000000000000000000000000001")
    assert (first.quantity, second.quantity) == (Decimal("6"), Decimal("4"))
    assert (first.period, second.row_number) == (THIRD, 4)


def test_a_month_that_begins_at_another_midnight_keeps_its_first_day(tmp_path: Path) -> None:
    path = write_golden(
        tmp_path,
        BillingPeriodStart=["2026-09-01T07:00:00Z"],
        BillingPeriodEnd=["2026-10-01T07:00:00Z"],
        ChargePeriodStart=["2026-09-01T07:00:00Z"],
        ChargePeriodEnd=["2026-09-01T08:00:00Z"],
    )

    [line] = read(path)

    assert (line.period.start.hour, line.billing_month) == (0, 202609)


@pytest.mark.parametrize(
    ("meter", "category", "model", "usage_type"),
    [
        ("gpt-5-turbo", "Usage", "gpt-5-turbo", None),
        ("input_cached tokens", "Usage", None, "cached_input_tokens"),
        ("seats", "Purchase", None, None),
        (None, "Usage", None, None),
    ],
)
def test_a_meter_may_name_a_model_or_a_unit(
    tmp_path: Path, meter: str | None, category: str, model: str | None, usage_type: str | None
) -> None:
    path = write_golden(
        tmp_path, SkuMeter=[meter], ChargeCategory=[category], x_Model=[None], x_TokenType=[None]
    )

    line = read(path)[0]

    assert (line.model, line.usage_type) == (model, usage_type)


@pytest.mark.parametrize(
    ("provider", "service", "meter", "model", "usage_type"),
    [
        ("Microsoft", "Azure OpenAI", "gpt 4.1 cchd Inp", "gpt-4.1", "cached_input_tokens"),
        (
            "Google Cloud",
            "Vertex AI",
            "Gemini 2.5 Pro Text Output",
            "gemini-2.5-pro",
            "output_tokens",
        ),
        ("AWS", "Amazon EC2", "USE1-BoxUsage", None, None),
    ],
)
def test_a_clouds_meter_is_read_in_its_own_words(
    tmp_path: Path, provider: str, service: str, meter: str, model: str, usage_type: str
) -> None:
    path = write_golden(
        tmp_path,
        ProviderName=[provider],
        ServiceName=[service],
        SkuMeter=[meter],
        x_Model=[None],
        x_TokenType=[None],
    )

    line = read(path)[0]

    assert (line.model, line.usage_type) == (model, usage_type)


def test_a_token_type_that_is_no_unit_of_ours_stays_the_providers_word(tmp_path: Path) -> None:
    assert read(write_golden(tmp_path, x_TokenType=["moderation"]))[0].usage_type == "moderation"

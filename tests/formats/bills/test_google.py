"""Google Cloud's billing export as JSON lines."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, google

SAMPLE = BILLING / "gcp-billing-export-detailed.jsonl"
FIRST = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))
SEPTEMBER = Period(FIRST.start, datetime(2026, 10, 1, tzinfo=UTC))


def read(path: Path) -> list[BillLine]:
    return list(google.read(path))


def first_row() -> dict[str, Any]:
    row: dict[str, Any] = json.loads(SAMPLE.read_text().splitlines()[0])
    return row


def write(directory: Path, *rows: object) -> Path:
    path = directory / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def total(lines: list[BillLine], currency: str, *, of_credits: bool) -> Decimal:
    chosen = (
        line.billed
        for line in lines
        if line.currency == currency and (line.category is ChargeCategory.CREDIT) is of_credits
    )
    return sum(chosen, Decimal(0))


def test_the_sample_sums_to_its_published_totals() -> None:
    lines = read(SAMPLE)

    assert total(lines, "USD", of_credits=False) == Decimal("4.18942500")
    assert total(lines, "USD", of_credits=True) == Decimal("-0.06")
    assert total(lines, "EUR", of_credits=False) == Decimal("0.0276")


def test_a_line_keeps_what_the_row_says() -> None:
    assert read(SAMPLE)[0] == BillLine(
        row_number=1,
        provider="gcp.vertex_ai",
        account="01ABCD-234567-89EFAB",
        period=FIRST,
        category=ChargeCategory.USAGE,
        billed=Decimal("0.319512"),
        currency="USD",
        project="example-ai-prod",
        model="gemini-2.5-flash",
        usage_type="input_tokens",
        description="Gemini 2.5 Flash GA Text Input - Predictions",
        quantity=Decimal("1065040"),
        unit="tokens",
        listed=Decimal("0.319512"),
        month=202609,
        tags={"cost-center": "cc-7", "team": "search"},
    )


def test_a_credit_is_a_line_of_its_own_beside_what_it_is_for() -> None:
    usage, credit = read(SAMPLE)[1:3]

    assert (usage.row_number, usage.billed) == (2, Decimal("0.2203"))
    assert (credit.row_number, credit.billed) == (2, Decimal("-0.05"))
    assert (credit.quantity, credit.listed, credit.unit) == (None, None, None)
    assert credit.description is not None
    assert credit.description.endswith(", PROMOTION, Marketing promo")


def test_every_cost_type_has_its_category() -> None:
    assert Counter(line.category.value for line in read(SAMPLE)) == {
        "usage": 11,
        "credit": 2,
        "tax": 1,
        "adjustment": 2,
    }


def test_the_invoices_month_is_the_rows_own_and_not_that_of_its_time() -> None:
    late = read(SAMPLE)[-1]

    assert late.period.start == datetime(2026, 10, 1, tzinfo=UTC)
    assert late.billing_month == 202609


def test_a_correction_of_an_earlier_month_belongs_to_the_invoice_that_carries_it() -> None:
    [correction] = [line for line in read(SAMPLE) if line.is_correction]

    assert (correction.period, correction.billed) == (SEPTEMBER, Decimal("-0.025"))


def test_a_resold_model_names_its_seller() -> None:
    [resold] = [line for line in read(SAMPLE) if "x_seller" in line.tags]

    assert (resold.model, resold.tags["x_seller"]) == ("claude-sonnet-4-5", "Anthropic PBC")


def test_other_services_stay_under_the_clouds_own_name() -> None:
    tax = read(SAMPLE)[11]

    assert (tax.provider, tax.project, tax.period) == (
        "google_cloud",
        None,
        Period(datetime(2026, 9, 1, 7, tzinfo=UTC), datetime(2026, 10, 1, 7, tzinfo=UTC)),
    )


def test_numbers_as_texts_and_a_service_of_another_name_are_read(tmp_path: Path) -> None:
    row = first_row()
    row |= {
        "cost": "0.319512",
        "cost_at_list": None,
        "service": {"description": "Generative Language API"},
    }
    row["usage"]["amount"] = "1065040"
    row["credits"] = [{"amount": "-0.1"}]

    line, credit = read(write(tmp_path, row))

    assert (line.provider, line.billed, line.quantity) == (
        "gcp.gemini",
        Decimal("0.319512"),
        Decimal(1065040),
    )
    assert line.listed is None
    assert (credit.billed, credit.description) == (
        Decimal("-0.1"),
        "Gemini 2.5 Flash GA Text Input - Predictions, credit",
    )


def test_hours_of_a_day_are_one_line_and_a_gzip_of_them_too(tmp_path: Path) -> None:
    later = first_row() | {
        "usage_start_time": "2026-09-01T20:00:00Z",
        "usage_end_time": "2026-09-01T21:00:00Z",
    }
    path = write(tmp_path, first_row(), later)
    path.write_bytes(gzip.compress(path.read_bytes()))

    [line] = read(path)

    assert (line.folded_rows, line.billed, line.period) == (2, Decimal("0.639024"), FIRST)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"cost": None}, "row 2, column cost: must not be null"),
        ({"cost": "free"}, "row 2, column cost: 'free' is not a decimal number"),
        ({"usage_start_time": "today"}, "column usage_start_time: 'today' is not a time"),
        ({"usage_end_time": "2026-09-01 08:00:00 UTC"}, "must end after it starts"),
        ({"invoice": {"month": "2026-09"}}, "column invoice.month: '2026-09' is not a month"),
        ({"invoice": "202609"}, "column invoice.month: must be inside of an object"),
        ({"cost_type": "gift"}, "column cost_type: 'gift' is not one of regular, tax"),
        ({"currency": "usd"}, "column currency: 'usd' is not a currency"),
        ({"credits": [7]}, "column credits: must be a list of objects"),
        ({"labels": [7]}, "column labels: .* is not a flat JSON object"),
        ({"billing_account_id": None}, "column billing_account_id: must not be null"),
        ({"usage": {"amount": "many"}}, "column usage.amount: 'many' is not a decimal number"),
        ({"cost_at_list": "much"}, "column cost_at_list: 'much' is not a decimal number"),
    ],
)
def test_a_wrong_field_is_refused_naming_row_field_and_rule(
    tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    path = write(tmp_path, first_row(), first_row() | changes)

    with pytest.raises(BadFile, match=rf"export\.jsonl: .*{rule}"):
        read(path)


def test_a_file_that_is_cut_short_or_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(SAMPLE.read_bytes()[:-40])
    with pytest.raises(BadFile, match=r"export\.jsonl: row 14 is not JSON, or is cut short"):
        read(path)

    path.write_text("cost,currency\n")
    with pytest.raises(BadFile, match="is CSV where JSON is needed"):
        read(path)

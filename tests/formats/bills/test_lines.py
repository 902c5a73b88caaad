"""The checks every bill shares: numbers, texts, currencies and times."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.lines import (
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    parse_utc,
    period_of,
    required_text_cell,
    shown,
    text_cell,
)

PLACE = Place(Path("/bills/september.csv"), "row 3")


def september(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 9, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("0.161703500000000000000000000000", Decimal("0.1617035")),
        ("-2.5", Decimal("-2.5")),
        ("35.2E-7", Decimal("0.00000352")),
        (12, Decimal("12")),
        (Decimal("2.4"), Decimal("2.4")),
    ],
)
def test_a_number_is_read_with_every_digit(cell: object, number: Decimal) -> None:
    assert decimal_cell(cell, PLACE, "BilledCost") == number


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "1,5",
        "1_000",
        " 1",
        "NaN",
        "Infinity",
        "0x10",
        "\u0661",
        None,
        True,
        0.5,
        [],
        Decimal("NaN"),
    ],
)
def test_what_is_no_decimal_number_is_refused_with_file_row_column_and_rule(cell: object) -> None:
    with pytest.raises(BadFile) as caught:
        decimal_cell(cell, PLACE, "BilledCost")

    assert caught.value.detail == (
        f"september.csv: row 3, column BilledCost: {cell!r} is not a decimal number"
    )
    assert caught.value.facts["row"] == "row 3"


@pytest.mark.parametrize("cell", ["1e-41", "1e20", "12345678901234567890", Decimal("1e999")])
def test_a_number_with_absurdly_many_digits_is_refused(cell: object) -> None:
    with pytest.raises(BadFile, match="more than 19 digits before or 40 after the point"):
        decimal_cell(cell, PLACE, "BilledCost")


def test_an_amount_must_fit_into_64_bits_of_nanos() -> None:
    assert amount_cell("-9223372036.854775807", PLACE, "BilledCost") < 0

    with pytest.raises(BadFile, match=r"is above 9223372036\.854775807"):
        amount_cell("9223372036.854775808", PLACE, "BilledCost")


@pytest.mark.parametrize(("cell", "text"), [(None, None), ("", None), ("gpt-4.1", "gpt-4.1")])
def test_an_empty_text_is_absent(cell: object, text: str | None) -> None:
    assert text_cell(cell, PLACE, "SkuMeter") == text


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        (12, "12 is not a text"),
        ("x" * 8193, "longer than 8192 characters"),
        ("a\x00b", "characters that no database stores"),
        ("a\ud800b", "characters that no database stores"),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused(cell: object, rule: str) -> None:
    with pytest.raises(BadFile, match=rule):
        text_cell(cell, PLACE, "SkuMeter")


def test_a_required_text_must_not_be_null() -> None:
    with pytest.raises(BadFile, match=r"september\.csv: row 3, column ChargeCategory: must not be"):
        required_text_cell(None, PLACE, "ChargeCategory")


def test_a_currency_is_three_capital_letters() -> None:
    assert currency_cell("EUR", PLACE, "BillingCurrency") == "EUR"

    with pytest.raises(BadFile, match="'usd' is not a currency of three capital letters"):
        currency_cell("usd", PLACE, "BillingCurrency")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-09-01T00:00:00Z", september(1)),
        ("2026-09-01T06:00:00.000Z", september(1, 6)),
        ("2026-09-01T06:00:00+00:00", september(1, 6)),
        ("2026-09-01 06:00:00", september(1, 6)),
        ("2026-09-01", None),
        ("2026-09-31T00:00:00Z", None),
        ("2026-09-01T06:00:00+02:00", None),
        ("9/1/26", None),
    ],
)
def test_times_are_utc_in_either_print(text: str, instant: datetime | None) -> None:
    assert parse_utc(text) == instant


def test_a_period_must_end_after_it_starts() -> None:
    assert period_of(september(1), september(2), PLACE, "end") == Period(september(1), september(2))

    with pytest.raises(BadFile, match="the period must end after it starts"):
        period_of(september(2), september(2), PLACE, "ChargePeriodEnd")


def test_what_an_error_quotes_is_short() -> None:
    assert len(shown("x" * 10_000)) == 81

"""What belongs to an invoice's month, in which currency and under which name."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from tests.domain.reconciliation_cases import FIRST, SEPTEMBER, billed
from tokenbudget.domain.exchange import Conversion, FxTable, Quote
from tokenbudget.domain.invoice_months import (
    convert_amount,
    convert_lines,
    invoice_period,
    spell_like_bills,
)
from tokenbudget.domain.periods import Period

TABLE = FxTable((Quote(date(2026, 9, 1), "EUR", {"USD": Fraction(11, 10)}, "ecb"),))
BOOK = {"aws": "bedrock", "aws.bedrock": "bedrock", "bedrock": "bedrock"}


def test_invoices_are_cut_in_utc_but_googles_at_midnight_of_the_pacific() -> None:
    assert invoice_period("openai", 202609) == SEPTEMBER
    assert invoice_period("google", 202609) == Period(
        datetime(2026, 9, 1, 7, tzinfo=UTC), datetime(2026, 10, 1, 7, tzinfo=UTC)
    )
    # The clocks go back on the first of November.
    assert invoice_period("google", 202611) == Period(
        datetime(2026, 11, 1, 7, tzinfo=UTC), datetime(2026, 12, 1, 8, tzinfo=UTC)
    )


def test_lines_are_converted_by_the_quote_of_their_day_and_others_are_listed() -> None:
    lines = [
        billed("1"),
        billed("7.36", currency="EUR"),
        billed("5", currency="CHF"),
        billed("2", currency="EUR", period=Period(datetime(2026, 8, 1, tzinfo=UTC), FIRST)),
    ]

    read = convert_lines(lines, "USD", TABLE)

    assert [(line.amount, line.currency) for line in read.lines] == [
        (Decimal(1), "USD"),
        (Decimal("8.096"), "USD"),
    ]
    assert read.conversions == (
        Conversion("EUR", "USD", Fraction(11, 10), date(2026, 9, 1), "ecb"),
    )
    assert read.unconverted == (lines[2], lines[3])


@pytest.mark.parametrize(
    ("amount", "ratio", "converted"),
    [
        ("1", Fraction(1, 3), "0.333333333333333333"),
        ("2", Fraction(1, 3), "0.666666666666666667"),
        ("0.000000000000000001", Fraction(1, 2), "0"),
        ("0.000000000000000003", Fraction(1, 2), "0.000000000000000002"),
        ("-1", Fraction(3, 2), "-1.5"),
    ],
)
def test_a_converted_amount_is_rounded_half_to_even_to_eighteen_decimals(
    amount: str, ratio: Fraction, converted: str
) -> None:
    assert convert_amount(Decimal(amount), ratio) == Decimal(converted)


@pytest.mark.parametrize(
    ("provider", "billed_names", "spelt"),
    [
        ("openai", ["anthropic"], "openai"),
        ("openai", ["openai"], "openai"),
        ("bedrock", ["aws.bedrock"], "aws.bedrock"),
        ("aws", ["aws", "aws.bedrock"], "aws.bedrock"),
        ("aws.bedrock", ["aws", "aws.bedrock"], "aws.bedrock"),
        ("bedrock", ["aws", "openai"], "aws"),
    ],
)
def test_usage_goes_by_the_name_that_bills_have_for_its_provider(
    provider: str, billed_names: list[str], spelt: str
) -> None:
    assert spell_like_bills(provider, billed_names, lambda name: BOOK.get(name, name)) == spelt

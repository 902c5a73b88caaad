"""Money is exact, rounds once half to even, and splits without losing a nano."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import (
    MAX_NANOS,
    Money,
    decimal_to_nanos,
    divide_half_even,
    format_nanos,
    parse_decimal,
    parse_nanos,
    split,
)

ledger_nanos = st.integers(min_value=-MAX_NANOS, max_value=MAX_NANOS)
some_weights = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=20)


def test_amounts_of_one_currency_add_subtract_and_negate() -> None:
    rent = Money(1_500_000_000, "USD")
    fee = Money(250_000_000, "USD")

    assert rent + fee == Money(1_750_000_000, "USD")
    assert fee - rent == Money(-1_250_000_000, "USD")
    assert -fee == Money(-250_000_000, "USD")


@pytest.mark.parametrize("operation", ["__add__", "__sub__"])
def test_currencies_never_add(operation: str) -> None:
    dollars, euros = Money(1, "USD"), Money(1, "EUR")

    with pytest.raises(ValueError, match="currencies never add: USD and EUR"):
        getattr(dollars, operation)(euros)


def test_money_reads_as_a_decimal_and_its_currency() -> None:
    assert str(Money(1_234_500, "USD")) == "0.001234500 USD"


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (8, 3, 3), (7, 3, 2), (-8, 3, -3), (0, 9, 0)],
)
def test_division_rounds_half_to_even(numerator: int, denominator: int, expected: int) -> None:
    assert divide_half_even(numerator, denominator) == expected


@given(st.integers(-(10**24), 10**24), st.integers(0, 12))
def test_division_by_a_power_of_ten_agrees_with_decimal(numerator: int, exponent: int) -> None:
    exact = Decimal(numerator).scaleb(-exponent)

    expected = int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))

    assert divide_half_even(numerator, 10**exponent) == expected


@given(st.integers(-(10**24), 10**24), st.integers(1, 10**9))
def test_division_agrees_with_exact_fractions(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0.0012345", 1_234_500),
        ("500", 500_000_000_000),
        ("-1.5", -1_500_000_000),
        ("1e-9", 1),
        (7, 7_000_000_000),
        (Decimal("0.10"), 100_000_000),
        ("0.000000000000", 0),
        ("0e-90", 0),
        ("9223372036.854775807", MAX_NANOS),
    ],
)
def test_a_decimal_text_becomes_nanos(text: str | int | Decimal, nanos: int) -> None:
    assert parse_nanos(text) == nanos


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ten", "limit 'ten' is not a decimal number"),
        ("", "limit '' is not a decimal number"),
        ("NaN", "limit 'NaN' is not a finite decimal number"),
        ("-Infinity", "limit '-Infinity' is not a finite decimal number"),
        ("0.0000000001", "limit '0.0000000001' has more than 9 decimals"),
        ("9223372036.854775808", "limit '9223372036.854775808' is out of range"),
        ("1e40", "limit '1e40' is out of range"),
    ],
)
def test_a_text_that_is_no_ledger_amount_is_refused_by_name_and_rule(text: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_nanos(text, field="limit")

    assert refusal.value.detail == rule
    assert refusal.value.facts == {"field": "limit"}


@pytest.mark.parametrize("value", [0.5, None, [1]])
def test_money_is_never_a_float_nor_anything_else(value: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a decimal number"):
        parse_decimal(value)


def test_a_long_decimal_of_a_foreign_bill_rounds_half_to_even() -> None:
    assert decimal_to_nanos(Decimal("0.0000000025")) == 2
    assert decimal_to_nanos(Decimal("0.000000003500000000000000000000")) == 4
    assert decimal_to_nanos(Decimal("0.00000000250000000000000000001")) == 3


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (1_234_500, "0.001234500"),
        (-1, "-0.000000001"),
        (0, "0.000000000"),
        (10**10, "10.000000000"),
    ],
)
def test_nanos_are_written_with_nine_decimals(nanos: int, text: str) -> None:
    assert format_nanos(nanos) == text


@given(ledger_nanos)
def test_writing_and_reading_an_amount_gives_it_back(nanos: int) -> None:
    assert parse_nanos(format_nanos(nanos)) == nanos


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (100, [0, 3, 1], [0, 75, 25]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (5, [0, 0], [3, 2]),
        (10, [1, 2, 4], [1, 3, 6]),
        (0, [5, 7], [0, 0]),
    ],
)
def test_a_total_splits_by_largest_remainder(
    total: int, weights: list[int], parts: list[int]
) -> None:
    assert split(total, weights) == parts


def test_splitting_over_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to split over"):
        split(1, [])


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        split(1, [2, -1])


@given(ledger_nanos, some_weights)
def test_a_split_adds_up_and_turns_with_the_sign(total: int, weights: list[int]) -> None:
    parts = split(total, weights)

    assert sum(parts) == total
    assert split(-total, weights) == [-part for part in parts]


@given(ledger_nanos, some_weights)
def test_no_part_of_a_split_is_a_whole_nano_off_its_share(total: int, weights: list[int]) -> None:
    shares = weights if any(weights) else [1] * len(weights)

    parts = split(total, weights)

    assert all(
        abs(part * sum(shares) - total * share) < sum(shares)
        for part, share in zip(parts, shares, strict=True)
    )

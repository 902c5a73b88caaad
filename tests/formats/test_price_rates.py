"""Rates are told in the units of price lists and kept exactly, in both directions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from tests.price_builders import make_price
from tokenbudget.domain.prices import rates_in_picos
from tokenbudget.formats.price_rates import (
    RATE_KEYS,
    format_exact,
    publish_rates,
    snap_rate,
    spell_change,
    spell_rates,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(3), "3"),
        (Fraction(0), "0"),
        (Fraction(5, 2), "2.5"),
        (Fraction(1, 8), "0.125"),
        (Fraction(1, 5), "0.2"),
        (Fraction(7, 100), "0.07"),
        (Fraction(10_000), "10000"),
        (Fraction(1, 10**6), "0.000001"),
        (Fraction(1, 12), '"1/12"'),
    ],
)
def test_a_figure_is_a_decimal_where_one_is_exact(value: Fraction, text: str) -> None:
    assert format_exact(value) == text


@pytest.mark.parametrize(
    ("figure", "key", "dollars"),
    [
        ("3", "input", "0.000003"),
        ("0.18000000000000002", "input", "0.00000018"),
        ("1.0399999999999998", "output", "0.00000104"),
        ("0.111", "audio_hour", "0.111/3600"),
        ("10", "web_search", "0.01"),
        ("0.04", "image", "0.04"),
    ],
)
def test_what_binary_fractions_added_is_taken_away(figure: str, key: str, dollars: str) -> None:
    amount, _, count = dollars.partition("/")

    assert snap_rate(Decimal(figure), key) == Fraction(amount) / int(count or 1)


def test_a_figure_that_is_no_whole_pico_may_be_a_plain_fraction() -> None:
    assert snap_rate(Decimal("0.08333333333333334"), "write") == Fraction(1, 12_000_000)


def test_a_figure_that_is_neither_is_no_price() -> None:
    assert snap_rate(Decimal("0.1419531250001"), "input") is None


@pytest.mark.parametrize("key", RATE_KEYS)
def test_every_rate_is_published_as_it_was_read(key: str) -> None:
    unit, per = RATE_KEYS[key].unit, RATE_KEYS[key].per
    rates, divisor = rates_in_picos({unit: Fraction(9, 4) / per})

    (published,) = publish_rates(rates, divisor).items()

    durations = {"audio_second": ("audio_hour", "8100"), "gpu_second": ("gpu_hour", "8100")}
    assert published == durations.get(key, (key, "2.25"))


def test_rates_and_changes_are_spelled_in_one_line() -> None:
    row = make_price({"input_tokens": 3_000_000, "output_tokens": 15_000_000})
    other = make_price({"input_tokens": 2_500_000, "cached_input_tokens": 250_000})
    multiplier = make_price({}, times=(11, 10), tier=None)

    assert spell_rates(row) == "input 3, output 15"
    assert spell_rates(multiplier) == "times 1.1"
    assert spell_change(row, other) == "input 3 -> 2.5, cached none -> 0.25, output 15 -> none"
    assert spell_change(multiplier, row) == "times 1.1 -> input 3, output 15"
    assert spell_change(row, multiplier) == "input 3, output 15 -> times 1.1"

"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.breakdowns import Amount
from tokenbudget.domain.periods import Period
from tokenbudget.formats.display import (
    cents_text,
    change_share_text,
    change_text,
    counted_text,
    day_text,
    moment_text,
    money_text,
    month_text,
    nanos_text,
    period_text,
    quantity_text,
    share_text,
    short_count_text,
    short_day_text,
    threshold_text,
    tick_text,
)

MORNING = datetime(2026, 11, 9, 7, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(12_345_670_000_000, 1_234_567), "$12,345.67"),
        (Amount(-1_500_000_000, -150), "−$1.50"),
        (Amount(0, 0), "$0.00"),
        (Amount(1, 0), "<$0.01"),
        (Amount(-1, 0), "−<$0.01"),
    ],
)
def test_money_has_cents_and_thousands(amount: Amount, text: str) -> None:
    assert money_text(amount, "USD") == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Amount(10**9, 100), "+$1.00"),
        (Amount(-(10**9), -100), "−$1.00"),
        (Amount(0, 0), "$0.00"),
        (Amount(5, 0), "+<$0.01"),
        (Amount(-5, 1), "+$0.01"),
    ],
)
def test_a_change_is_signed(change: Amount, text: str) -> None:
    assert change_text(change, "USD") == text


def test_currencies_without_a_sign_of_their_own_are_named() -> None:
    assert cents_text(150, "EUR") == "€1.50"
    assert cents_text(-150, "CHF") == "−CHF\N{NO-BREAK SPACE}1.50"


def test_an_amount_that_stands_alone_is_rounded_half_to_even() -> None:
    assert nanos_text(25_000_000, "USD") == "$0.02"
    assert nanos_text(1, "USD") == "<$0.01"


def test_ticks_are_short() -> None:
    assert tick_text(10_000, "USD") == "$100"
    assert tick_text(50, "USD") == "$0.50"
    assert tick_text(99_999_900, "USD") == "$999,999"
    assert tick_text(150_000_000, "USD") == "$1.5M"
    assert tick_text(-2_000_000_000, "EUR") == "−€20M"


@pytest.mark.parametrize(
    ("count", "text"),
    [(999_999, "999,999"), (12_345_678, "12.3M"), (-2_500_000_000, "−2.5B"), (10**12, "1.0T")],
)
def test_large_counts_are_short(count: int, text: str) -> None:
    assert short_count_text(count) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (112, 100, "+12.0%"),
        (88, 100, "−12.0%"),
        (100, 100, "0.0%"),
        (5, 0, "new"),
        (0, 0, "–"),
        (5, -1, "–"),
        (100_000, 1, ">999.9%"),
    ],
)
def test_a_relative_change_is_never_infinite(now: int, before: int, text: str) -> None:
    assert change_share_text(now, before) == text


def test_a_share_of_nothing_is_a_dash() -> None:
    assert share_text(1, 3) == "33.3%"
    assert share_text(1, 0) == "–"


def test_quantities_have_their_unit() -> None:
    assert quantity_text(1_500_000_000, "money", "USD") == "$1.50"
    assert quantity_text(8_600_000, "tokens", "USD") == "8.6M tokens"


def test_nouns_follow_their_count() -> None:
    assert counted_text(1, "request") == "1 request"
    assert counted_text(2_000, "request") == "2,000 requests"


def test_thresholds_are_percentages() -> None:
    assert threshold_text("0.8") == "80%"
    assert threshold_text("1") == "100%"
    assert threshold_text("0.125") == "12.5%"


def test_times_are_given_in_the_zone() -> None:
    assert day_text(MORNING, "UTC") == "Mon 9 Nov"
    assert short_day_text(MORNING, "America/Los_Angeles") == "8 Nov"
    assert moment_text(MORNING, "Asia/Kolkata") == "9 Nov 2026, 12:35"
    assert month_text(MORNING, "UTC") == "November 2026"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ((2026, 11, 9), (2026, 11, 16), "9–15 November 2026"),
        ((2026, 11, 9), (2026, 11, 10), "9 November 2026"),
        ((2026, 10, 26), (2026, 11, 2), "26 October – 1 November 2026"),
        ((2026, 12, 28), (2027, 1, 4), "28 December 2026 – 3 January 2027"),
    ],
)
def test_a_period_is_named_by_its_first_and_last_day(
    start: tuple[int, int, int], end: tuple[int, int, int], text: str
) -> None:
    period = Period(datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC))

    assert period_text(period, "UTC") == text

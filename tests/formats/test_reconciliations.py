"""Reconciliations as the wire and the command line spell them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from tests.domain.reconciliation_cases import SEPTEMBER, UNIT, billed, day, metered, month_of
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.coverage import Coverage, Untracked
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.likely_owners import LikelyOwner, OwnerReason, Ref
from tokenbudget.domain.periods import Period, Window
from tokenbudget.formats.reconciliations import (
    describe_coverage,
    describe_month,
    describe_period,
    describe_share,
    describe_untracked,
    parse_coverage_window,
)


def test_a_month_is_rows_totals_and_waterfalls() -> None:
    costs = [metered("1", "org", list_nanos=UNIT, contracted_nanos=UNIT)]
    lines = [
        billed("1.01"),
        billed("0.2", category=ChargeCategory.TAX, description="VAT"),
        billed("3", currency="CHF"),
    ]

    told = describe_month(costs, month_of(costs, lines), [])

    assert told["rows"] == [
        {
            "day": "2026-09-01",
            "provider": "openai",
            "model": "gpt-4.1",
            "description": None,
            "account": "org",
            "category": "usage",
            "level": "account",
            "metered_amount": "1.000000000",
            "invoiced_amount": "1.010000000",
            "variance_amount": "0.010000000",
            "verdict": "matched",
            "unpriced_requests": 0,
        },
        {
            "day": "2026-09-01",
            "provider": "openai",
            "model": None,
            "description": "VAT",
            "account": None,
            "category": "tax",
            "level": None,
            "metered_amount": None,
            "invoiced_amount": "0.200000000",
            "variance_amount": "0.200000000",
            "verdict": "untracked",
            "unpriced_requests": 0,
        },
    ]
    assert told["totals"] == {
        "metered_amount": "1.000000000",
        "invoiced_amount": "1.210000000",
        "variance_amount": "0.210000000",
        "is_over_counted": False,
        "not_compared": {"CHF": "3.000000000"},
    }
    steps = [("metered_list", True), ("metered_effective", True), ("within_tolerance", False)]
    steps += [("tax", False), ("invoiced", True)]
    assert [(step["step"], step["is_level"]) for step in told["waterfall"]] == steps * 2
    assert {step["provider"] for step in told["waterfall"]} == {None, "openai"}


def test_a_month_tells_by_which_quotes_lines_were_converted() -> None:
    conversion = Conversion("EUR", "USD", Fraction(1, 3), date(2026, 9, 1), "ecb")

    told = describe_month([], month_of([], []), [conversion])

    assert told["currency"] == "USD"
    assert told["conversions"] == [
        {
            "currency": "EUR",
            "into": "USD",
            "rate": "0.333333333333333333",
            "day": "2026-09-01",
            "source": "ecb",
        }
    ]


def test_an_untracked_name_tells_whom_to_ask_and_why() -> None:
    untracked = Untracked(Ref("openai", "", "lab", "key"), 1_500_000_000, 7, models={"o3", "a"})
    untracked.see(day(2))

    told = describe_untracked(untracked, LikelyOwner("growth", OwnerReason.PROJECT), 123)
    unknown = describe_untracked(untracked, None, None)

    assert told == {
        "provider": "openai",
        "account": None,
        "project": "lab",
        "api_key": "key",
        "models": ["a", "o3"],
        "untracked_amount": "1.500000000",
        "untracked_tokens": 7,
        "first_day": "2026-09-02",
        "last_day": "2026-09-02",
        "likely_owner": "growth",
        "reason": "project",
        "invoice_share": "0.0123",
    }
    assert (unknown["likely_owner"], unknown["reason"], unknown["invoice_share"]) == (
        None,
        None,
        None,
    )


def test_coverage_has_the_days_its_window_begins_and_ends_with() -> None:
    assert describe_coverage(SEPTEMBER, "growth", Coverage(963, 37)) == {
        "start": "2026-09-01",
        "end": "2026-10-01",
        "team": "growth",
        "tracked_amount": "0.000000963",
        "untracked_amount": "0.000000037",
        "coverage": "0.9630",
    }


@pytest.mark.parametrize(
    ("basis_points", "text"), [(None, None), (0, "0.0000"), (10_000, "1.0000"), (-5, "-0.0005")]
)
def test_a_share_has_four_digits(basis_points: int | None, text: str | None) -> None:
    assert describe_share(basis_points) == text


def test_a_day_is_told_by_itself_and_a_longer_time_by_both_ends() -> None:
    assert describe_period(day(3)) == "2026-09-03"
    assert describe_period(SEPTEMBER) == "2026-09-01/2026-10-01"
    hour = datetime(2026, 9, 1, 1, tzinfo=SEPTEMBER.start.tzinfo)
    assert describe_period(Period(hour, day(1).end)) == "2026-09-01/2026-09-02"


def test_coverage_is_by_month_or_week() -> None:
    assert parse_coverage_window("week") is Window.WEEK
    with pytest.raises(InvalidInput, match="by 'day' is not month or week"):
        parse_coverage_window("day")


def test_amounts_keep_every_digit() -> None:
    lines = [billed("0.161703500000000000000000000001")]

    [row] = describe_month([], month_of([], lines), [])["rows"]

    assert row["invoiced_amount"] == "0.161703500000000000000000000001"
    assert Decimal(row["invoiced_amount"]) == lines[0].amount

"""What was metered against what was invoiced: matching, verdicts and sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, Inexact
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import (
    MatchLevel,
    MeteredCost,
    Reconciliation,
    Verdict,
    add_exactly,
    billed_period,
    format_amount,
    judge,
    reconcile,
)

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
SEPTEMBER = Period(FIRST, datetime(2026, 10, 1, tzinfo=UTC))


def day(number: int) -> Period:
    start = FIRST + timedelta(days=number - 1)
    return Period(start, start + timedelta(days=1))


def make_metered(**overrides: Any) -> MeteredCost:
    facts = {
        "provider": "openai",
        "model": "gpt-4.1",
        "period": day(1),
        "effective_nanos": 1_000_000_000,
    }
    return MeteredCost(**{**facts, **overrides})


def make_invoiced(**overrides: Any) -> BilledCost:
    facts = {
        "provider": "openai",
        "period": day(1),
        "category": ChargeCategory.USAGE,
        "amount": Decimal("1"),
        "currency": "USD",
        "billing_month": 202609,
        "model": "gpt-4.1",
        "description": "gpt-4.1, input",
    }
    return BilledCost(**{**facts, **overrides})


def compare(
    metered: list[MeteredCost], invoiced: list[BilledCost], **options: Any
) -> Reconciliation:
    return reconcile(metered, invoiced, period=SEPTEMBER, currency="USD", **options)


@pytest.mark.parametrize(
    ("metered", "invoiced", "verdict"),
    [
        ("1", "1", Verdict.MATCHED),
        ("0.98", "1", Verdict.MATCHED),
        ("0.979999999", "1", Verdict.UNTRACKED),
        ("1.02", "1", Verdict.MATCHED),
        ("1.020000001", "1", Verdict.OVER_COUNTED),
        ("0", "0", Verdict.MATCHED),
        ("0.000000001", "0", Verdict.OVER_COUNTED),
        ("1", "-1", Verdict.OVER_COUNTED),
        (None, "1", Verdict.UNTRACKED),
        (None, "0", Verdict.MATCHED),
        (None, "-2.5", Verdict.DISCOUNT),
        ("0", "-2.5", Verdict.DISCOUNT),
        ("1", None, Verdict.MISSING_BILL),
        ("0", None, Verdict.MATCHED),
    ],
)
def test_a_variance_within_two_percent_of_the_invoice_matches_and_others_are_named(
    metered: str | None, invoiced: str | None, verdict: Verdict
) -> None:
    found = judge(
        metered=None if metered is None else Decimal(metered),
        invoiced=None if invoiced is None else Decimal(invoiced),
        is_unpriced=False,
        tolerance_basis_points=200,
    )

    assert found is verdict


def test_unpriced_usage_without_a_bill_is_a_missing_bill_and_not_free() -> None:
    result = compare([make_metered(effective_nanos=0, unpriced_requests=3)], [])

    assert [row.verdict for row in result.rows] == [Verdict.MISSING_BILL]
    assert result.rows[0].unpriced_requests == 3


def test_lines_and_usage_of_one_model_and_day_meet_in_one_row() -> None:
    metered = [make_metered(effective_nanos=700_000_000), make_metered(effective_nanos=290_000_000)]
    invoiced = [
        make_invoiced(amount=Decimal("0.6")),
        make_invoiced(amount=Decimal("0.4"), description="gpt-4.1, output"),
    ]

    result = compare(metered, invoiced)

    assert len(result.rows) == 1
    row = result.rows[0]
    assert (row.provider, row.model, row.description) == ("openai", "gpt-4.1", None)
    assert (row.metered, row.invoiced) == (Decimal("0.99"), Decimal("1.0"))
    assert (row.variance, row.verdict) == (Decimal("0.01"), Verdict.MATCHED)


def test_what_is_on_one_side_only_is_absent_on_the_other_and_not_zero() -> None:
    result = compare([make_metered(model="o3")], [make_invoiced(amount=Decimal("3"))])

    assert [(row.model, row.metered, row.invoiced) for row in result.rows] == [
        ("gpt-4.1", None, Decimal("3")),
        ("o3", Decimal("1"), None),
    ]
    assert [row.variance for row in result.rows] == [Decimal("3"), Decimal("-1")]


def test_canonical_names_join_spellings_of_one_model() -> None:
    spellings = {("openai", "gpt-4.1-2025-04-14"): "gpt-4.1"}

    result = compare(
        [make_metered(), make_metered(model="gpt-4.1-2025-04-14")],
        [make_invoiced(model="gpt-4.1-2025-04-14", amount=Decimal("2"))],
        canonical_model=lambda provider, model: spellings.get((provider, model), model),
    )

    assert [(row.model, row.metered, row.verdict) for row in result.rows] == [
        ("gpt-4.1", Decimal("2"), Verdict.MATCHED)
    ]


def test_lines_without_a_model_and_charges_that_are_no_usage_are_rows_of_their_own() -> None:
    invoiced = [
        make_invoiced(),
        make_invoiced(model=None, description=None, amount=Decimal("0.0042")),
        make_invoiced(category=ChargeCategory.TAX, description="VAT 20%", amount=Decimal("0.2")),
        make_invoiced(
            category=ChargeCategory.CREDIT, model=None, description=None, amount=Decimal("-2.5")
        ),
    ]

    result = compare([make_metered()], invoiced)

    assert [(row.model, row.description, row.verdict) for row in result.rows] == [
        ("gpt-4.1", None, Verdict.MATCHED),
        (None, "VAT 20%", Verdict.UNTRACKED),
        (None, "credit", Verdict.DISCOUNT),
        (None, "usage", Verdict.UNTRACKED),
    ]
    assert [row.category for row in result.rows] == [
        ChargeCategory.USAGE,
        ChargeCategory.TAX,
        ChargeCategory.CREDIT,
        ChargeCategory.USAGE,
    ]


def test_totals_are_the_exact_sums_of_the_rows() -> None:
    invoiced = [
        make_invoiced(amount=Decimal("0.161703500000000000000000000001")),
        make_invoiced(period=day(2), amount=Decimal("9000000000.1")),
        make_invoiced(model=None, amount=Decimal("-2.5")),
    ]

    result = compare([make_metered()], invoiced)

    assert result.invoiced == Decimal("8999999997.761703500000000000000000000001")
    assert result.metered == Decimal("1")
    assert result.variance == Decimal("8999999996.761703500000000000000000000001")


def test_other_currencies_are_listed_apart_and_never_added() -> None:
    invoiced = [
        make_invoiced(),
        make_invoiced(currency="EUR", amount=Decimal("7.36")),
        make_invoiced(currency="EUR", amount=Decimal("0.64")),
        make_invoiced(currency="CHF", amount=Decimal("1")),
    ]

    result = compare([make_metered()], invoiced)

    assert result.invoiced == Decimal("1")
    assert result.other_currencies == {"CHF": Decimal("1"), "EUR": Decimal("8.00")}
    assert len(result.rows) == 1


def test_rows_come_in_order_of_time_provider_and_name() -> None:
    invoiced = [
        make_invoiced(period=day(2), model="a"),
        make_invoiced(model=None, description="a fee"),
        make_invoiced(model="z"),
        make_invoiced(provider="anthropic", model="claude"),
    ]

    result = compare([], invoiced)

    assert [(row.period, row.model or row.description) for row in result.rows] == [
        (day(1), "claude"),
        (day(1), "z"),
        (day(1), "a fee"),
        (day(2), "a"),
    ]


@pytest.mark.parametrize(
    ("hours", "billed_hours"),
    [((0, 24), (0, 24)), ((22, 23), (0, 24)), ((0, 720), (0, 720)), ((23, 25), (23, 25))],
)
def test_a_line_counts_for_its_utc_day_or_when_longer_for_its_own_period(
    hours: tuple[int, int], billed_hours: tuple[int, int]
) -> None:
    start, end = (FIRST + timedelta(hours=hour) for hour in hours)
    billed_start, billed_end = (FIRST + timedelta(hours=hour) for hour in billed_hours)

    assert billed_period(Period(start, end)) == Period(billed_start, billed_end)


def test_hourly_lines_of_a_day_meet_the_usage_of_that_day() -> None:
    hours = [Period(FIRST + timedelta(hours=n), FIRST + timedelta(hours=n + 1)) for n in (5, 23)]

    result = compare(
        [make_metered()], [make_invoiced(period=hour, amount=Decimal("0.5")) for hour in hours]
    )

    assert [(row.period, row.verdict) for row in result.rows] == [(day(1), Verdict.MATCHED)]


def test_a_month_long_charge_of_a_model_meets_the_days_that_no_other_line_invoices() -> None:
    metered = [make_metered(), make_metered(period=day(2), effective_nanos=500_000_000)]
    invoiced = [make_invoiced(), make_invoiced(period=SEPTEMBER, amount=Decimal("0.5"))]

    result = compare(metered, invoiced)

    assert [(row.period, row.level, row.verdict) for row in result.rows] == [
        (day(1), MatchLevel.MODEL_DAY, Verdict.MATCHED),
        (SEPTEMBER, MatchLevel.MODEL_MONTH, Verdict.MATCHED),
    ]


@pytest.mark.parametrize(("nanos", "is_over"), [(1_030_000_000, True), (1_000_000_000, False)])
def test_over_counting_anywhere_is_told(nanos: int, is_over: bool) -> None:
    result = compare([make_metered(effective_nanos=nanos)], [make_invoiced()])

    assert result.is_over_counted is is_over


def test_a_narrower_tolerance_is_obeyed() -> None:
    metered = [make_metered(effective_nanos=990_000_000)]

    result = compare(metered, [make_invoiced()], tolerance_basis_points=99)

    assert [row.verdict for row in result.rows] == [Verdict.UNTRACKED]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.000000000"),
        ("-0.00", "0.000000000"),
        ("12", "12.000000000"),
        ("-2.5", "-2.500000000"),
        ("1E+2", "100.000000000"),
        ("0.161703500000000000000000000000", "0.161703500"),
        ("0.000000000000000000000000000001", "0.000000000000000000000000000001"),
    ],
)
def test_amounts_show_nine_decimals_and_every_further_one_that_matters(
    amount: str, text: str
) -> None:
    assert format_amount(Decimal(amount)) == text


def test_a_sum_that_would_lose_a_digit_is_refused() -> None:
    with pytest.raises(Inexact):
        add_exactly(Decimal("1E+30"), Decimal("1E-40"))


AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=30)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["a", "b", None]), AMOUNTS)))
def test_the_invoice_is_the_sum_of_the_rows_in_any_order(
    lines: list[tuple[int, str | None, Decimal]],
) -> None:
    invoiced = [
        make_invoiced(period=day(number), model=model, amount=amount)
        for number, model, amount in lines
    ]

    forwards, backwards = compare([], invoiced), compare([], invoiced[::-1])

    assert forwards.rows == backwards.rows
    assert forwards.line_rows == backwards.line_rows[::-1]
    assert Fraction(forwards.invoiced) == sum(Fraction(amount) for _, _, amount in lines)

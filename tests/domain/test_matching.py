"""How finely usage and lines meet, and what is merged on the ladder."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.domain.reconciliation_cases import SEPTEMBER, UNIT, billed, day, metered, month_of
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.reconciliation import (
    Comparison,
    MatchLevel,
    MeteredCost,
    Reconciliation,
    Verdict,
    compare,
)


def told(result: Reconciliation) -> list[tuple[Any, ...]]:
    """Give level, account, metered, invoiced and verdict of each row."""
    return [(row.level, row.account, row.metered, row.invoiced, row.verdict) for row in result.rows]


def test_a_key_that_usage_names_is_compared_by_itself() -> None:
    costs = [metered("1", "key-a"), metered("2", "key-b")]
    lines = [billed("1.01", "key-a"), billed("2", "key-b")]

    result = month_of(costs, lines)

    assert told(result) == [
        (MatchLevel.ACCOUNT, "key-a", Decimal(1), Decimal("1.01"), Verdict.MATCHED),
        (MatchLevel.ACCOUNT, "key-b", Decimal(2), Decimal(2), Verdict.MATCHED),
    ]
    assert result.metered_rows == [0, 1]
    assert result.line_rows == [0, 1]


def test_a_line_goes_by_its_key_else_its_project_else_its_account() -> None:
    costs = [metered("1", "key"), metered("2", "project"), metered("3", "org")]
    lines = [
        billed("1", "key", project="project"),
        billed("2", "other key", project="project"),
        billed("3", "other key", project="other project"),
    ]

    result = month_of(costs, lines)

    assert [(row.account, row.verdict) for row in result.rows] == [
        ("key", Verdict.MATCHED),
        ("org", Verdict.MATCHED),
        ("project", Verdict.MATCHED),
    ]


def test_usage_without_an_account_meets_lines_of_keys_by_model_and_day() -> None:
    result = month_of([metered("3")], [billed("1", "key-a"), billed("2.02", "key-b")])

    assert told(result) == [
        (MatchLevel.MODEL_DAY, None, Decimal(3), Decimal("3.02"), Verdict.MATCHED)
    ]
    assert result.line_rows == [0, 0]


def test_a_key_recorded_under_another_name_is_no_alarm_but_what_is_left_is_untracked() -> None:
    costs = [metered("5", "named"), metered("1", "key-c")]
    lines = [billed("8", "key-a", account="a"), billed("1", "key-c")]

    result = month_of(costs, lines)

    assert told(result) == [
        (MatchLevel.MODEL_DAY, None, Decimal(5), Decimal(8), Verdict.UNTRACKED),
        (MatchLevel.ACCOUNT, "key-c", Decimal(1), Decimal(1), Verdict.MATCHED),
    ]
    assert result.metered_rows == [0, 1]


def test_more_under_another_name_than_was_invoiced_is_over_counted() -> None:
    result = month_of([metered("6", "named")], [billed("5", "key-a")])

    assert [(row.level, row.verdict) for row in result.rows] == [
        (MatchLevel.MODEL_DAY, Verdict.OVER_COUNTED)
    ]


def test_keys_that_were_swapped_cancel_out() -> None:
    costs = [metered("2", "key-a"), metered("8", "key-b")]
    lines = [billed("8", "key-a"), billed("2", "key-b")]

    result = month_of(costs, lines)

    assert told(result) == [(MatchLevel.MODEL_DAY, None, Decimal(10), Decimal(10), Verdict.MATCHED)]


def test_over_counting_of_a_key_is_not_made_good_by_what_another_left_untracked() -> None:
    costs = [metered("2", "key-a"), metered("8", "key-b")]
    lines = [billed("20", "key-a"), billed("2", "key-b")]

    result = month_of(costs, lines)

    assert [(row.account, row.verdict) for row in result.rows] == [
        ("key-a", Verdict.UNTRACKED),
        ("key-b", Verdict.OVER_COUNTED),
    ]


def test_a_call_at_midnight_is_no_alarm() -> None:
    costs = [metered("10"), metered("9", period=day(2)), metered("7", period=day(3))]
    lines = [billed("9"), billed("10", period=day(2)), billed("7", period=day(3))]

    result = month_of(costs, lines)

    assert [(row.period, row.level, row.verdict) for row in result.rows] == [
        (SEPTEMBER, MatchLevel.MODEL_MONTH, Verdict.MATCHED),
        (day(3), MatchLevel.MODEL_DAY, Verdict.MATCHED),
    ]


def test_days_that_all_err_to_one_side_stay_as_they_are() -> None:
    costs = [metered("10"), metered("10", period=day(2))]
    lines = [billed("9"), billed("9", period=day(2))]

    result = month_of(costs, lines)

    assert [(row.period, row.verdict) for row in result.rows] == [
        (day(1), Verdict.OVER_COUNTED),
        (day(2), Verdict.OVER_COUNTED),
    ]


def test_a_line_of_a_month_leaves_what_it_has_beyond_the_days_untracked() -> None:
    costs = [metered("4"), metered("4", period=day(2)), metered("2", period=day(3))]
    lines = [billed("10", period=SEPTEMBER), billed("2", period=day(3))]

    result = month_of(costs, lines)

    assert [(row.period, row.metered, row.invoiced, row.verdict) for row in result.rows] == [
        (SEPTEMBER, Decimal(8), Decimal(10), Verdict.UNTRACKED),
        (day(3), Decimal(2), Decimal(2), Verdict.MATCHED),
    ]


def test_a_line_without_a_model_meets_the_models_that_nothing_invoices() -> None:
    ptu = billed("10", model=None, description="PTU hours")
    seats = billed("5", model=None, description="seats", provider="other")

    result = month_of([metered("6"), metered("4", model="o3")], [ptu, seats])

    assert [(row.provider, row.description, row.level, row.verdict) for row in result.rows] == [
        ("other", "seats", MatchLevel.PROVIDER_MONTH, Verdict.UNTRACKED),
        ("openai", None, MatchLevel.PROVIDER_MONTH, Verdict.MATCHED),
    ]
    assert result.metered_rows == [1, 1]
    assert result.line_rows == [1, 0]


def test_lines_without_a_model_explain_no_missing_bill_where_other_lines_name_models() -> None:
    lines = [billed("9", model=None, description="web searches"), billed("3", model="o3")]

    result = month_of([metered("6"), metered("3", model="o3")], lines)

    assert [(row.model, row.description, row.verdict) for row in result.rows] == [
        ("gpt-4.1", None, Verdict.MISSING_BILL),
        ("o3", None, Verdict.MATCHED),
        (None, "web searches", Verdict.UNTRACKED),
    ]


def test_a_bill_that_names_no_model_is_compared_as_a_whole() -> None:
    lines = [billed("9", model=None), billed("3", model=None, period=day(2))]

    result = month_of([metered("6"), metered("3", model="o3")], lines)

    assert [(row.level, row.metered, row.invoiced, row.verdict) for row in result.rows] == [
        (MatchLevel.PROVIDER_MONTH, Decimal(9), Decimal(12), Verdict.UNTRACKED)
    ]


def test_one_model_under_two_names_cancels_out_over_the_month() -> None:
    result = month_of([metered("5", model="haiku-4-5")], [billed("5.05", model="Haiku 4.5")])

    assert [(row.model, row.level, row.verdict) for row in result.rows] == [
        (None, MatchLevel.PROVIDER_MONTH, Verdict.MATCHED)
    ]


def test_over_counting_of_a_model_is_never_made_good_by_another_model() -> None:
    costs = [metered("13"), metered("1", model="o3")]
    lines = [billed("10"), billed("4", model="o3")]

    result = month_of(costs, lines)

    assert [(row.model, row.verdict) for row in result.rows] == [
        ("gpt-4.1", Verdict.OVER_COUNTED),
        ("o3", Verdict.UNTRACKED),
    ]


def test_providers_never_make_good_for_each_other() -> None:
    result = month_of([metered("5")], [billed("5", provider="azure")])

    assert [(row.provider, row.verdict) for row in result.rows] == [
        ("azure", Verdict.UNTRACKED),
        ("openai", Verdict.MISSING_BILL),
    ]


def test_unpriced_usage_stays_visible_where_its_group_is_merged() -> None:
    costs = [metered("1", "key-a", unpriced_requests=3), metered("1", "key-b")]

    result = month_of(costs, [billed("5", "key-c")])

    assert [(row.verdict, row.unpriced_requests) for row in result.rows] == [(Verdict.UNTRACKED, 3)]
    assert not result.rows[0].is_untracked


def test_days_that_are_not_over_are_not_judged() -> None:
    noon = day(2).start + timedelta(hours=12)
    costs = [metered("5"), metered("9", "org", period=day(2))]
    lines = [billed("5"), billed("4", period=day(2)), billed("3", period=SEPTEMBER)]

    result = compare(costs, lines, Comparison(SEPTEMBER, "USD", as_of=noon))

    assert [(row.period, row.verdict) for row in result.rows] == [
        (day(1), Verdict.MATCHED),
        (SEPTEMBER, Verdict.OPEN),
        (day(2), Verdict.OPEN),
    ]
    assert not result.is_over_counted


def test_a_day_is_judged_as_soon_as_it_is_over() -> None:
    result = compare([metered("9")], [billed("4")], Comparison(SEPTEMBER, "USD", as_of=day(1).end))

    assert result.is_over_counted


def test_lines_that_no_usage_stands_for_have_rows_but_no_place_among_usage() -> None:
    lines = [
        billed("1"),
        billed("0.2", category=ChargeCategory.TAX, description="VAT"),
        billed("7", currency="EUR"),
    ]

    result = month_of([metered("1")], lines)

    assert result.line_rows == [0, None, None]
    assert [row.category for row in result.rows] == [ChargeCategory.USAGE, ChargeCategory.TAX]


COSTS = st.lists(
    st.builds(
        lambda nanos, account, model, number, unpriced: metered(
            "0",
            account,
            effective_nanos=nanos,
            model=model,
            period=day(number),
            unpriced_requests=unpriced,
        ),
        st.integers(0, 5 * UNIT),
        st.sampled_from([None, "key-a", "key-b", "org"]),
        st.sampled_from(["gpt-4.1", "o3"]),
        st.integers(1, 3),
        st.sampled_from([0, 0, 2]),
    ),
    max_size=12,
)
LINES = st.lists(
    st.builds(
        lambda amount, key, model, period, category: billed(
            str(amount), key, model=model, period=period, category=category
        ),
        st.decimals(-1, 5, places=12),
        st.sampled_from([None, "key-a", "key-b", "key-c"]),
        st.sampled_from(["gpt-4.1", "o3", None]),
        st.sampled_from([day(1), day(2), day(3), SEPTEMBER]),
        st.sampled_from([ChargeCategory.USAGE, ChargeCategory.USAGE, ChargeCategory.TAX]),
    ),
    max_size=12,
)


@given(COSTS, LINES)
def test_merging_loses_no_row_and_every_row_is_the_exact_sum_of_its_members(
    costs: list[MeteredCost], lines: list[BilledCost]
) -> None:
    result = month_of(costs, lines)

    spent: dict[int, int] = {}
    for cost, place in zip(costs, result.metered_rows, strict=True):
        spent[place] = spent.get(place, 0) + cost.effective_nanos
    invoiced: dict[int, Decimal] = {}
    for line, index in zip(lines, result.line_rows, strict=True):
        if index is not None:
            invoiced[index] = invoiced.get(index, Decimal(0)) + line.amount
    for place, row in enumerate(result.rows):
        if row.category is ChargeCategory.USAGE:
            assert row.metered == (Decimal(spent[place]) / UNIT if place in spent else None)
            assert row.invoiced == invoiced.get(place)
    assert sum(row.unpriced_requests for row in result.rows) == sum(
        cost.unpriced_requests for cost in costs
    )
    assert result.invoiced == sum((line.amount for line in lines), Decimal(0))
    assert result.metered == Decimal(sum(cost.effective_nanos for cost in costs)) / UNIT


@given(COSTS, LINES, st.randoms(use_true_random=False))
def test_the_order_of_usage_and_lines_changes_nothing(
    costs: list[MeteredCost], lines: list[BilledCost], random: Any
) -> None:
    expected = month_of(costs, lines)
    cost_order = random.sample(range(len(costs)), len(costs))
    line_order = random.sample(range(len(lines)), len(lines))

    result = month_of(
        [costs[place] for place in cost_order], [lines[place] for place in line_order]
    )

    assert result.rows == expected.rows
    rows = result.rows
    assert [rows[row] for row in result.metered_rows] == [
        expected.rows[expected.metered_rows[place]] for place in cost_order
    ]
    assert [None if row is None else rows[row] for row in result.line_rows] == [
        None if row is None else expected.rows[row]
        for row in (expected.line_rows[place] for place in line_order)
    ]


@given(COSTS, LINES)
def test_what_is_not_merged_and_what_is_are_judged_by_the_same_tolerance(
    costs: list[MeteredCost], lines: list[BilledCost]
) -> None:
    for row in month_of(costs, lines).rows:
        metered_amount, invoiced = row.metered or Decimal(0), row.invoiced or Decimal(0)
        is_within = abs(invoiced - metered_amount) * 50 <= abs(invoiced)
        if row.verdict is Verdict.OVER_COUNTED:
            assert metered_amount > invoiced
            assert not is_within
        if row.verdict is Verdict.UNTRACKED:
            assert invoiced > metered_amount
            assert not is_within
        if row.verdict is Verdict.MISSING_BILL:
            assert row.invoiced is None


@given(st.lists(st.integers(103, 200), min_size=1, max_size=6), st.sampled_from([1, -1]))
def test_nothing_hides_where_all_err_to_the_same_side(percents: list[int], sign: int) -> None:
    amounts = [(str(percent), "100")[::sign] for percent in percents]
    costs = [metered(each, period=day(place + 1)) for place, (each, _) in enumerate(amounts)]
    lines = [billed(each, period=day(place + 1)) for place, (_, each) in enumerate(amounts)]

    result = month_of(costs, lines)

    alarm = Verdict.OVER_COUNTED if sign > 0 else Verdict.UNTRACKED
    assert [row.verdict for row in result.rows] == [alarm] * len(percents)

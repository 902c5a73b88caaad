"""Traffic that nobody reported, name by name, and the tracked share of teams."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.reconciliation_cases import SEPTEMBER, UNIT, billed, day, metered, month_of
from tests.domain.test_matching import COSTS, LINES
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.coverage import (
    Coverage,
    Reported,
    Sides,
    Untracked,
    add_reported,
    apportion,
    cover_teams,
    find_untracked,
    untracked_by_line,
)
from tokenbudget.domain.likely_owners import Ref
from tokenbudget.domain.periods import Period, Window
from tokenbudget.domain.reconciliation import Comparison, MeteredCost, compare
from tokenbudget.domain.statements import Bearer


def sides(costs: list[MeteredCost], lines: list[BilledCost]) -> Sides:
    return Sides(costs, lines, month_of(costs, lines))


def nobody(_line: BilledCost) -> None:
    return None


def test_a_key_that_nobody_reports_has_an_amount_days_and_models() -> None:
    lines = [
        billed("10", "key-a"),
        billed("3", "rogue", project="lab"),
        billed("1.5", "rogue", project="lab", period=day(4), model="o3"),
    ]

    found = find_untracked(sides([metered("10", "key-a")], lines))

    ref = Ref("openai", "org", "lab", "rogue")
    assert found == {
        ref: Untracked(ref, 4_500_000_000, 0, date(2026, 9, 1), date(2026, 9, 4), {"gpt-4.1", "o3"})
    }


def test_what_a_row_leaves_falls_on_names_by_how_far_they_exceed_what_was_metered() -> None:
    # Usage of 10 without an account and 4 of key-b; billed are 12 + 8: 6 are untracked.
    # key-b exceeds what was metered under it by 4, key-a by 12: 6 * 12/16 and 6 * 4/16.
    costs = [metered("10"), metered("4", "key-b")]
    lines = [billed("12", "key-a"), billed("8", "key-b")]
    result = month_of(costs, lines)
    assert [row.is_untracked for row in result.rows] == [True]

    assert untracked_by_line(Sides(costs, lines, result)) == [4_500_000_000, 1_500_000_000]


def test_usage_under_a_project_counts_for_all_of_its_keys() -> None:
    costs = [metered("10", "lab")]
    lines = [billed("6", "key-a", project="lab"), billed("6", "key-b", project="lab")]

    found = find_untracked(sides(costs, lines))

    assert {ref.api_key: item.amount_nanos for ref, item in found.items()} == {
        "key-a": UNIT,
        "key-b": UNIT,
    }


def test_matched_over_counted_and_unpriced_rows_leave_nothing_untracked() -> None:
    costs = [
        metered("1"),
        metered("5", model="o3"),
        metered("0", model="new", unpriced_requests=1),
    ]
    lines = [billed("1.01"), billed("4", model="o3"), billed("2", model="new")]

    assert find_untracked(sides(costs, lines)) == {}


def test_lines_without_a_model_are_untracked_without_one() -> None:
    [item] = find_untracked(sides([], [billed("2", model=None, period=SEPTEMBER)])).values()

    assert (item.models, item.first, item.last) == (set(), date(2026, 9, 1), date(2026, 9, 30))


@given(COSTS, LINES)
def test_what_lines_leave_untracked_adds_up_to_the_rows(
    costs: list[MeteredCost], lines: list[BilledCost]
) -> None:
    both = sides(costs, lines)

    total = sum(untracked_by_line(both))

    variances = [row.variance for row in both.result.rows if row.is_untracked]
    # Each is rounded to a nano.
    assert abs(total - sum(variances, Decimal(0)) * UNIT) <= len(variances)


def reported(tokens: int, api_key: str | None, period: Period = SEPTEMBER) -> Reported:
    return Reported(Ref("openai", "org", None, api_key), period, tokens)


def test_tokens_that_a_provider_reports_beyond_what_was_metered_fall_on_their_names() -> None:
    found: dict[Ref, Untracked] = {}
    costs = [metered("1", "key-a", tokens=1_000)]

    add_reported(found, [reported(1_000, "key-a"), reported(500, "rogue")], costs)

    [item] = found.values()
    assert (item.ref.api_key, item.tokens, item.amount_nanos) == ("rogue", 500, 0)
    assert item.last == date(2026, 9, 30)


def test_usage_without_names_is_not_untracked_where_the_provider_reports_no_more() -> None:
    found: dict[Ref, Untracked] = {}
    costs = [metered("1", tokens=990), metered("1", provider="azure", tokens=1)]

    add_reported(found, [reported(600, "key-a"), reported(400, "key-b")], costs)

    assert found == {}


def test_only_usage_of_the_reported_days_stands_against_the_report() -> None:
    found: dict[Ref, Untracked] = {}
    costs = [metered("1", tokens=900, period=day(2)), metered("1", "rogue", tokens=100)]

    add_reported(found, [reported(300, "rogue", day(1))], costs)

    [item] = found.values()
    assert (item.tokens, item.first, item.last) == (200, date(2026, 9, 1), date(2026, 9, 1))


def test_tokens_and_amounts_of_one_name_are_one_item() -> None:
    ref = Ref("openai", "org", None, "rogue")
    found = {ref: Untracked(ref, 5)}

    add_reported(found, [reported(7, "rogue")], [])

    assert (found[ref].amount_nanos, found[ref].tokens) == (5, 7)


def test_names_of_no_excess_get_nothing() -> None:
    items = [("a", 10), ("b", 5), ("b", 15), (None, 1)]

    parts = apportion(8, items, {"a": 12, "b": 4})

    # b exceeds by 16, the nameless by 1: 8 * 16/17 = 7.53 and 0.47, so 8 and 0; 5 and 15 share 8.
    assert parts == [0, 2, 6, 0]


@given(
    st.integers(0, 10**12),
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(-5, 50)), min_size=1),
    st.dictionaries(st.sampled_from(["a", "b", None]), st.integers(0, 60)),
)
def test_apportioned_parts_sum_to_the_total(
    total: int, items: list[tuple[str | None, int]], counted: dict[str | None, int]
) -> None:
    parts = apportion(total, items, counted)

    assert sum(parts) == total
    assert min(parts) >= 0


def test_coverage_is_what_is_tracked_of_all_that_is_a_teams() -> None:
    costs = [metered("9", "key-a"), metered("1", "key-b", bearer=Bearer("search"))]
    lines = [billed("9.09", "key-a"), billed("2", "key-b"), billed("3", "rogue")]

    found = cover_teams(
        sides(costs, lines),
        lambda line: "search" if line.api_key == "key-b" else None,
        Window.MONTH,
    )

    # key-a matches, so growth tracked all 9.09 of it; key-b is 1 of 2; nobody owns the rogue key.
    assert found == {
        (SEPTEMBER, "growth"): Coverage(9_090_000_000, 0),
        (SEPTEMBER, "search"): Coverage(UNIT, UNIT),
        (SEPTEMBER, "Untracked"): Coverage(0, 3 * UNIT),
    }
    assert found[SEPTEMBER, "search"].basis_points == 5_000


def test_coverage_by_week_follows_the_days_of_usage_and_lines() -> None:
    monday = datetime(2026, 9, 7, tzinfo=UTC)
    costs = [metered("4"), metered("6", period=day(8))]
    lines = [billed("10", period=SEPTEMBER), billed("5", "rogue", model="o3", period=day(9))]

    found = cover_teams(sides(costs, lines), nobody, Window.WEEK)

    first = Period(monday - timedelta(weeks=1), monday)
    second = Period(monday, monday + timedelta(weeks=1))
    assert found == {
        (first, "growth"): Coverage(4 * UNIT, 0),
        (second, "growth"): Coverage(6 * UNIT, 0),
        (second, "Untracked"): Coverage(0, 5 * UNIT),
    }


def test_over_counted_usage_covers_no_more_than_its_invoice() -> None:
    costs = [metered("30"), metered("10", bearer=Bearer("search"))]

    found = cover_teams(sides(costs, [billed("20")]), nobody, Window.MONTH)

    assert {team: each.tracked_nanos for (_, team), each in found.items()} == {
        "growth": 15 * UNIT,
        "search": 5 * UNIT,
    }


def test_usage_that_no_invoice_carries_or_whose_day_is_not_over_covers_nothing() -> None:
    costs = [metered("3", model="o3"), metered("1", "org")]
    result = compare(
        costs, [billed("1")], Comparison(SEPTEMBER, "USD", as_of=day(1).start + timedelta(hours=1))
    )

    assert cover_teams(Sides(costs, [billed("1")], result), nobody, Window.MONTH) == {}


def test_free_usage_on_an_invoice_of_nothing_covers_nothing() -> None:
    found = cover_teams(sides([metered("0", "org")], [billed("0")]), nobody, Window.MONTH)

    assert found == {(SEPTEMBER, "growth"): Coverage(0, 0)}
    assert found[SEPTEMBER, "growth"].basis_points is None


@pytest.mark.parametrize(("tracked", "basis_points"), [(1, 3_333), (3, 10_000), (0, 0)])
def test_a_share_is_given_in_basis_points(tracked: int, basis_points: int) -> None:
    assert Coverage(tracked, 3 - tracked).basis_points == basis_points


def test_a_refund_of_usage_is_no_coverage() -> None:
    found = cover_teams(sides([metered("1", "org")], [billed("-5")]), nobody, Window.MONTH)

    assert found == {(SEPTEMBER, "growth"): Coverage(0, 0)}


def test_amounts_below_a_nano_are_rounded_and_nothing_is_left() -> None:
    lines = [billed("0.0000000004", "key-a")]

    assert find_untracked(sides([], lines)) == {}
    assert Decimal("0.0000000004") == month_of([], lines).invoiced

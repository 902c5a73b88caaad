"""Spend cut into parts: what is shown adds up, and nobody disappears."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.breakdowns import (
    NANOS_PER_CENT,
    Amount,
    break_down,
    by_size_of_change,
    fold_by,
    round_parts,
    rounded_amount,
    spend_by_day,
)
from tokenbudget.domain.costs import CostRow, Group

MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
TUESDAY = datetime(2026, 11, 10, tzinfo=UTC)


def costs(**teams: int) -> dict[Group, CostRow]:
    """Give one folded row a team, of so many nanos for ten requests."""
    return {(team,): CostRow((team,), effective_nanos=n, requests=10) for team, n in teams.items()}


@given(st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=30))
def test_cents_of_parts_add_to_the_rounded_total(parts: list[int]) -> None:
    target = rounded_amount(sum(parts)).cents

    rounded = round_parts(parts, unit=NANOS_PER_CENT, target=target)

    assert sum(rounded) == target
    assert all(
        abs(cents * NANOS_PER_CENT - part) < NANOS_PER_CENT
        for cents, part in zip(rounded, parts, strict=True)
    )


def test_the_largest_remainders_get_the_missing_cents() -> None:
    thirds = [3_333_333, 3_333_333, 3_333_334]

    assert round_parts(thirds, unit=NANOS_PER_CENT, target=1) == [0, 0, 1]


def test_a_target_beside_the_sum_is_dealt_out_evenly() -> None:
    assert round_parts([0, 0], unit=10, target=5) == [3, 2]
    assert round_parts([0, 0], unit=10, target=-1) == [0, -1]
    assert round_parts([], unit=10, target=5) == []


def test_rows_are_folded_by_key() -> None:
    rows = [CostRow(("a", "x"), requests=1), CostRow(("a", "y"), requests=2)]

    assert fold_by(rows, lambda row: row.group[:1]) == {("a",): CostRow(requests=3)}


def test_the_dearest_parts_have_lines_and_the_others_one_rest_line() -> None:
    now = costs(a=50, b=40, c=30, d=20)

    breakdown = break_down(now, costs(a=10, e=5), limit=2)

    assert [(line.group, line.amount.nanos, line.merged) for line in breakdown.lines] == [
        (("a",), 50, 0),
        (("b",), 40, 0),
        ((), 50, 3),
    ]
    assert breakdown.lines[2].amount_before.nanos == 5
    assert breakdown.total.now.effective_nanos == 140
    assert breakdown.total.before.effective_nanos == 15


def test_a_rest_of_one_keeps_its_name() -> None:
    breakdown = break_down(costs(a=3, b=2, c=1), {}, limit=2)

    assert [line.group for line in breakdown.lines] == [("a",), ("b",), ("c",)]


def test_shown_amounts_shares_and_changes_add_up() -> None:
    thirds = costs(a=33_333_333, b=33_333_333, c=33_333_334)

    breakdown = break_down(thirds, costs(a=10**7), limit=5)

    assert breakdown.total.amount == Amount(100_000_000, 10)
    assert sum(line.amount.cents for line in breakdown.lines) == 10
    assert sum(line.share for line in breakdown.lines) == 1000
    assert sum(line.change.cents for line in breakdown.lines) == 9
    assert breakdown.total.change == Amount(90_000_000, 9)


def test_credits_are_negative_parts_and_have_no_share_of_nothing() -> None:
    breakdown = break_down(costs(a=20_000_000, b=-30_000_000), {}, limit=5)

    assert [line.amount.cents for line in breakdown.lines] == [2, -3]
    assert [line.share for line in breakdown.lines] == [0, 0]
    assert breakdown.total.amount.cents == -1


def test_movers_are_ranked_by_the_size_of_their_change() -> None:
    breakdown = break_down(costs(a=100, b=10), costs(a=99, c=50), limit=5, weight=by_size_of_change)

    assert [line.group for line in breakdown.lines] == [("c",), ("b",), ("a",)]


def test_usage_without_any_price_is_unpriced_and_not_free() -> None:
    now: dict[Group, CostRow] = {
        ("a",): CostRow(("a",), requests=2, unpriced_requests=2),
        ("b",): CostRow(("b",)),
    }

    breakdown = break_down(now, {}, limit=5)

    assert [(line.group, line.is_unpriced) for line in breakdown.lines] == [
        (("a",), True),
        (("b",), False),
    ]
    assert breakdown.total.share == 0


def test_days_of_a_team_add_to_what_its_line_shows() -> None:
    teams = break_down(costs(a=15_000_000, b=15_000_000), {}, limit=5)
    rows = [
        CostRow(("a",), MONDAY, effective_nanos=7_500_000),
        CostRow(("a",), TUESDAY, effective_nanos=7_500_000),
        CostRow(("b",), TUESDAY, effective_nanos=15_000_000),
    ]

    daily = spend_by_day(rows, [MONDAY, TUESDAY], teams, limit=5)

    assert [(series.team, series.cents) for series in daily.series] == [
        ("a", (1, 1)),
        ("b", (0, 1)),
    ]
    assert daily.day_cents == (1, 2)
    assert daily.total_cents == teams.total.amount.cents == 3


def test_small_teams_share_one_series() -> None:
    cents = {
        name: cents * NANOS_PER_CENT for name, cents in (("a", 9), ("b", 5), ("c", 2), ("d", 1))
    }
    teams = break_down(costs(**cents), {}, limit=5)
    rows = [CostRow((name,), MONDAY, effective_nanos=nanos) for name, nanos in cents.items()]

    daily = spend_by_day(rows, [MONDAY], teams, limit=2)

    assert [(series.team, series.cents, series.merged) for series in daily.series] == [
        ("a", (9,), 0),
        ("b", (5,), 0),
        ("", (3,), 2),
    ]


def test_a_team_that_shows_no_cent_has_no_series() -> None:
    teams = break_down(costs(a=NANOS_PER_CENT, b=1), {}, limit=5)

    daily = spend_by_day([CostRow(("a",), MONDAY, effective_nanos=1)], [MONDAY], teams, limit=5)

    assert [series.team for series in daily.series] == ["a"]

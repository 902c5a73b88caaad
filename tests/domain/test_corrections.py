"""What a statement carries of its own month and of those that are closed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.domain.statement_cases import CENT, make_line
from tokenbudget.domain.corrections import (
    MonthContent,
    content_of,
    corrected_months,
    difference,
    find_untied,
    in_order,
)
from tokenbudget.domain.owners import OwnerFacts, OwnerKind, OwnerTree
from tokenbudget.domain.statements import (
    AllocatedCost,
    Bearer,
    Invoice,
    LineKey,
    Method,
    MonthAllocation,
    Origin,
    Refusal,
    StatedInvoice,
    StatementLine,
)

TREE = OwnerTree({(OwnerKind.TEAM, "growth"): OwnerFacts(cost_center="CC-1")})


def stated(count: int, month: int = 202609, account: str = "a") -> StatedInvoice:
    """Give an invoice of so many cents."""
    return StatedInvoice(month, Invoice("acme", account, count * CENT))


def test_a_month_becomes_rows_with_cost_centres_one_for_each_key() -> None:
    cost = AllocatedCost(
        Bearer("growth"),
        "acme",
        "a",
        "plain",
        Origin.USAGE,
        Method.DIRECT,
        30 * CENT,
        None,
        5,
        1,
        2,
    )
    nothing = AllocatedCost(
        Bearer("growth"), "acme", "a", "other", Origin.USAGE, Method.DIRECT, 0, None, 0
    )
    allocation = MonthAllocation(
        202609, "USD", 1, (cost, cost, nothing), (Invoice("acme", "a", 60 * CENT),)
    )

    content = content_of(allocation, TREE)

    key = LineKey(
        202609,
        "growth",
        None,
        None,
        "CC-1",
        "acme",
        "a",
        "plain",
        Origin.USAGE,
        Method.DIRECT,
        None,
    )
    assert content.lines == (StatementLine(key, 60 * CENT, 10, 2, 4),)
    assert content.invoices == (stated(60),)
    assert content.total_nanos == 60 * CENT


def test_a_difference_holds_what_is_new_what_is_gone_and_what_changed() -> None:
    before = MonthContent(
        (make_line("gone", 10), make_line("same", 20), make_line("more", 30)),
        (stated(60), stated(5, account="b")),
    )
    now = MonthContent(
        (make_line("same", 20), make_line("more", 33), make_line("new", 7, metered_nanos=None)),
        (stated(60),),
    )

    change = difference(now, before, corrects="s-1")

    assert [
        (line.key.team, line.amount_nanos // CENT, line.metered_nanos, line.requests, line.tokens)
        for line in change.lines
    ] == [("more", 3, 0, 0, 0), ("new", 7, None, 2, 3), ("gone", -10, -1, -2, -3)]
    assert {line.corrects for line in change.lines} == {"s-1"}
    assert change.invoices == (stated(-5, account="b"),)


lines = st.lists(
    st.builds(
        make_line,
        st.sampled_from(["a", "b", "c"]),
        st.integers(-5, 5),
        model=st.sampled_from(["x", None]),
        metered_nanos=st.none() | st.integers(-3, 3),
    ),
    max_size=8,
)


@given(lines, lines)
def test_what_was_stated_and_its_difference_are_what_is_known(
    before: list[StatementLine], now: list[StatementLine]
) -> None:
    change = difference(MonthContent(tuple(now)), MonthContent(tuple(before)))

    assert sums([*before, *change.lines]) == sums(now)


def sums(some: list[StatementLine]) -> Counter[tuple[LineKey, str]]:
    """Give amounts and figures by key, without zeros."""
    found: Counter[tuple[LineKey, str]] = Counter()
    for line in some:
        found[line.key, "amount"] += line.amount_nanos
        found[line.key, "metered"] += line.metered_nanos or 0
        found[line.key, "requests"] += line.requests
    return Counter({key: count for key, count in found.items() if count})


def test_rows_that_are_not_their_invoices_are_named_by_account_and_month() -> None:
    content = MonthContent(
        (make_line(count=60), make_line(count=5, account="b"), make_line(count=1, account="c")),
        (stated(59), stated(5, account="b"), stated(4, month=202608)),
    )

    detail = "what is allocated of acme account {} is not what was invoiced"
    assert find_untied(content) == [
        Refusal("not_tied", f"2026-08: {detail.format(repr('a'))}", -4 * CENT),
        Refusal("not_tied", f"2026-09: {detail.format(repr('a'))}", CENT),
        Refusal("not_tied", f"2026-09: {detail.format(repr('c'))}", CENT),
    ]


def test_corrected_months_are_the_closed_ones_within_two_years_before() -> None:
    closed = {202408: "a", 202409: "b", 202608: "c", 202609: "d", 202610: "e"}

    assert corrected_months(closed, month=202609) == [202409, 202608]
    assert corrected_months(closed, month=202609, limit=1) == [202608]


def test_rows_and_invoices_are_kept_in_one_order_whatever_they_came_in() -> None:
    content = MonthContent(
        (make_line("b"), make_line("a")), (stated(1, month=202608), stated(1, account="b"))
    )

    ordered = in_order(content)

    assert [line.key.team for line in ordered.lines] == ["a", "b"]
    assert ordered.invoices == (stated(1, account="b"), stated(1, month=202608))
    assert (content + ordered).total_nanos == 4 * 60 * CENT

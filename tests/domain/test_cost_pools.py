"""Pools: what is shared, by what and among whom, in figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.allocation_cases import (
    DOLLAR,
    TAX,
    THEIR_LINE,
    TWO_TEAMS,
    divide,
    divide_row,
    equal,
    make_line,
    make_metered,
    make_month,
    make_terms,
    row_of,
    taxed,
    told,
    total,
)
from tokenbudget.domain.allocation_rules import Driver, PoolRule, Scope
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.invoice_allocation import allocate_invoices
from tokenbudget.domain.reconciliation import Verdict
from tokenbudget.domain.statements import Bearer, Invoice
from tokenbudget.domain.tag_rules import Condition


def test_without_rules_a_pool_is_shared_by_direct_cost() -> None:
    # 4 by 30 : 10.
    divided = divide()

    assert told(divided) == [
        ("a", "tax", "by_direct_cost", "3.00"),
        ("a", "usage", "direct", "30.00"),
        ("b", "tax", "by_direct_cost", "1.00"),
        ("b", "usage", "direct", "10.00"),
    ]
    assert divided.invoices == (Invoice("openai", "org", 44 * DOLLAR),)


@pytest.mark.parametrize(
    ("rule", "a", "b"),
    [
        (PoolRule("tax", driver=Driver.DIRECT_COST), "3.00", "1.00"),
        (PoolRule("tax", driver=Driver.TOKENS), "2.00", "2.00"),
        (PoolRule("tax", driver=Driver.REQUESTS), "1.00", "3.00"),
        (PoolRule("tax", driver=Driver.EVEN), "2.00", "2.00"),
        (PoolRule("tax", driver=Driver.FIXED, shares=(("a", 5), ("b", 95))), "0.20", "3.80"),
        (PoolRule("tax", driver=Driver.METRIC, metric="solved"), "0.80", "3.20"),
    ],
)
def test_every_driver_shares_by_its_own_measure(rule: PoolRule, a: str, b: str) -> None:
    outcomes = {"solved": {Bearer("a"): DOLLAR, Bearer("b", "f"): 4 * DOLLAR}}

    divided = divide(TWO_TEAMS, [THEIR_LINE, TAX], rule, outcomes=outcomes)

    assert taxed(divided) == {"a": a, "b": b}
    assert {cost.rule for cost in divided.costs if cost.origin.value == "tax"} == {"tax"}


def test_cents_of_equal_shares_go_by_name() -> None:
    metered = [make_metered("1", team) for team in "cab"]
    tax = make_line("0.10", category=ChargeCategory.TAX)

    divided = divide(metered, [make_line("3"), tax], PoolRule("tax", driver=Driver.EVEN))

    assert taxed(divided) == {"a": "0.04", "b": "0.03", "c": "0.03"}


def test_zero_weights_share_evenly() -> None:
    metered = [make_metered("3", "a", tokens=0), make_metered("1", "b", tokens=0)]

    divided = divide(metered, [make_line("4"), TAX], PoolRule("tax", driver=Driver.TOKENS))

    assert [each for each in told(divided) if each[1] == "tax"] == [
        ("a", "tax", "evenly", "2.00"),
        ("b", "tax", "evenly", "2.00"),
    ]


def test_a_metric_that_nobody_told_shares_evenly() -> None:
    rule = PoolRule("tax", driver=Driver.METRIC, metric="solved")

    divided = divide(TWO_TEAMS, [THEIR_LINE, TAX], rule)

    assert taxed(divided) == {"a": "2.00", "b": "2.00"}


def test_where_nobody_takes_part_it_stays_unallocated() -> None:
    rule = PoolRule("tax", among=(equal(team="nobody"),))

    divided = divide(TWO_TEAMS, [THEIR_LINE, TAX], rule)

    assert taxed(divided) == {"unallocated": "4.00"}


def test_an_invoice_of_nothing_but_credit_is_shared_by_the_providers_usage() -> None:
    # 10 taken off another account of the provider, by 30 : 10.
    credit = make_line("-10", category=ChargeCategory.CREDIT, account="other")

    divided = divide(TWO_TEAMS, [THEIR_LINE, credit])

    assert taxed(divided) == {"a": "-7.50", "b": "-2.50"}
    assert divided.invoices == (
        Invoice("openai", "org", 40 * DOLLAR),
        Invoice("openai", "other", -10 * DOLLAR),
    )


def test_a_credit_of_a_provider_nobody_used_is_shared_by_all_usage() -> None:
    credit = make_line("-10", category=ChargeCategory.CREDIT, provider="anthropic")

    assert taxed(divide(TWO_TEAMS, [THEIR_LINE, credit])) == {"a": "-7.50", "b": "-2.50"}


def test_a_negative_invoice_adds_up_as_well() -> None:
    # 40 of usage less 43 of credit: 43 by 30 : 10 is 32.25 and 10.75.
    credit = make_line("-43", category=ChargeCategory.CREDIT)

    divided = divide(TWO_TEAMS, [THEIR_LINE, credit])

    assert taxed(divided) == {"a": "-32.25", "b": "-10.75"}
    assert total(divided.costs) == divided.invoices[0].amount_nanos == -3 * DOLLAR


def test_usage_lines_that_take_money_off_are_a_credit() -> None:
    refund = make_line("-4", model="m2")

    divided = divide(TWO_TEAMS, [THEIR_LINE, refund])

    assert [each for each in told(divided) if each[1] == "credit"] == [
        ("a", "credit", "by_direct_cost", "-3.00"),
        ("b", "credit", "by_direct_cost", "-1.00"),
    ]


def test_a_refund_beside_free_usage_keeps_the_usage() -> None:
    free = make_metered("0", "b", requests=5)

    divided = divide_row([free], [make_line("-1")], row_of("0", "-1", Verdict.DISCOUNT))

    assert [(cost.origin.value, cost.amount_nanos, cost.requests) for cost in divided.costs] == [
        ("credit", -DOLLAR, 0),
        ("usage", 0, 5),
    ]


def test_lines_find_the_first_pool_that_matches_their_description() -> None:
    fee = make_line("8", category=ChargeCategory.PURCHASE, description="Premium SUPPORT fee")
    support = PoolRule(
        "support",
        match=(Condition("description", globs=("*support*",)),),
        driver=Driver.EVEN,
        by=("team",),
    )
    purchases = PoolRule("rest", match=equal(category="purchase"))

    divided = divide(TWO_TEAMS, [THEIR_LINE, fee], support, purchases)

    assert taxed(divided) == {"a": "4.00", "b": "4.00"}
    assert {cost.rule for cost in divided.costs if cost.rule} == {"support"}


def test_a_rule_of_other_months_is_passed_over() -> None:
    over = PoolRule("over", driver=Driver.EVEN, valid_to=202609)
    early = PoolRule("early", driver=Driver.EVEN, valid_from=202610)
    present = PoolRule("present", driver=Driver.REQUESTS, valid_from=202609, valid_to=202610)

    divided = divide(TWO_TEAMS, [THEIR_LINE, TAX], over, early, present)

    assert taxed(divided) == {"a": "1.00", "b": "3.00"}


@pytest.mark.parametrize(
    ("filters", "shares"),
    [
        ({"among": (equal(team="a"),)}, {"a": "4.00"}),
        ({"exclude": (equal(team="a"),)}, {"b": "4.00"}),
        ({"among": (equal(cost_center="CC-2"),)}, {"b": "4.00"}),
        ({"among": (equal(team="a"), equal(team="b"))}, {"a": "3.00", "b": "1.00"}),
        ({"exclude": (equal(team="a", feature="f"),)}, {"a": "3.00", "b": "1.00"}),
    ],
)
def test_participants_are_chosen_by_who_they_are(
    filters: dict[str, Any], shares: dict[str, str]
) -> None:
    divided = divide(TWO_TEAMS, [THEIR_LINE, TAX], PoolRule("tax", **filters))

    assert taxed(divided) == shares


@pytest.mark.parametrize(
    ("by", "bearers"),
    [
        (("team",), [Bearer("a")]),
        (("team", "feature"), [Bearer("a", "f"), Bearer("a", "g")]),
        (("team", "tenant"), [Bearer("a", None, "t")]),
    ],
)
def test_shares_go_as_deep_as_the_rule_says(by: tuple[str, ...], bearers: list[Bearer]) -> None:
    metered = [
        make_metered("1", "a", feature="f", tenant="t"),
        make_metered("1", "a", feature="g", tenant="t"),
    ]

    divided = divide(metered, [make_line("2"), TAX], PoolRule("tax", by=by))

    assert [cost.bearer for cost in divided.costs if cost.origin.value == "tax"] == bearers


@pytest.mark.parametrize(
    ("over", "shares"),
    [
        # org has a alone, the provider a and b with 30 : 10, everything c with 40 as well.
        (Scope.ACCOUNT, {"a": "8.00"}),
        (Scope.PROVIDER, {"a": "6.00", "b": "2.00"}),
        (Scope.ALL, {"a": "3.00", "b": "1.00", "c": "4.00"}),
    ],
)
def test_a_driver_looks_as_far_as_the_rule_says(over: Scope, shares: dict[str, str]) -> None:
    metered = [
        make_metered("30", "a", account="p1"),
        make_metered("10", "b", account="p3", model="m2"),
        make_metered("40", "c", provider="anthropic"),
    ]
    lines = [
        make_line("30", project="p1"),
        make_line("10", project="p3", model="m2", account="other"),
        make_line("40", provider="anthropic"),
        make_line("8", category=ChargeCategory.TAX),
    ]

    assert taxed(divide(metered, lines, PoolRule("tax", over=over))) == shares


def test_untagged_costs_are_handed_on_and_their_usage_stays() -> None:
    # 20 untagged by 30 : 10; who is emptied bears nothing of the tax either.
    metered = [*TWO_TEAMS, make_metered("20", "unallocated", requests=9)]
    untagged = PoolRule("untagged", bearer=equal(team="unallocated"))

    divided = divide(metered, [make_line("60"), TAX], untagged)

    assert told(divided) == [
        ("a", "tax", "by_direct_cost", "3.00"),
        ("a", "usage", "by_direct_cost", "15.00"),
        ("a", "usage", "direct", "30.00"),
        ("b", "tax", "by_direct_cost", "1.00"),
        ("b", "usage", "by_direct_cost", "5.00"),
        ("b", "usage", "direct", "10.00"),
        ("unallocated", "usage", "direct", "0.00"),
    ]
    assert (divided.costs[-1].metered_nanos, divided.costs[-1].requests) == (20 * DOLLAR, 9)


def test_untracked_money_can_be_shared_by_a_rule() -> None:
    lines = [THEIR_LINE, make_line("8", project="p9", model="m2")]
    untracked = PoolRule("untracked", bearer=equal(team="Untracked"), driver=Driver.EVEN)

    divided = divide(TWO_TEAMS, lines, untracked)

    assert [each for each in told(divided) if each[1] == "untracked"] == [
        ("a", "untracked", "evenly", "4.00"),
        ("b", "untracked", "evenly", "4.00"),
    ]
    assert {cost.model for cost in divided.costs if cost.rule == "untracked"} == {"m2"}


def test_the_unused_part_of_a_commitment_is_a_pool() -> None:
    # 8 unused of a commitment, by 30 : 10; the usage row stays where it was.
    unused = make_metered("8", "unallocated", model=UNUSED, requests=0, tokens=0)

    divided = divide([*TWO_TEAMS, unused], [THEIR_LINE, make_line("8", model=UNUSED)])

    assert [each for each in told(divided) if each[1] == "unused"] == [
        ("a", "unused", "by_direct_cost", "6.00"),
        ("b", "unused", "by_direct_cost", "2.00"),
        ("unallocated", "unused", "direct", "0.00"),
    ]


def test_unused_commitments_follow_their_own_rule() -> None:
    unused = make_metered("8", "unallocated", model=UNUSED)
    rule = PoolRule("idle", match=equal(category="unused"), driver=Driver.EVEN)

    divided = divide([*TWO_TEAMS, unused], [THEIR_LINE, make_line("8", model=UNUSED)], rule)

    assert taxed(divided) == {"a": "4.00", "b": "4.00"}


def test_yen_have_no_cents() -> None:
    metered = [make_metered("1.5", "a"), make_metered("1.5", "b")]
    month = make_month(metered, [make_line("3", currency="JPY")], currency="JPY")

    divided = allocate_invoices(month, make_terms())

    assert [cost.amount_nanos for cost in divided.costs] == [2 * DOLLAR, DOLLAR]

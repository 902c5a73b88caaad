"""Who bears what of a month's invoices: figures worked out by hand, and what always holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.allocation_cases import (
    ACCEPTED,
    CENT,
    COST_CENTERS,
    DOLLAR,
    MONTHS,
    OUTCOMES,
    RULES,
    THEIR_LINE,
    TWO_TEAMS,
    day,
    divide,
    divide_row,
    dollars_of,
    equal,
    make_line,
    make_metered,
    make_month,
    make_terms,
    row_of,
    terms_of,
    told,
    total,
)
from tokenbudget.domain.allocation_rules import AllocationRules, Driver, PoolRule, Scope
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.cents import round_to_cents
from tokenbudget.domain.invoice_allocation import allocate_invoices
from tokenbudget.domain.reconciliation import MeteredCost, Verdict
from tokenbudget.domain.statements import AllocatedCost, Bearer, Invoice, Refusal

Sides = tuple[list[MeteredCost], list[BilledCost]]

# Usage of compared rows.


def test_what_agrees_to_the_cent_is_borne_as_metered() -> None:
    divided = divide(lines=[THEIR_LINE])

    assert told(divided) == [("a", "usage", "direct", "30.00"), ("b", "usage", "direct", "10.00")]
    assert divided.invoices == (Invoice("openai", "org", 40 * DOLLAR),)
    assert [(cost.metered_nanos, cost.requests, cost.tokens) for cost in divided.costs] == [
        (30 * DOLLAR, 10, 100),
        (10 * DOLLAR, 30, 100),
    ]


def test_what_is_within_tolerance_is_spread() -> None:
    # 40.40 is 1 % above 40: 30 * 1.01 and 10 * 1.01.
    divided = divide(lines=[make_line("40.40")])

    assert told(divided) == [("a", "usage", "spread", "30.30"), ("b", "usage", "spread", "10.10")]
    assert [cost.metered_nanos for cost in divided.costs] == [30 * DOLLAR, 10 * DOLLAR]


def test_a_little_less_than_metered_is_spread_too() -> None:
    # 39.60 is 1 % below 40.
    divided = divide(lines=[make_line("39.60")])

    assert told(divided) == [("a", "usage", "spread", "29.70"), ("b", "usage", "spread", "9.90")]
    assert divided.refusals == ()


def test_an_untracked_key_is_borne_by_who_uses_its_project() -> None:
    metered = [make_metered("3", "a", account="p1")]
    lines = [make_line("3", project="p1"), make_line("2", project="p2")]

    divided = divide(metered, lines)

    assert told(divided) == [("a", "usage", "direct", "3.00"), ("b", "untracked", "mapped", "2.00")]
    assert divided.refusals == ()


def test_what_nobody_is_known_for_falls_to_untracked() -> None:
    divided = divide([], [make_line("2", project="p9")])

    assert told(divided) == [("Untracked", "untracked", "residual", "2.00")]


def test_untracked_money_stands_where_lines_exceed_usage() -> None:
    # 6 invoiced, 3 metered: of the 3 too many, p1 has 1 (4 - 3) and p2 has 2 (2 - 0).
    metered = [make_metered("3", "a", account="p1")]
    lines = [make_line("4", project="p1"), make_line("2", project="p2", account="other")]

    divided = divide_row(metered, lines, row_of("3", "6", Verdict.UNTRACKED))

    assert [
        (cost.account, cost.bearer.team, dollars_of(cost.amount_nanos)) for cost in divided.costs
    ] == [
        ("org", "Untracked", "1.00"),
        ("org", "a", "3.00"),
        ("other", "b", "2.00"),
    ]


def test_a_row_of_two_accounts_is_divided_by_what_each_invoiced() -> None:
    # 40 of usage, 30 invoiced to org and 10 to other: three quarters of all stand with org.
    lines = [make_line("30"), make_line("10", account="other")]

    divided = divide_row(list(TWO_TEAMS), lines, row_of("40", "40", Verdict.MATCHED))

    assert [
        (cost.account, cost.bearer.team, dollars_of(cost.amount_nanos), cost.requests)
        for cost in divided.costs
    ] == [
        ("org", "a", "22.50", 8),
        ("org", "b", "7.50", 23),
        ("other", "a", "7.50", 2),
        ("other", "b", "2.50", 7),
    ]
    assert [cost.metered_nanos for cost in divided.costs] == [
        22_500_000_000,
        7_500_000_000,
        7_500_000_000,
        2_500_000_000,
    ]


def test_lines_that_cancel_out_are_borne_where_they_stand() -> None:
    lines = [make_line("5", project="p2"), make_line("-5", account="other")]

    divided = divide_row([], lines, row_of(None, "0", Verdict.MATCHED))

    assert told(divided) == [
        ("b", "untracked", "mapped", "5.00"),
        ("Untracked", "untracked", "residual", "-5.00"),
    ]


def test_an_invoice_finer_than_a_nano_leaves_nothing_untracked() -> None:
    lines = [make_line("0.0000000004"), make_line("0.0000000004", project="p2")]

    divided = divide_row([make_metered("0")], lines, row_of("0", "0.0000000008", Verdict.UNTRACKED))

    assert [(cost.amount_nanos, cost.requests) for cost in divided.costs] == [(0, 1)]


def test_lines_of_one_ref_share_by_what_each_invoices() -> None:
    # Both lines are of p1, which was metered at 1: of 5 too many, 4/6 and 2/6.
    metered = [make_metered("1", "a", account="p1")]
    lines = [make_line("4", project="p1"), make_line("2", project="p1", account="other")]

    divided = divide_row(metered, lines, row_of("1", "6", Verdict.UNTRACKED))

    untracked = [each for each in told(divided) if each[1] == "untracked"]
    assert [dollars for *_, dollars in untracked] == ["3.33", "1.67"]


def test_metered_usage_without_a_ref_still_bears_its_own() -> None:
    # The lines name p1 and p2, the usage neither: it bears 2 of 6.
    lines = [make_line("4", project="p1"), make_line("2", project="p2")]

    divided = divide_row([make_metered("2", "a")], lines, row_of("2", "6", Verdict.UNTRACKED))

    # 4 are untracked, by 4 : 2.
    assert told(divided) == [
        ("Untracked", "untracked", "residual", "2.67"),
        ("a", "usage", "direct", "2.00"),
        ("b", "untracked", "mapped", "1.33"),
    ]


# What is refused, and what somebody accepted.


def test_over_counting_is_refused_and_never_scaled_in_silence() -> None:
    divided = divide(lines=[make_line("20")])

    assert divided.refusals == (
        Refusal(
            "over_counted",
            "openai m1: 20.000000000 USD more metered than invoiced in 2026-09 (1 row)",
            -20 * DOLLAR,
        ),
    )
    assert {(cost.method.value, cost.rule) for cost in divided.costs} == {("accepted", None)}
    assert total(divided.costs) == 20 * DOLLAR


def test_accepted_over_counting_is_scaled_and_names_its_rule() -> None:
    # Half of what was metered.
    divided = divide(TWO_TEAMS, [make_line("20")], acceptances=(ACCEPTED,))

    assert told(divided) == [
        ("a", "usage", "accepted", "15.00"),
        ("b", "usage", "accepted", "5.00"),
    ]
    assert ({cost.rule for cost in divided.costs}, divided.refusals) == ({"clock"}, ())


@pytest.mark.parametrize(
    "changed",
    [
        {"month": 202608},
        {"conditions": equal(provider="anthropic")},
        {"conditions": equal(model="m2")},
        {"conditions": equal(account="org")},
    ],
)
def test_an_acceptance_of_something_else_accepts_nothing(changed: dict[str, Any]) -> None:
    divided = divide(TWO_TEAMS, [make_line("20")], acceptances=(replace(ACCEPTED, **changed),))

    assert [refusal.code for refusal in divided.refusals] == ["over_counted"]


def test_usage_without_a_bill_is_refused() -> None:
    later = make_metered("2", "a", period=day(2), model="m2")

    divided = divide([*TWO_TEAMS, later], [])

    # Without any bill of the provider it makes no difference of which model.
    assert [(each.code, each.detail, each.amount_nanos) for each in divided.refusals] == [
        (
            "missing_bill",
            "openai: 42.000000000 USD metered and not invoiced in 2026-09 (2 rows)",
            -42 * DOLLAR,
        )
    ]
    assert divided.invoices == (Invoice("openai", "", 0, is_billed=False),)
    assert {dollars for *_, dollars in told(divided)} == {"0.00"}


def test_usage_that_a_bill_leaves_out_is_refused_by_model_with_what_has_no_price() -> None:
    unpriced = make_metered("0", "a", model="m2", unpriced_requests=3)
    missing = make_metered("2", "a", model="m3")

    divided = divide([*TWO_TEAMS, unpriced, missing], [make_line("40")])

    assert [each.detail for each in divided.refusals] == [
        "openai m2: 0.000000000 USD and 3 without a price metered and not invoiced in 2026-09"
        " (1 row)",
        "openai m3: 2.000000000 USD metered and not invoiced in 2026-09 (1 row)",
    ]


def test_an_accepted_missing_bill_bears_nothing() -> None:
    lines = [make_line("5", provider="anthropic", model="m2")]

    divided = divide(TWO_TEAMS, lines, acceptances=(ACCEPTED,))

    assert divided.refusals == ()
    assert told(divided) == [
        ("Untracked", "untracked", "residual", "5.00"),
        ("a", "usage", "accepted", "0.00"),
        ("b", "usage", "accepted", "0.00"),
    ]


def test_usage_without_a_line_stands_with_the_only_account() -> None:
    metered = [*TWO_TEAMS, make_metered("0", "c", model="free", requests=7)]

    divided = divide(metered, [THEIR_LINE])

    assert [
        (cost.account, cost.method.value, cost.amount_nanos, cost.requests)
        for cost in divided.costs
        if cost.bearer.team == "c"
    ] == [("org", "direct", 0, 7)]


def test_models_of_ones_own_are_allocated_as_metered() -> None:
    hosted = make_metered("12.345", "b", provider="vllm")

    divided = divide([hosted], [], unbilled=equal(provider="vllm"))

    # 12.345 rounds half to even.
    assert told(divided) == [("b", "unbilled", "direct", "12.34")]
    assert divided.invoices == (Invoice("vllm", "", 1234 * CENT, is_billed=False),)
    assert divided.refusals == ()


def test_a_provider_that_bills_after_all_is_refused() -> None:
    metered = [*TWO_TEAMS, make_metered("5", "c", model="m2")]

    divided = divide(
        metered, [THEIR_LINE], unbilled=equal(provider="openai"), acceptances=(ACCEPTED,)
    )

    assert [(each.code, each.amount_nanos) for each in divided.refusals] == [
        ("billed_after_all", -5 * DOLLAR)
    ]
    assert divided.refusals[0].detail == (
        "openai m2: a rule says the provider sends no bill, and one is in force; it leaves out "
        "5.000000000 USD metered in 2026-09 (1 row)"
    )


# What always holds.


ROLL_UPS: dict[str, Callable[[AllocatedCost], object]] = {
    "team": lambda cost: cost.bearer.team,
    "feature": lambda cost: (cost.bearer.team, cost.bearer.feature),
    "tenant": lambda cost: cost.bearer.tenant,
    "cost centre": lambda cost: COST_CENTERS.get(cost.bearer.team),
    "provider": lambda cost: cost.provider,
    "account": lambda cost: (cost.provider, cost.account),
}


@settings(max_examples=200, deadline=None)
@given(MONTHS, RULES, OUTCOMES)
def test_costs_add_up_to_the_invoices_at_every_level(
    both: Sides,
    rules: AllocationRules,
    outcomes: dict[Bearer, int],
) -> None:
    metered, lines = both

    divided = allocate_invoices(make_month(metered, lines), terms_of(rules, outcomes))

    invoiced = sum(each.amount_nanos for each in divided.invoices)
    for roll_up in ROLL_UPS.values():
        parents: dict[object, int] = defaultdict(int)
        for cost in divided.costs:
            parents[roll_up(cost)] += cost.amount_nanos
            assert cost.amount_nanos % CENT == 0
        assert sum(parents.values()) == invoiced
    by_account: dict[object, int] = defaultdict(int)
    for cost in divided.costs:
        by_account[cost.provider, cost.account] += cost.amount_nanos
    for each in divided.invoices:
        assert by_account[each.provider, each.account] == each.amount_nanos
        if each.is_billed:
            key = each.provider, each.account
            exact = sum((x.amount for x in lines if (x.provider, x.account) == key), Decimal(0))
            assert each.amount_nanos == round_to_cents(exact, "USD")
    assert sum(cost.requests for cost in divided.costs) == sum(cost.requests for cost in metered)
    assert sum(cost.metered_nanos or 0 for cost in divided.costs) == sum(
        cost.effective_nanos for cost in metered
    )


@settings(max_examples=100, deadline=None)
@given(MONTHS, RULES, RULES, OUTCOMES)
def test_no_sharing_option_changes_the_total(
    both: Sides,
    rules: AllocationRules,
    others: AllocationRules,
    outcomes: dict[Bearer, int],
) -> None:
    month = make_month(*both)
    toggled = replace(rules, pools=others.pools, acceptances=others.acceptances)

    divided = allocate_invoices(month, terms_of(rules, outcomes))
    otherwise = allocate_invoices(month, terms_of(toggled, outcomes))

    assert total(divided.costs) == total(otherwise.costs)
    assert divided.invoices == otherwise.invoices


INDEPENDENT = (
    PoolRule("tax", match=equal(category="tax"), driver=Driver.EVEN),
    PoolRule("idle", match=equal(category="unused"), driver=Driver.REQUESTS),
    PoolRule("untagged", bearer=equal(team="unallocated"), by=("team", "feature")),
    PoolRule("untracked", bearer=equal(team="Untracked"), over=Scope.ALL),
)


@settings(max_examples=100, deadline=None)
@given(MONTHS, st.permutations(INDEPENDENT), st.randoms(use_true_random=False))
def test_no_order_changes_anything(both: Sides, pools: list[PoolRule], chance: Any) -> None:
    metered, lines = both
    shuffled, turned = list(metered), list(lines)
    chance.shuffle(shuffled)
    chance.shuffle(turned)

    divided = allocate_invoices(make_month(metered, lines), make_terms(*INDEPENDENT))
    otherwise = allocate_invoices(make_month(shuffled, turned), make_terms(*pools))

    assert otherwise == divided

"""Commitments and the lines that pay them: compared and divided by hand, and what always holds.

Team a used 60 and team b 30 of the commitment, 10 are unused: it cost 100.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from tests.allocation_cases import (
    ACCEPTED,
    DOLLAR,
    MONTH,
    MONTHS,
    PAYING,
    SEPTEMBER,
    TWO_TEAMS,
    day,
    divide,
    dollars_of,
    equal,
    make_line,
    make_metered,
    make_month,
    row_of,
    told,
)
from tokenbudget.domain.allocation_rules import (
    CommitmentRule,
    Driver,
    PoolRule,
    commitment_finder,
)
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.matching import Subject
from tokenbudget.domain.reconciliation import (
    Comparison,
    MatchLevel,
    MeteredCost,
    Reconciliation,
    ReconciliationRow,
    Verdict,
    compare,
)
from tokenbudget.domain.statements import MonthAllocation
from tokenbudget.domain.waterfall import LEVELS, Step, waterfalls

PURCHASE = ChargeCategory.PURCHASE
SHARES = (
    make_metered("60", "a", commitment="ptu", requests=6, tokens=600),
    make_metered("30", "b", commitment="ptu", period=day(2), requests=3, tokens=300),
    make_metered(
        "10", "unallocated", model=UNUSED, commitment="ptu", period=day(3), requests=0, tokens=0
    ),
)


def paying(dollars: str, **overrides: Any) -> BilledCost:
    """Give a purchase of the whole month that pays the commitment."""
    facts = {
        "category": PURCHASE,
        "period": SEPTEMBER,
        "description": "PTU reservation",
        **overrides,
    }
    return make_line(dollars, **facts)


def compared(*lines: BilledCost, metered: tuple[MeteredCost, ...] = SHARES) -> Reconciliation:
    """Give September compared, lines that are called PTU paying the commitment."""
    comparison = Comparison(SEPTEMBER, "USD", commitment_of=commitment_finder(PAYING, MONTH))
    return compare(metered, lines, comparison)


def judged(result: Reconciliation) -> list[tuple[str | None, str, str, str]]:
    """Give (what, metered, invoiced, verdict) of every row."""
    return [
        (
            row.description or row.model,
            "None" if row.metered is None else f"{row.metered.normalize():f}",
            str(row.invoiced),
            row.verdict.value,
        )
        for row in result.rows
    ]


def borne(*lines: BilledCost, **rules: Any) -> list[tuple[str, str, str, str]]:
    """Give (team, origin, method, dollars) of what is borne in order, without what is zero."""
    return sorted(each for each in told(divide(SHARES, lines, **rules)) if each[3] != "0.00")


def refused(divided: MonthAllocation) -> list[tuple[str, str]]:
    """Give code and detail of every refusal."""
    return [(each.code, each.detail) for each in divided.refusals]


# Comparing.


def test_a_purchase_and_what_was_shared_of_it_are_one_row_of_the_month() -> None:
    result = compared(paying("100"))

    assert result.rows == (
        ReconciliationRow(
            provider="openai",
            period=SEPTEMBER,
            model=None,
            description="commitment ptu",
            account=None,
            level=MatchLevel.PROVIDER_MONTH,
            metered=Decimal(100),
            invoiced=Decimal(100),
            variance=Decimal(0),
            verdict=Verdict.MATCHED,
            unpriced_requests=0,
            commitment="ptu",
        ),
    )
    assert (result.metered_rows, result.line_rows) == ([0, 0, 0], [0])


@pytest.mark.parametrize(
    ("amounts", "verdict"),
    [
        (["101"], "matched"),
        (["120"], "untracked"),
        (["70"], "over_counted"),
        (["-10"], "over_counted"),
        (["110", "-10"], "matched"),
    ],
)
def test_what_is_invoiced_for_a_commitment_is_judged_as_any_row(
    amounts: list[str], verdict: str
) -> None:
    [row] = compared(*map(paying, amounts)).rows

    assert (row.verdict.value, row.category) == (verdict, ChargeCategory.USAGE)


def test_a_commitment_that_no_line_pays_misses_its_bill_and_meets_no_other_line() -> None:
    # The line names no model and is for the whole month: usage of the provider would meet it.
    result = compared(make_line("100", model=None, period=SEPTEMBER, description="Hours"))

    assert judged(result) == [
        ("Hours", "None", "100", "untracked"),
        ("commitment ptu", "100", "None", "missing_bill"),
    ]


def test_what_errs_to_the_other_side_does_not_make_good_for_a_commitment() -> None:
    # Of m1, 20 more were metered than invoiced; of the commitment 20 more were invoiced.
    result = compared(paying("120"), make_line("20"), metered=(*SHARES, *TWO_TEAMS))

    assert judged(result) == [
        ("m1", "40", "20", "over_counted"),
        ("commitment ptu", "100", "120", "untracked"),
    ]


def test_two_commitments_of_one_provider_are_two_rows() -> None:
    rules = (*PAYING, CommitmentRule("gpu", "gpu", equal(category="adjustment")))
    gpu = make_metered("7", "b", commitment="gpu")
    lines = [paying("100"), make_line("8", category=ChargeCategory.ADJUSTMENT)]

    result = compare(
        [*SHARES, gpu],
        lines,
        Comparison(SEPTEMBER, "USD", commitment_of=commitment_finder(rules, MONTH)),
    )

    assert judged(result) == [
        ("commitment gpu", "7", "8", "untracked"),
        ("commitment ptu", "100", "100", "matched"),
    ]


def test_a_line_that_happens_to_be_called_like_a_commitment_is_another_row() -> None:
    line = make_line("5", model=None, period=SEPTEMBER, description="commitment ptu")

    result = compared(line)

    assert [(row.commitment, row.verdict.value) for row in result.rows] == [
        (None, "untracked"),
        ("ptu", "missing_bill"),
    ]


def test_a_commitment_goes_by_the_first_provider_of_its_usage() -> None:
    other = make_metered("1", "c", commitment="ptu", provider="azure")
    lines = (paying("101", provider="microsoft"),)

    rows = [compared(*lines, metered=each).rows for each in ((*SHARES, other), (other, *SHARES))]

    assert rows[0] == rows[1]
    assert [(row.provider, row.metered) for row in rows[0]] == [("azure", Decimal(101))]


def test_what_pays_a_commitment_of_which_nothing_was_shared_is_untracked() -> None:
    assert judged(compared(paying("100"), metered=())) == [
        ("commitment ptu", "None", "100", "untracked")
    ]


def test_a_commitment_is_not_judged_before_its_month_is_over() -> None:
    comparison = Comparison(SEPTEMBER, "USD", as_of=SEPTEMBER.end - timedelta(days=1))

    [row] = compare(SHARES, [], comparison).rows

    assert row.verdict is Verdict.OPEN


def test_what_stands_for_no_usage_and_commitments_meet_nothing_else() -> None:
    usage = Subject("openai", day(), MatchLevel.MODEL_DAY, "m1")

    assert [
        replace(usage, **changes).meets_others
        for changes in ({}, {"commitment": "ptu"}, {"category": ChargeCategory.TAX})
    ] == [True, False, False]


# Which lines pay.


@pytest.mark.parametrize(
    ("rule", "line", "commitment"),
    [
        ({"match": equal(category="purchase")}, {}, "ptu"),
        ({"match": equal(category="usage")}, {}, None),
        ({"match": equal(description="ptu reservation")}, {}, "ptu"),
        ({"match": equal(description="ptu reservation")}, {"description": None}, None),
        ({"match": equal(account="org", provider="openai")}, {}, "ptu"),
        ({"match": equal(account="org", provider="azure")}, {}, None),
        ({"valid_from": 202609, "valid_to": 202610}, {}, "ptu"),
        ({"valid_from": 202610}, {}, None),
        ({"valid_to": 202609}, {}, None),
    ],
)
def test_a_rule_tells_the_lines_that_pay(
    rule: dict[str, Any], line: dict[str, Any], commitment: str | None
) -> None:
    rules = [CommitmentRule(**{"name": "r", "commitment": "ptu", "match": (), **rule})]

    find = commitment_finder(rules, MONTH)

    assert [find(paying("1", **line)) for _ in range(2)] == [commitment] * 2


def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        CommitmentRule("first", "ptu", equal(category="purchase")),
        CommitmentRule("second", "gpu", equal(provider="openai")),
    ]

    find = commitment_finder(rules, MONTH)

    assert [find(paying("1")), find(make_line("1"))] == ["ptu", "gpu"]


# Dividing.


def test_a_commitment_that_is_paid_is_borne_as_it_was_used() -> None:
    # What nobody used is shared by what was used, 60 : 30.
    assert borne(paying("100")) == [
        ("a", "unused", "by_direct_cost", "6.67"),
        ("a", "usage", "direct", "60.00"),
        ("b", "unused", "by_direct_cost", "3.33"),
        ("b", "usage", "direct", "30.00"),
    ]


def test_a_little_more_is_spread_over_what_was_used_and_what_was_not() -> None:
    # 60.60, 30.30 and 10.10; of the last 6.7333 and 3.3667.
    assert borne(paying("101")) == [
        ("a", "unused", "by_direct_cost", "6.73"),
        ("a", "usage", "spread", "60.60"),
        ("b", "unused", "by_direct_cost", "3.37"),
        ("b", "usage", "spread", "30.30"),
    ]


def test_a_refund_lowers_what_is_paid() -> None:
    assert borne(paying("110"), paying("-10")) == borne(paying("100"))


def test_what_is_invoiced_beyond_tolerance_is_untracked() -> None:
    divided = divide(SHARES, [paying("120")])

    assert ("Untracked", "untracked", "residual", "20.00") in told(divided)
    assert ("a", "usage", "direct", "60.00") in told(divided)
    assert divided.refusals == ()


def test_the_unused_part_goes_to_the_pool_that_asks_for_it() -> None:
    idle = PoolRule("idle", match=equal(category="unused"), driver=Driver.EVEN)
    whole = PoolRule("all", match=equal(provider="openai"), driver=Driver.EVEN)

    divided = divide(SHARES, [paying("100")], idle, whole)

    assert [
        (cost.bearer.team, cost.rule, dollars_of(cost.amount_nanos))
        for cost in divided.costs
        if cost.origin.value == "unused" and cost.amount_nanos
    ] == [("a", "idle", "5.00"), ("b", "idle", "5.00")]


def test_usage_that_a_commitment_covers_keeps_its_requests_and_tokens() -> None:
    divided = divide(SHARES, [paying("100")])

    assert {
        (cost.bearer.team, cost.requests, cost.tokens, cost.metered_nanos)
        for cost in divided.costs
        if cost.origin.value == "usage"
    } == {("a", 6, 600, 60 * DOLLAR), ("b", 3, 300, 30 * DOLLAR)}


def test_a_commitment_stands_on_the_invoice_of_whoever_sells_it() -> None:
    # Half is invoiced by the cloud, half by its service.
    lines = [paying("50", provider="microsoft", account="sub"), paying("50")]

    divided = divide(SHARES, lines)

    assert [
        (cost.provider, cost.account, cost.bearer.team, dollars_of(cost.amount_nanos))
        for cost in divided.costs
        if cost.origin.value == "usage"
    ] == [
        ("microsoft", "sub", "a", "30.00"),
        ("microsoft", "sub", "b", "15.00"),
        ("openai", "org", "a", "30.00"),
        ("openai", "org", "b", "15.00"),
    ]
    assert [(each.provider, each.amount_nanos) for each in divided.invoices] == [
        ("microsoft", 50 * DOLLAR),
        ("openai", 50 * DOLLAR),
    ]


def test_what_is_paid_and_never_shared_goes_to_who_uses_its_project() -> None:
    divided = divide([], [paying("100", project="p2")])

    assert told(divided) == [("b", "untracked", "mapped", "100.00")]


def test_money_back_without_a_commitment_is_a_credit_of_its_category() -> None:
    divided = divide([make_metered("5")], [make_line("5"), paying("-2")])

    assert told(divided) == [
        ("a", "purchase", "by_direct_cost", "-2.00"),
        ("a", "usage", "direct", "5.00"),
    ]


# What is refused.


def test_a_commitment_without_a_rule_is_refused_and_says_which_rule_is_missing() -> None:
    gpu = make_metered("7", "b", commitment="gpu")

    divided = divide([gpu], [])

    assert refused(divided) == [
        (
            "missing_bill",
            "openai commitment gpu: 7.000000000 USD metered and not invoiced in 2026-09 (1 row); "
            "no [[commitment]] rule names the lines that pay it",
        )
    ]


def test_a_rule_that_matches_no_line_is_named() -> None:
    other = CommitmentRule("fees", "ptu", equal(category="adjustment"))

    divided = divide(SHARES, [], commitments=(*PAYING, other))

    assert refused(divided) == [
        (
            "missing_bill",
            "openai commitment ptu: 100.000000000 USD metered and not invoiced in 2026-09 "
            "(1 row); no line matches the [[commitment]] rules hours, fees",
        )
    ]


def test_a_commitment_that_costs_more_than_is_paid_is_refused_with_its_rule() -> None:
    divided = divide(SHARES, [paying("70")])

    assert refused(divided) == [
        (
            "over_counted",
            "openai commitment ptu: 30.000000000 USD more metered than invoiced in 2026-09 "
            "(1 row); the lines that pay it are those that match the [[commitment]] rule hours",
        )
    ]


def test_an_acceptance_of_its_provider_accepts_a_commitment() -> None:
    divided = divide(SHARES, [paying("90")], acceptances=(ACCEPTED,))

    assert divided.refusals == ()
    # Nine tenths of 60, 30 and 10; of 9 two thirds and one.
    assert borne(paying("90"), acceptances=(ACCEPTED,)) == [
        ("a", "unused", "by_direct_cost", "6.00"),
        ("a", "usage", "accepted", "54.00"),
        ("b", "unused", "by_direct_cost", "3.00"),
        ("b", "usage", "accepted", "27.00"),
    ]


def test_a_host_of_ones_own_is_borne_without_a_bill() -> None:
    shares = [replace(each, provider="vllm") for each in SHARES]

    divided = divide(shares, [], unbilled=equal(provider="vllm"))

    assert divided.refusals == ()
    assert [each for each in told(divided) if each[3] != "0.00"] == [
        ("a", "unbilled", "direct", "60.00"),
        ("a", "unused", "by_direct_cost", "6.67"),
        ("b", "unbilled", "direct", "30.00"),
        ("b", "unused", "by_direct_cost", "3.33"),
    ]


# The waterfall.


def test_the_waterfall_leads_over_the_commitments_step_to_the_purchase() -> None:
    # At list price the covered usage was 150, by contract 140; the commitment cost 100.
    covered = replace(SHARES[0], list_nanos=150 * DOLLAR, contracted_nanos=140 * DOLLAR)
    metered = (covered, *SHARES[1:])

    whole, _ = waterfalls(metered, compared(paying("101"), metered=metered))

    assert {step: amount for step, amount in whole.amounts.items() if amount} == {
        Step.METERED_LIST: Decimal(150),
        Step.CONTRACT_DISCOUNT: Decimal(-10),
        Step.COMMITMENTS: Decimal(-40),
        Step.METERED_EFFECTIVE: Decimal(100),
        Step.WITHIN_TOLERANCE: Decimal(1),
        Step.INVOICED: Decimal(101),
    }


@given(MONTHS)
def test_the_steps_lead_to_the_invoice_with_commitments_among_them(
    both: tuple[list[MeteredCost], list[BilledCost]],
) -> None:
    metered, lines = both

    whole, *_ = waterfalls(metered, compared(*lines, metered=tuple(metered)))

    steps = (amount for step, amount in whole.amounts.items() if step not in LEVELS)
    assert whole.amounts[Step.METERED_LIST] + sum(steps) == whole.amounts[Step.INVOICED]
    assert whole.amounts[Step.INVOICED] == sum((line.amount for line in lines), Decimal(0))


@given(MONTHS)
def test_a_commitment_is_never_on_a_row_with_anything_else(
    both: tuple[list[MeteredCost], list[BilledCost]],
) -> None:
    month = make_month(*both)

    for cost, place in zip(month.metered, month.metered_rows, strict=True):
        assert month.rows[place].commitment == cost.commitment
    for line, index in zip(month.lines, month.line_rows, strict=True):
        pays = line.description == "PTU hours"
        if pays or index is not None:
            assert index is not None
            assert (month.rows[index].commitment == "ptu") == pays


def test_a_row_of_usage_pays_no_commitment() -> None:
    assert row_of("1", "1", Verdict.MATCHED).commitment is None

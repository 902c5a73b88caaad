"""From list price to invoice, step by step."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given

from tests.domain.reconciliation_cases import SEPTEMBER, UNIT, billed, day, metered, month_of
from tests.domain.test_matching import COSTS, LINES
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.reconciliation import Comparison, MeteredCost, compare
from tokenbudget.domain.waterfall import LEVELS, Step, waterfalls


def test_every_step_from_list_price_to_invoice_by_provider() -> None:
    costs = [
        # 100 at list, 90 by contract, 80 after commitments.
        metered("80", list_nanos=100 * UNIT, contracted_nanos=90 * UNIT),
        metered("5", model="o3", list_nanos=5 * UNIT, contracted_nanos=5 * UNIT),
        metered("3", model="o4", list_nanos=3 * UNIT, contracted_nanos=3 * UNIT, period=day(2)),
        metered("0", model="new", unpriced_requests=1),
        metered("1", provider="anthropic", model="claude", contracted_nanos=UNIT, list_nanos=UNIT),
    ]
    lines = [
        billed("81"),
        billed("4", model="o3"),
        billed("2.5", model="new"),
        billed("7", model="rogue", period=day(3)),
        billed("-0.5", model="refunded"),
        billed("-2", category=ChargeCategory.CREDIT),
        billed("10", category=ChargeCategory.PURCHASE),
        billed("9.25", category=ChargeCategory.TAX),
        billed("0.75", category=ChargeCategory.ADJUSTMENT),
    ]

    whole, anthropic, openai = waterfalls(costs, month_of(costs, lines))

    assert [each.provider for each in (whole, anthropic, openai)] == [None, "anthropic", "openai"]
    assert openai.amounts == {
        Step.METERED_LIST: Decimal(108),
        Step.CONTRACT_DISCOUNT: Decimal(-10),
        Step.COMMITMENTS: Decimal(-10),
        Step.METERED_EFFECTIVE: Decimal(88),
        Step.WITHIN_TOLERANCE: Decimal(1),
        Step.UNTRACKED: Decimal(7),
        Step.OVER_COUNTED: Decimal(-1),
        Step.MISSING_BILL: Decimal(-3),
        Step.UNPRICED: Decimal("2.5"),
        Step.NOT_JUDGED: Decimal(0),
        Step.CREDITS: Decimal("-2.5"),
        Step.PURCHASES: Decimal(10),
        Step.TAX: Decimal("9.25"),
        Step.ADJUSTMENTS: Decimal("0.75"),
        Step.INVOICED: Decimal(112),
    }
    assert anthropic.amounts[Step.MISSING_BILL] == Decimal(-1)
    assert whole.amounts[Step.METERED_LIST] == Decimal(109)
    assert whole.amounts[Step.MISSING_BILL] == Decimal(-4)
    assert whole.amounts[Step.INVOICED] == Decimal(112)


def test_days_that_are_not_over_have_a_step_of_their_own() -> None:
    costs, lines = [metered("5", "org")], [billed("2")]
    noon = day(1).start + timedelta(hours=12)

    whole, _ = waterfalls(costs, compare(costs, lines, Comparison(SEPTEMBER, "USD", as_of=noon)))

    assert whole.amounts[Step.NOT_JUDGED] == Decimal(-3)


def test_an_empty_month_is_a_waterfall_of_nothing() -> None:
    [whole] = waterfalls([], month_of([], []))

    assert set(whole.amounts.values()) == {Decimal(0)}
    assert list(whole.amounts) == list(Step)


@given(COSTS, LINES)
def test_the_steps_lead_to_the_invoice_to_the_last_digit(
    costs: list[MeteredCost], lines: list[BilledCost]
) -> None:
    for each in waterfalls(costs, month_of(costs, lines)):
        steps = [amount for step, amount in each.amounts.items() if step not in LEVELS]

        invoiced = each.amounts[Step.METERED_LIST] + sum(steps)

        assert invoiced == each.amounts[Step.INVOICED]
        assert (
            each.amounts[Step.METERED_LIST] + sum(steps[:2])
            == (each.amounts[Step.METERED_EFFECTIVE])
        )

"""From what was metered at list price to what was invoiced, step by step: it owns the steps.

It refuses to judge (``reconciliation.py``). The steps between two levels add up to their difference
to the last digit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.reconciliation import MeteredCost, Reconciliation, ReconciliationRow
from tokenbudget.domain.variances import ZERO, Verdict, add_exactly, exact_amount


class Step(StrEnum):
    """What lies between list price and invoice, in order.

    The three METERED_ steps and INVOICED are levels; the others are what leads from one to the
    next. UNPRICED is invoiced for usage that has no price; MISSING_BILL takes off what was metered
    and is not on any invoice; NOT_JUDGED belongs to days that are not over.
    """

    METERED_LIST = "metered_list"
    CONTRACT_DISCOUNT = "contract_discount"
    COMMITMENTS = "commitments"
    METERED_EFFECTIVE = "metered_effective"
    WITHIN_TOLERANCE = "within_tolerance"
    UNTRACKED = "untracked"
    OVER_COUNTED = "over_counted"
    MISSING_BILL = "missing_bill"
    UNPRICED = "unpriced"
    NOT_JUDGED = "not_judged"
    CREDITS = "credits"
    PURCHASES = "purchases"
    TAX = "tax"
    ADJUSTMENTS = "adjustments"
    INVOICED = "invoiced"


LEVELS: Final = frozenset({Step.METERED_LIST, Step.METERED_EFFECTIVE, Step.INVOICED})

STEP_OF_CATEGORY: Final = {
    ChargeCategory.CREDIT: Step.CREDITS,
    ChargeCategory.PURCHASE: Step.PURCHASES,
    ChargeCategory.TAX: Step.TAX,
    ChargeCategory.ADJUSTMENT: Step.ADJUSTMENTS,
}
STEP_OF_VERDICT: Final = {
    Verdict.MATCHED: Step.WITHIN_TOLERANCE,
    Verdict.DISCOUNT: Step.CREDITS,
    Verdict.UNTRACKED: Step.UNTRACKED,
    Verdict.OVER_COUNTED: Step.OVER_COUNTED,
    Verdict.MISSING_BILL: Step.MISSING_BILL,
    Verdict.OPEN: Step.NOT_JUDGED,
}


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Every step of one provider, or of all where ``provider`` is None, in order."""

    provider: str | None
    amounts: Mapping[Step, Decimal]


def waterfalls(metered: Iterable[MeteredCost], result: Reconciliation) -> list[Waterfall]:
    """Give the waterfall of the whole, then of each provider by name.

    ``metered`` are the costs that the reconciliation is of.
    """
    nanos: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for cost in metered:
        sums = nanos[cost.provider]
        sums[0] += cost.list_nanos
        sums[1] += cost.contracted_nanos
        sums[2] += cost.effective_nanos
    rows: dict[str, list[ReconciliationRow]] = defaultdict(list)
    for row in result.rows:
        rows[row.provider].append(row)
    every = [sum(sums) for sums in zip(*nanos.values(), strict=True)] or [0, 0, 0]
    providers = sorted(nanos.keys() | rows.keys())
    return [
        _waterfall(None, every, result.rows),
        *(_waterfall(name, nanos[name], rows[name]) for name in providers),
    ]


def _waterfall(
    provider: str | None, nanos: Iterable[int], rows: Iterable[ReconciliationRow]
) -> Waterfall:
    listed, contracted, effective = nanos
    amounts = dict.fromkeys(Step, ZERO)
    amounts[Step.METERED_LIST] = exact_amount(listed)
    amounts[Step.CONTRACT_DISCOUNT] = exact_amount(contracted - listed)
    amounts[Step.COMMITMENTS] = exact_amount(effective - contracted)
    amounts[Step.METERED_EFFECTIVE] = exact_amount(effective)
    for row in rows:
        step = _step_of(row)
        amounts[step] = add_exactly(amounts[step], row.variance)
        amounts[Step.INVOICED] = add_exactly(amounts[Step.INVOICED], row.invoiced or ZERO)
    return Waterfall(provider, amounts)


def _step_of(row: ReconciliationRow) -> Step:
    if row.category is not ChargeCategory.USAGE:
        return STEP_OF_CATEGORY[row.category]
    if row.verdict is Verdict.UNTRACKED and not row.is_untracked:
        return Step.UNPRICED
    return STEP_OF_VERDICT[row.verdict]

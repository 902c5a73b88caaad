"""Reconciliations as the wire and the command line spell them; it owns names and shapes.

It refuses to compare. Amounts are decimal strings with every digit; None is what there is nothing
of.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.coverage import Coverage, Untracked
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.invoice_months import convert_amount
from tokenbudget.domain.likely_owners import LikelyOwner
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.reconciliation import MeteredCost, Reconciliation, ReconciliationRow
from tokenbudget.domain.variances import ZERO, format_amount
from tokenbudget.domain.waterfall import LEVELS, Step, Waterfall, waterfalls

BASIS_POINT_DIGITS: Final = 4
COVERAGE_WINDOWS: Final = (Window.MONTH, Window.WEEK)


def describe_month(
    metered: Iterable[MeteredCost], result: Reconciliation, conversions: Iterable[Conversion]
) -> dict[str, Any]:
    """Give a month: rows, totals, the waterfall of all and of each provider, conversions."""
    return {
        "currency": result.currency,
        "rows": [describe_row(row) for row in result.rows],
        "totals": describe_totals(result),
        "waterfall": [
            step for each in waterfalls(metered, result) for step in describe_waterfall(each)
        ],
        "conversions": [describe_conversion(each) for each in conversions],
    }


def describe_row(row: ReconciliationRow) -> dict[str, Any]:
    """Give one row of the comparison."""
    return {
        "day": describe_period(row.period),
        "provider": row.provider,
        "model": row.model,
        "description": row.description,
        "account": row.account,
        "category": row.category.value,
        "level": row.level.value if row.category is ChargeCategory.USAGE else None,
        "metered_amount": _amount(row.metered),
        "invoiced_amount": _amount(row.invoiced),
        "variance_amount": format_amount(row.variance),
        "verdict": row.verdict.value,
        "unpriced_requests": row.unpriced_requests,
    }


def describe_totals(result: Reconciliation) -> dict[str, Any]:
    """Give the sums of all rows, and what was invoiced in other currencies and not compared."""
    return {
        "metered_amount": format_amount(result.metered),
        "invoiced_amount": format_amount(result.invoiced),
        "variance_amount": format_amount(result.variance),
        "is_over_counted": result.is_over_counted,
        "not_compared": {
            currency: format_amount(amount) for currency, amount in result.other_currencies.items()
        },
    }


def describe_conversion(conversion: Conversion) -> dict[str, Any]:
    """Give the quote by which lines were converted, its rate to 18 decimals."""
    return {
        "currency": conversion.currency,
        "into": conversion.into,
        "rate": format_amount(convert_amount(Decimal(1), conversion.ratio)),
        "day": conversion.day.isoformat(),
        "source": conversion.source,
    }


def describe_waterfall(waterfall: Waterfall) -> list[dict[str, Any]]:
    """Give the steps that matter in order; levels always, others where they are not zero."""
    return [
        {
            "provider": waterfall.provider,
            "step": step.value,
            "is_level": step in LEVELS,
            "amount": format_amount(waterfall.amounts[step]),
        }
        for step in Step
        if step in LEVELS or waterfall.amounts[step] != ZERO
    ]


def describe_untracked(
    untracked: Untracked, owner: LikelyOwner | None, share_basis_points: int | None
) -> dict[str, Any]:
    """Give what one name has that nobody reported; the share is of its provider's invoice."""
    ref = untracked.ref
    return {
        "provider": ref.provider,
        "account": ref.account or None,
        "project": ref.project,
        "api_key": ref.api_key,
        "models": sorted(untracked.models),
        "untracked_amount": format_nanos(untracked.amount_nanos),
        "untracked_tokens": untracked.tokens,
        "first_day": untracked.first.isoformat(),
        "last_day": untracked.last.isoformat(),
        "likely_owner": None if owner is None else owner.team,
        "reason": None if owner is None else owner.reason.value,
        "invoice_share": describe_share(share_basis_points),
    }


def describe_coverage(period: Period, team: str, coverage: Coverage) -> dict[str, Any]:
    """Give how much of what was invoiced for a team in a time is tracked."""
    return {
        "start": period.start.date().isoformat(),
        "end": period.end.date().isoformat(),
        "team": team,
        "tracked_amount": format_nanos(coverage.tracked_nanos),
        "untracked_amount": format_nanos(coverage.untracked_nanos),
        "coverage": describe_share(coverage.basis_points),
    }


def describe_share(basis_points: int | None) -> str | None:
    """Give a share as a decimal of four digits, ``0.9630``; None where there is none."""
    if basis_points is None:
        return None
    return format(Decimal(basis_points).scaleb(-BASIS_POINT_DIGITS), f".{BASIS_POINT_DIGITS}f")


def describe_period(period: Period) -> str:
    """Give ``2026-09-01`` for a UTC day and ``2026-09-01/2026-10-01`` for a longer time."""
    start = period.start.date().isoformat()
    is_day = period == window_at(Window.DAY, period.start, "UTC")
    return start if is_day else f"{start}/{period.end.date().isoformat()}"


def parse_coverage_window(text: str) -> Window:
    """Give the window of coverage, month or week; raises InvalidInput for any other."""
    if text not in COVERAGE_WINDOWS:
        known = " or ".join(COVERAGE_WINDOWS)
        raise InvalidInput(f"by {text!r} is not {known}", field="by")
    return Window(text)


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else format_amount(amount)

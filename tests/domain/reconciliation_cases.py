"""What tests of matching, waterfalls and coverage share: metered and billed costs of September."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import MeteredCost, Reconciliation, reconcile
from tokenbudget.domain.statements import Bearer

UNIT = 1_000_000_000
FIRST = datetime(2026, 9, 1, tzinfo=UTC)
SEPTEMBER = Period(FIRST, datetime(2026, 10, 1, tzinfo=UTC))


def day(number: int) -> Period:
    """Give a UTC day of September."""
    start = FIRST + timedelta(days=number - 1)
    return Period(start, start + timedelta(days=1))


def metered(amount: str, account: str | None = None, **overrides: Any) -> MeteredCost:
    """Give what was metered of gpt-4.1 on the first, under an account."""
    facts: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4.1",
        "period": day(1),
        "effective_nanos": int(Decimal(amount) * UNIT),
        "account": account,
        "bearer": Bearer("growth"),
    }
    return MeteredCost(**{**facts, **overrides})


def billed(amount: str, api_key: str | None = None, **overrides: Any) -> BilledCost:
    """Give a line of gpt-4.1 on the first, of a key of the account org."""
    facts: dict[str, Any] = {
        "provider": "openai",
        "period": day(1),
        "category": ChargeCategory.USAGE,
        "amount": Decimal(amount),
        "currency": "USD",
        "billing_month": 202609,
        "account": "org",
        "api_key": api_key,
        "model": "gpt-4.1",
    }
    return BilledCost(**{**facts, **overrides})


def month_of(costs: list[MeteredCost], lines: list[BilledCost]) -> Reconciliation:
    """Give September, compared in dollars."""
    return reconcile(costs, lines, period=SEPTEMBER, currency="USD")

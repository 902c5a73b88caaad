"""Budgets and counters as the domain sees them, with boring defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tokenbudget.domain.budgets import Budget, BudgetWindow, Counter, Mode, ThresholdOn, Unit
from tokenbudget.domain.periods import Period, Window

NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def make_live_budget(**overrides: Any) -> Budget:
    """Give a hard budget of one hundred nanos a month, in force since the year began."""
    facts: dict[str, Any] = {
        "id": "b",
        "version": 1,
        "counting_version": 1,
        "selector": {},
        "split_by": (),
        "unit": Unit.MONEY,
        "limit": 100,
        "window": BudgetWindow(Window.MONTH, None),
        "window_text": "month",
        "mode": Mode.HARD,
        "thresholds": (5_000, 8_000, 10_000),
        "threshold_on": ThresholdOn.COMMITTED,
        "overdraft": 0,
        "counts_from_window": True,
        "fails_open": False,
        "owner": None,
        "channels": (),
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        **overrides,
    }
    return Budget(**facts)


def make_counter(**overrides: Any) -> Counter:
    """Give the counter of November with nothing in it."""
    facts: dict[str, Any] = {
        "id": 1,
        "budget_id": "b",
        "counting_version": 1,
        "split_key": "[]",
        "period": NOVEMBER,
        "settled": 0,
        "held": 0,
        **overrides,
    }
    return Counter(**facts)

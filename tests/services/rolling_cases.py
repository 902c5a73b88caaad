"""Budgets of windows that roll, and what the tests of them share."""

from __future__ import annotations

from typing import Any

from tests.builders import CENT, ask, cents, make_budget, make_event, record, rows_of
from tokenbudget.domain.money import parse_nanos
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow


def rolling(days: int = 3, **overrides: Any) -> BudgetDraft:
    """Give a hard budget of one dollar over so many days."""
    return make_budget(window=f"rolling:{days}d", **overrides)


def spend(ledger: Ledger, amount: int, at: str, **overrides: Any) -> None:
    """Record usage of so many cents at that time, under an id of its own."""
    event_id = f"{at}/{amount}/{overrides}"
    record(ledger, make_event(event_id=event_id, usage=cents(amount), occurred_at=at, **overrides))


def binding_of(ledger: Ledger) -> tuple[int, int, int]:
    """Give (settled, held, headroom) that a check of nothing is decided on, in cents."""
    binding = ask(ledger, estimate="0", dry_run=True)["binding"]
    settled, held, headroom = (
        parse_nanos(binding[name]) // CENT for name in ("settled", "held", "headroom")
    )
    return settled, held, headroom


def raised(database: Database) -> list[str]:
    """Give the thresholds raised, lowest first."""
    return sorted(row["threshold"] for row in rows_of(database, AlertRow))

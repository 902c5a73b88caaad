"""Raises of budgets in SQL. It refuses to change or remove one: ending a raise is a further row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from tokenbudget.store.db import insert_new_rows
from tokenbudget.store.raise_tables import BudgetRaiseEndRow, BudgetRaiseRow


def add_raise(session: Session, row: Mapping[str, Any]) -> bool:
    """Add a raise and tell whether its id was new."""
    return insert_new_rows(session, BudgetRaiseRow, [row]) == 1


def add_raise_end(session: Session, row: Mapping[str, Any]) -> bool:
    """Add the end of a raise and tell whether it had not been ended before."""
    return insert_new_rows(session, BudgetRaiseEndRow, [row]) == 1


def list_raises(
    session: Session, budget_id: str | None = None
) -> list[tuple[BudgetRaiseRow, BudgetRaiseEndRow | None]]:
    """Give the raises of a budget, or of all, with how each was ended, in order of their begin."""
    statement = (
        select(BudgetRaiseRow, BudgetRaiseEndRow)
        .join(
            BudgetRaiseEndRow,
            col(BudgetRaiseEndRow.raise_id) == col(BudgetRaiseRow.id),
            isouter=True,
        )
        .order_by(
            col(BudgetRaiseRow.budget_id), col(BudgetRaiseRow.valid_from), col(BudgetRaiseRow.id)
        )
    )
    if budget_id is not None:
        statement = statement.where(BudgetRaiseRow.budget_id == budget_id)
    return [(row, end) for row, end in session.exec(statement)]


def find_raise(
    session: Session, raise_id: str
) -> tuple[BudgetRaiseRow, BudgetRaiseEndRow | None] | None:
    """Give a raise with how it was ended, None when there is none of the id."""
    row = session.get(BudgetRaiseRow, raise_id)
    return None if row is None else (row, session.get(BudgetRaiseEndRow, raise_id))

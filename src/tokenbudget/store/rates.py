"""Counters of minutes gone by, in SQL: which may go, and letting go of them.

It refuses to know how long they are kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.periods import Window
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import AlertRow, BudgetRow, CounterRow


def forget_minutes(session: Session, *, before: datetime, limit: int) -> int:
    """Let go of counters of minutes that began before the instant, and give how many went.

    Those that hold anything stay, and so do those that an alert names. The counter with the highest
    id stays too: SQLite would give its id to another, which a worker may take for this one.
    """
    counters, budgets = table_of(CounterRow), table_of(BudgetRow)
    alerts = table_of(AlertRow)
    highest = sa.select(sa.func.max(counters.c.id)).scalar_subquery()
    statement = (
        sa.select(counters.c.id)
        .where(
            counters.c.budget_id.in_(
                sa.select(budgets.c.id).where(budgets.c.window == Window.MINUTE.value)
            ),
            counters.c.window_start < before,
            # An earlier version of the budget may have had another window.
            sa.type_coerce(counters.c.window_end, sa.BigInteger)
            - sa.type_coerce(counters.c.window_start, sa.BigInteger)
            == timedelta(minutes=1) // timedelta.resolution,
            counters.c.held == 0,
            counters.c.id < highest,
            ~sa.exists().where(alerts.c.counter_id == counters.c.id),
        )
        .order_by(counters.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=counters)
    )
    connection = session.connection()
    ids = list(connection.execute(statement).scalars())
    if ids:
        connection.execute(sa.delete(counters).where(counters.c.id.in_(ids)))
    return len(ids)

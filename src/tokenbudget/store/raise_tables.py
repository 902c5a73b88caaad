"""Tables of raises: more quota for a time, and the fact that one was ended before its time.

It owns the columns. It refuses to change a row: ending a raise is a row of its own.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class BudgetRaiseRow(SQLModel, table=True):
    """More quota for a budget from ``valid_from`` until ``valid_to``, in the budget's unit.

    ``key_id`` is the API key that asked for it, empty where none was used.
    """

    __tablename__ = "budget_raises"

    id: str = Field(primary_key=True)
    budget_id: str = Field(index=True)
    amount: int = Field(sa_type=sa.BigInteger)
    valid_from: datetime = Field(sa_type=UtcDateTime)
    valid_to: datetime = Field(sa_type=UtcDateTime)
    reason: str
    key_id: str = ""
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class BudgetRaiseEndRow(SQLModel, table=True):
    """The fact that a raise was ended before its time; it never counts from ``ended_at`` on."""

    __tablename__ = "budget_raise_ends"

    raise_id: str = Field(primary_key=True, foreign_key="budget_raises.id")
    ended_at: datetime = Field(sa_type=UtcDateTime)
    key_id: str = ""

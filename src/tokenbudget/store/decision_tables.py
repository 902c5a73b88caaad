"""Tables of what was decided: the decisions that are kept, and how many denials like them are not.

And of calls that were sent and of which nobody knows yet how they ended.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime


class DecisionRow(SQLModel, table=True):
    """An answer to a check as it was given: every denial within bounds, and a share of the others.

    ``budget_version`` is the version of the binding budget that decided. ``id`` is the hold's, if
    there is one.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        sa.Index("ix_decisions_outcome", "decision", "decided_at"),
        sa.Index("ix_decisions_budget_id", "budget_id", "decided_at"),
    )

    id: str = Field(primary_key=True)
    decided_at: datetime = Field(sa_type=UtcDateTime, index=True)
    key_id: str
    decision: str
    reasons: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    provider: str
    model: str
    requests: int
    estimate_nanos: int | None = Field(default=None, sa_type=Nanos)
    budget_id: str | None = None
    budget_version: int | None = None
    hold_id: str | None = None
    is_dry_run: bool = False


class OmittedDenialRow(SQLModel, table=True):
    """How many denials of a minute were not kept, since others of their kind were.

    Of one kind are those of a key by a budget (empty for none) for a reason.
    """

    __tablename__ = "omitted_denials"
    __table_args__ = {"sqlite_with_rowid": False}

    minute: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    key_id: str = Field(primary_key=True)
    budget_id: str = Field(primary_key=True)
    reason: str = Field(primary_key=True)
    denials: int = Field(sa_type=sa.BigInteger)


class UnsettledRow(SQLModel, table=True):
    """A call that was sent under a hold and of which nobody has told yet what it used.

    It goes when somebody does. ``provisional_nanos`` is what it is charged until then, NULL when
    nothing is known that could be charged.
    """

    __tablename__ = "unsettled"
    __table_args__ = (sa.Index("ix_unsettled_occurred_at", "occurred_at", "usage_id"),)

    usage_id: int = Field(sa_type=sa.BigInteger, primary_key=True)
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    hold_id: str
    dimension_set_id: int
    provisional_nanos: int | None = Field(default=None, sa_type=Nanos)

"""The tables of outcomes. It owns names and keys; it refuses queries.

Outcomes are append-only but for where they count; their rollups are derived from them.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime

IS_WAITING = "is_waiting"


class OutcomeRow(SQLModel, table=True):
    """Something the spending was for: so much of ``name``, in billionths.

    It counts under its dimension set. While ``is_waiting`` that set is a stand-in, since no usage
    of its operation has told of a team yet.
    """

    __tablename__ = "outcomes"
    __table_args__ = (
        sa.UniqueConstraint("source_id", "event_ref"),
        sa.Index(
            "ix_outcomes_operation_ref",
            "operation_ref",
            sqlite_where=sa.text("operation_ref IS NOT NULL"),
            postgresql_where=sa.text("operation_ref IS NOT NULL"),
        ),
        sa.Index(
            "ix_outcomes_waiting",
            "id",
            sqlite_where=sa.text(IS_WAITING),
            postgresql_where=sa.text(IS_WAITING),
        ),
    )

    id: int | None = Field(
        default=None,
        sa_type=sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
    )
    source_id: int = Field(foreign_key="sources.id")
    event_ref: str
    content_hash: int = Field(sa_type=sa.BigInteger)
    name: str
    value_nanos: int = Field(sa_type=sa.BigInteger)
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    dimension_set_id: int = Field(foreign_key="dimension_sets.id")
    operation_ref: str | None = None
    is_waiting: bool = False


class OutcomeRollupRow(SQLModel, table=True):
    """Outcomes of a name and dimension set in a bucket of 900 or 86400 seconds."""

    __tablename__ = "outcome_rollups"
    __table_args__ = {"sqlite_with_rowid": False}

    grain_seconds: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    starts_at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    dimension_set_id: int = Field(primary_key=True, foreign_key="dimension_sets.id")
    outcomes: int = Field(default=0, sa_type=sa.BigInteger)
    value_nanos: int = Field(default=0, sa_type=sa.BigInteger)

"""The tables of how much output calls have. It owns names and keys; it refuses queries.

All of it is derived from usage and may be lost: it is counted again from there.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class OutputCountRow(SQLModel, table=True):
    """How many calls of a UTC day had output of that bucket, which is named by its upper edge.

    ``model`` is the one that was asked for; ``feature`` is empty where a call has none.
    """

    __tablename__ = "output_counts"
    __table_args__ = {"sqlite_with_rowid": False}

    day: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    feature: str = Field(primary_key=True)
    up_to: int = Field(primary_key=True)
    calls: int = Field(default=0, sa_type=sa.BigInteger)


class OutputBoundRow(SQLModel, table=True):
    """What most calls of a provider, model and feature stay within, and how many calls say so."""

    __tablename__ = "output_bounds"
    __table_args__ = {"sqlite_with_rowid": False}

    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    feature: str = Field(primary_key=True)
    tokens: int
    calls: int = Field(sa_type=sa.BigInteger)


class OutputProgressRow(SQLModel, table=True):
    """How far usage is counted, and when bounds were last worked out; there is one row at most."""

    __tablename__ = "output_progress"

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    last_usage_id: int = Field(sa_type=sa.BigInteger)
    computed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

"""The table that finds usage by when it occurred. It owns names and keys; it refuses queries."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class UsageStretchRow(SQLModel, table=True):
    """The fact that a block of usage ids holds usage that occurred in this quarter-hour.

    A block is a run of ``IDS_PER_BLOCK`` ids. Usage is mostly recorded soon after it occurred, so
    that a few of these rows stand for thousands of usages, where an index would have one for each.
    """

    __tablename__ = "usage_stretches"
    __table_args__ = {"sqlite_with_rowid": False}

    starts_at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    block: int = Field(sa_type=sa.BigInteger, primary_key=True)

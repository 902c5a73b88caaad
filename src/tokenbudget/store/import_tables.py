"""The table of imports of event files. It owns names and keys; it refuses queries."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class EventImportRow(SQLModel, table=True):
    """How far a file of events has been imported, and what became of its rows so far.

    ``fingerprint`` is of the file's content and of all that decides what its rows mean. Rows up to
    ``last_row`` are done; it is written in the transaction that recorded them.
    """

    __tablename__ = "event_imports"

    fingerprint: str = Field(primary_key=True)
    file_name: str
    last_row: int = Field(default=0, sa_type=sa.BigInteger)
    accepted: int = Field(default=0, sa_type=sa.BigInteger)
    duplicates: int = Field(default=0, sa_type=sa.BigInteger)
    unpriced: int = Field(default=0, sa_type=sa.BigInteger)
    rejected: int = Field(default=0, sa_type=sa.BigInteger)
    started_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

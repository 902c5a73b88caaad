"""The table of records that could not become usage. It owns names and keys; it refuses queries."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class SetAsideRow(SQLModel, table=True):
    """A record of another program, cut down to what may be stored, and why it is no usage yet.

    ``kept`` is NULL for a record that could not be read; its size and digest are all there is of
    it. The same bytes are set aside once. ``recorded_at`` is when a retry made usage of it.
    """

    __tablename__ = "set_aside"
    __table_args__ = (sa.UniqueConstraint("entrance", "sha256"),)

    id: int | None = Field(default=None, primary_key=True)
    entrance: str
    sha256: str
    size_bytes: int
    kept: str | None = None
    event_ref: str | None = None
    reason: str
    detail: str
    api_key_id: str
    received_at: datetime = Field(sa_type=UtcDateTime)
    recorded_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

"""Tables of what telemetry tells besides usage: spans of traces that may still go on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime

# SQLite only lets a column of type INTEGER stand for the row id itself.
BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class TraceSpanRow(SQLModel, table=True):
    """A span seen lately; its id is its place in the order of arrival.

    It is forgotten when the window has passed in which the rest of its trace may come. ``call`` is
    what names its usage event and is compared with other spans; NULL for what is no model call.
    """

    __tablename__ = "trace_spans"
    __table_args__ = (sa.UniqueConstraint("trace_ref", "span_ref"),)

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    trace_ref: str
    span_ref: str
    parent_ref: str | None = None
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime = Field(sa_type=UtcDateTime)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    call: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    seen_at: datetime = Field(sa_type=UtcDateTime, index=True)

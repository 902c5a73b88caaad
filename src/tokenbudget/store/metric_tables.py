"""Table of totals that emitters' metrics tell: they check the ledger and are never added to it."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class MetricTotalRow(SQLModel, table=True):
    """A total of one series.

    Of a delta every window stands for itself. Of a cumulative series, whose totals contain the
    earlier ones since ``started_at``, the last of each quarter-hour is kept, whose start is then
    ``bucket``; ``ended_at`` is when it was told. ``amount`` is an exact decimal.
    """

    __tablename__ = "metric_totals"
    __table_args__ = {"sqlite_with_rowid": False}

    series_ref: str = Field(primary_key=True)
    started_at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    bucket: datetime = Field(sa_type=UtcDateTime, primary_key=True, index=True)
    ended_at: datetime = Field(sa_type=UtcDateTime)
    source: str
    metric: str
    provider: str
    model: str
    kind: str
    amount: str
    is_cumulative: bool

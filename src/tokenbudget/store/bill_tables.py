"""Tables of what providers billed: imports of their files and the lines in them.

It owns names, keys and constraints; it refuses queries.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import BigId, Nanos, UtcDateTime


class BillImportRow(SQLModel, table=True):
    """One import of a provider's file; the same bytes are imported once."""

    __tablename__ = "bill_imports"

    id: str = Field(primary_key=True)
    source: str
    file_name: str
    sha256: str = Field(unique=True)
    line_count: int
    imported_at: datetime = Field(sa_type=UtcDateTime)


class BillLineRow(SQLModel, table=True):
    """One line a provider billed.

    ``superseded_by`` names the later import that restated its account and day.
    """

    __tablename__ = "bill_lines"
    __table_args__ = (
        sa.Index("ix_bill_lines_bucket", "source", "account", "period_start"),
        sa.Index("ix_bill_lines_period_start", "period_start"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    import_id: str = Field(foreign_key="bill_imports.id")
    row_number: int
    source: str
    provider: str
    account: str = ""
    project: str | None = None
    model: str | None = None
    description: str | None = None
    category: str
    period_start: datetime = Field(sa_type=UtcDateTime)
    period_end: datetime = Field(sa_type=UtcDateTime)
    quantity: str | None = None
    unit: str | None = None
    billed_amount: str
    billed_nanos: int = Field(sa_type=Nanos)
    list_nanos: int | None = Field(default=None, sa_type=Nanos)
    currency: str
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    superseded_by: str | None = Field(default=None, foreign_key="bill_imports.id")

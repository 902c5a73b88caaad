"""Tables of statements: one header a version, and its frozen rows.

It owns names, keys and constraints; it refuses queries.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime


class StatementRow(SQLModel, table=True):
    """One version of a month's statement: a draft while grace lasts, then closed for good.

    ``month`` is year * 100 + month. ``state`` is draft, closed, proposed (a restatement that waits
    for approval), superseded or withdrawn. ``invoices`` has what was invoiced by service month,
    provider and account. ``digest`` is the SHA-256 of the rows, NULL while they may change. A draft
    is written anew with its rows; of all others only ``state`` and the facts of approval are ever
    written again, each once.
    """

    __tablename__ = "statements"
    __table_args__ = (sa.UniqueConstraint("month", "version"),)

    id: str = Field(primary_key=True)
    month: int
    version: int
    state: str
    currency: str
    known_at: datetime = Field(sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    recorded_by: str | None = None
    grace_ends_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    approved_by: str | None = None
    reason: str | None = None
    rules_version: int
    total_nanos: int = Field(sa_type=Nanos)
    invoices: list[dict[str, Any]] = Field(default_factory=list, sa_type=sa.JSON)
    notes: list[dict[str, Any]] = Field(default_factory=list, sa_type=sa.JSON)
    digest: str | None = None


class StatementLineRow(SQLModel, table=True):
    """What one bearer bears of one invoice for one reason; amounts are whole cents, in nanos.

    ``service_month`` is when it was used. ``corrects`` names the statement of that month when this
    one carries a correction of it. ``metered_nanos`` is what the ledger had rated, NULL where no
    usage stands behind it.
    """

    __tablename__ = "statement_lines"
    __table_args__ = (sa.Index("ix_statement_lines_service_month", "service_month"),)

    statement_id: str = Field(primary_key=True, foreign_key="statements.id")
    row_number: int = Field(primary_key=True)
    service_month: int
    corrects: str | None = Field(default=None, foreign_key="statements.id")
    team: str
    feature: str | None = None
    tenant: str | None = None
    cost_center: str | None = None
    provider: str
    account: str = ""
    model: str | None = None
    origin: str
    method: str
    rule: str | None = None
    requests: int = Field(default=0, sa_type=sa.BigInteger)
    tokens: int = Field(default=0, sa_type=sa.BigInteger)
    metered_nanos: int | None = Field(default=None, sa_type=Nanos)
    amount_nanos: int = Field(sa_type=Nanos)

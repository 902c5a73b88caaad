"""The tables of tag rules and of re-attribution. It owns names and keys; it refuses queries.

Versions of the rules are append-only; the state of a re-attribution follows what was applied of it.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime
from tokenbudget.store.document_tables import DocumentRow


class TagRulesRow(DocumentRow, table=True):
    """One version of the mappings and rules."""

    __tablename__ = "tag_rules"


class ReattributionRow(SQLModel, table=True):
    """Usage attributed again: what was proposed, and how far it has been applied.

    ``digest`` is of everything the dry run saw; the amounts are of what moves, wherever to.
    """

    __tablename__ = "reattributions"

    id: int | None = Field(default=None, primary_key=True)
    starts_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ends_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    state: str
    digest: str = Field(index=True)
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str | None = None
    approved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    approved_by: str | None = None
    applied_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ReattributionPartRow(SQLModel, table=True):
    """A bounded stretch of usage that a re-attribution applies in one transaction."""

    __tablename__ = "reattribution_parts"

    reattribution_id: int = Field(primary_key=True, foreign_key="reattributions.id")
    part: int = Field(primary_key=True)
    first_usage_id: int = Field(sa_type=sa.BigInteger)
    last_usage_id: int = Field(sa_type=sa.BigInteger)
    digest: str
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)
    state: str = "waiting"


class ReattributionDeltaRow(SQLModel, table=True):
    """What a re-attribution gives to one owner in an accounting period, negative if it takes."""

    __tablename__ = "reattribution_deltas"

    reattribution_id: int = Field(primary_key=True, foreign_key="reattributions.id")
    position: int = Field(primary_key=True)
    team: str
    feature: str | None = None
    tenant: str | None = None
    accounting_period: int
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)

"""The tables of the price book and of re-rating. It owns names and keys; it refuses queries.

Price rows and lists are append-only; the state of a re-rating follows what was applied of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime


class PriceListRow(SQLModel, table=True):
    """A version of the price book, known by the sha256 of its sources.

    Usage up to ``unpriced_checked_to`` that is still unpriced has no price in this version.
    """

    __tablename__ = "price_lists"

    id: int | None = Field(default=None, primary_key=True)
    sha256: str = Field(unique=True)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    unpriced_checked_to: int = Field(default=0, sa_type=sa.BigInteger)


class PriceRow(SQLModel, table=True):
    """A price as it was used or published.

    Its selector and its rates in picos, known by digest, never edited.
    """

    __tablename__ = "price_rows"

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True)
    provider: str
    model: str
    currency: str
    selector: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    rates: dict[str, int] = Field(default_factory=dict, sa_type=sa.JSON)
    agreed: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    commitment: str | None = Field(default=None, index=True)
    origin: str | None = None
    valid_from: datetime | None = Field(default=None, sa_type=UtcDateTime)
    valid_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class RerateRow(SQLModel, table=True):
    """Usage rated again under a price list: what was proposed, and how far it has been applied.

    ``digest`` is of everything the dry run saw; the amounts are the differences it showed.
    """

    __tablename__ = "rerates"

    id: int | None = Field(default=None, primary_key=True)
    price_list_id: int = Field(foreign_key="price_lists.id")
    scope: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    is_automatic: bool = False
    state: str
    digest: str = Field(index=True)
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)
    created_at: datetime = Field(sa_type=UtcDateTime)
    approved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    applied_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ReratePartRow(SQLModel, table=True):
    """A bounded stretch of usage that a re-rating applies in one transaction."""

    __tablename__ = "rerate_parts"

    rerate_id: int = Field(primary_key=True, foreign_key="rerates.id")
    part: int = Field(primary_key=True)
    first_usage_id: int = Field(sa_type=sa.BigInteger)
    last_usage_id: int = Field(sa_type=sa.BigInteger)
    digest: str
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)
    state: str = "waiting"


class RerateDeltaRow(SQLModel, table=True):
    """What a re-rating moves for one owner, accounting period and reason."""

    __tablename__ = "rerate_deltas"

    rerate_id: int = Field(primary_key=True, foreign_key="rerates.id")
    position: int = Field(primary_key=True)
    team: str
    feature: str | None = None
    tenant: str | None = None
    accounting_period: int
    reason: str
    usages: int = Field(sa_type=sa.BigInteger)
    list_nanos: int = Field(sa_type=Nanos)
    contracted_nanos: int = Field(sa_type=Nanos)
    effective_nanos: int = Field(sa_type=Nanos)

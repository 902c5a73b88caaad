"""Tables of holds: what was set aside, how it was taken and how it ended, and what was answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime


class HoldRow(SQLModel, table=True):
    """Quota set aside. ``grants`` lists [counter id, quantity, number of the unit].

    One for a single call leaves the ``remaining`` columns NULL. One that settles by pieces has in
    them what its pieces have left of it, which follows from them, as do ``pieces_settled`` and
    ``settled_nanos``; zero once it ended. ``state`` follows the resolution. ``counted_tokens`` is
    what ``counting_method`` counted in the call's text, unscaled; both are NULL when the caller
    told the tokens or the cost, and for several requests. ``input_tokens`` are those of one
    request, NULL when unsaid.
    """

    __tablename__ = "holds"
    __table_args__ = (
        sa.Index(
            "ix_holds_open_expires_at",
            "expires_at",
            sqlite_where=sa.text("state = 'held'"),
            postgresql_where=sa.text("state = 'held'"),
        ),
        sa.Index(
            "ix_holds_expired",
            "expires_at",
            "id",
            sqlite_where=sa.text("state = 'expired'"),
            postgresql_where=sa.text("state = 'expired'"),
        ),
    )

    id: str = Field(primary_key=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    state: str = "held"
    provider: str | None = None
    model: str | None = None
    team: str | None = None
    feature: str | None = None
    estimate_nanos: int | None = Field(default=None, sa_type=Nanos)
    input_tokens: int | None = None
    counted_tokens: int | None = None
    counting_method: str | None = None
    grants: list[list[int]] = Field(default_factory=list, sa_type=sa.JSON)
    requests: int = 1
    remaining_nanos: int | None = Field(default=None, sa_type=Nanos)
    remaining_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    remaining_requests: int | None = None
    pieces_settled: int = 0
    settled_nanos: int | None = Field(default=None, sa_type=Nanos)


class HoldResolutionRow(SQLModel, table=True):
    """How a hold ended; at most one a hold, except that an expired one may settle late."""

    __tablename__ = "hold_resolutions"

    hold_id: str = Field(primary_key=True, foreign_key="holds.id")
    kind: str = Field(primary_key=True)
    resolved_at: datetime = Field(sa_type=UtcDateTime)
    usage_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    settled_nanos: int | None = Field(default=None, sa_type=Nanos)
    overage_nanos: int | None = Field(default=None, sa_type=Nanos)


class HoldPieceRow(SQLModel, table=True):
    """What a call took out of a hold that settles by pieces, in each unit; nothing once it ended.

    ``call_id`` is the usage that first told of the call, so that a call takes one piece, whatever
    is revised or witnessed later.
    """

    __tablename__ = "hold_pieces"
    __table_args__ = {"sqlite_with_rowid": False}

    hold_id: str = Field(primary_key=True, foreign_key="holds.id")
    call_id: int = Field(sa_type=sa.BigInteger, primary_key=True)
    settled_at: datetime = Field(sa_type=UtcDateTime)
    taken_nanos: int = Field(sa_type=Nanos)
    taken_tokens: int = Field(sa_type=sa.BigInteger)
    taken_requests: int


class CheckAnswerRow(SQLModel, table=True):
    """The answer to a check that carried an idempotency key: a repeat gets the same one."""

    __tablename__ = "check_answers"

    key_id: str = Field(primary_key=True)
    idempotency_key: str = Field(primary_key=True)
    request_digest: str
    answer: dict[str, Any] = Field(sa_type=sa.JSON)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)

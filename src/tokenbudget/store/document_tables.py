"""What tables of documents have in common. It owns no table; it refuses queries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import UtcDateTime


class DocumentRow(SQLModel):
    """One version of a document, as it was written; the highest is in force.

    ``recorded_by`` is the id of the API key that wrote it, NULL for a command on the machine.
    """

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    content: dict[str, Any] = Field(sa_type=sa.JSON)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    recorded_by: str | None = None

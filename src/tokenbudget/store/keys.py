"""API keys in SQL, found by the hash of their secret."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.store.db import is_sqlite, table_of
from tokenbudget.store.tables import ApiKeyRow


def add_key(session: Session, row: ApiKeyRow) -> None:
    """Add a key."""
    session.add(row)


def count_keys(session: Session) -> int:
    """Give how many keys there are, revoked ones too; nobody adds one meanwhile."""
    if not is_sqlite(session):
        session.connection().execute(sa.text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))
    return session.exec(select(sa.func.count()).select_from(ApiKeyRow)).one()


def find_key_by_hash(session: Session, secret_sha256: str) -> ApiKeyRow | None:
    """Give the key with this hash, or None."""
    return session.exec(select(ApiKeyRow).where(ApiKeyRow.secret_sha256 == secret_sha256)).first()


def list_keys(session: Session) -> list[ApiKeyRow]:
    """Give every key, oldest first."""
    return list(session.exec(select(ApiKeyRow).order_by(col(ApiKeyRow.created_at))))


def revoke_key(session: Session, key_id: str, *, now: datetime) -> bool:
    """Note that a key is revoked and tell whether it exists; the first revocation stands."""
    row = session.get(ApiKeyRow, key_id)
    if row is None:
        return False
    if row.revoked_at is None:
        table = table_of(ApiKeyRow)
        session.connection().execute(
            sa.update(table).where(table.c.id == key_id).values(revoked_at=now)
        )
    return True

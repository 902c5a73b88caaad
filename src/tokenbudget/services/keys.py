"""API keys: made once, shown once, kept only as a hash, revoked for good."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tokenbudget.domain.errors import InvalidInput, NotFound, Unauthenticated
from tokenbudget.services.ids import new_id
from tokenbudget.store.db import Database
from tokenbudget.store.keys import add_key, count_keys, find_key_by_hash, list_keys, revoke_key
from tokenbudget.store.tables import ApiKeyRow

SCOPES: Final = ("ingest", "quota", "read", "admin")
SECRET_PREFIX: Final = "tb_"
SECRET_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a valid key allows; ``admin`` allows everything."""

    key_id: str
    name: str
    scopes: frozenset[str]
    pinned_tags: Mapping[str, str]

    def allows(self, scope: str) -> bool:
        """Tell whether the key has the scope."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; ``secret`` is known here and nowhere else."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    secret: str


def create_key(
    database: Database,
    *,
    name: str,
    scopes: Sequence[str],
    pinned_tags: Mapping[str, str],
    now: datetime,
) -> NewKey:
    """Give a new key with its secret; raises InvalidInput for an unknown scope or none."""
    _require_scopes(scopes)
    with database.transaction() as session:
        key = _new_key(name, scopes, now)
        add_key(session, _row_of(key, pinned_tags, now))
    return key


def create_first_key(database: Database, *, now: datetime) -> NewKey | None:
    """Give an admin key when there is no key at all, else None.

    Of several processes one gets it.
    """
    with database.transaction() as session:
        if count_keys(session) > 0:
            return None
        key = _new_key("first admin", ("admin",), now)
        add_key(session, _row_of(key, {}, now))
    return key


def authenticate(database: Database, secret: str) -> KeyFacts:
    """Give what the key allows; raises Unauthenticated when it is unknown or revoked."""
    with database.reading() as session:
        row = find_key_by_hash(session, _hash(secret))
        if row is None or row.revoked_at is not None:
            raise Unauthenticated("the API key is unknown or revoked")
        return KeyFacts(row.id, row.name, frozenset(row.scopes), dict(row.pinned_tags))


def list_all_keys(database: Database) -> list[ApiKeyRow]:
    """Give every key without its secret, oldest first."""
    with database.reading() as session:
        rows = list_keys(session)
        session.expunge_all()
    return rows


def revoke(database: Database, key_id: str, *, now: datetime) -> None:
    """Revoke a key; workers stop accepting it within their cache time. Raises NotFound."""
    with database.transaction() as session:
        if not revoke_key(session, key_id, now=now):
            raise NotFound(f"key {key_id!r} does not exist")


def _require_scopes(scopes: Sequence[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        named = repr(unknown[0]) if unknown else "nothing"
        raise InvalidInput(f"scope must be among {', '.join(SCOPES)}, not {named}", field="scope")


def _new_key(name: str, scopes: Sequence[str], now: datetime) -> NewKey:
    secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return NewKey(new_id(now), name, tuple(sorted(set(scopes))), secret)


def _row_of(key: NewKey, pinned_tags: Mapping[str, str], now: datetime) -> ApiKeyRow:
    return ApiKeyRow(
        id=key.key_id,
        name=key.name,
        secret_sha256=_hash(key.secret),
        scopes=list(key.scopes),
        pinned_tags=dict(pinned_tags),
        created_at=now,
    )


def _hash(secret: str) -> str:
    # A secret of 192 random bits needs no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()

"""API keys: made once, shown once, kept only as a hash, revoked for good."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tokenbudget.domain.allocation import CALL_DIMENSIONS, Caller
from tokenbudget.domain.errors import InvalidInput, NotFound, Unauthenticated
from tokenbudget.services.ids import new_id
from tokenbudget.store.db import Database
from tokenbudget.store.keys import add_key, count_keys, find_key_by_hash, list_keys, revoke_key
from tokenbudget.store.tables import ApiKeyRow

SCOPES: Final = ("ingest", "quota", "read", "admin")
TRUSTS: Final = ("caller", "gateway")
ON_MISSING: Final = ("unallocated", "reject")
MAX_TAGS: Final = 64
SECRET_PREFIX: Final = "tb_"
SECRET_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """How far a key's caller is believed, and which tags its usage must have.

    ``trust`` is ``caller`` or ``gateway``: what a gateway says of a call beats what others say.
    Usage for which no step gives one of ``required_tags`` is refused when ``on_missing`` is
    ``reject``; else it counts as ``unallocated``.
    """

    trust: str = TRUSTS[0]
    required_tags: tuple[str, ...] = ()
    on_missing: str = ON_MISSING[0]


USUAL_POLICY: Final = KeyPolicy()


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a valid key allows; ``admin`` allows everything."""

    key_id: str
    name: str
    scopes: frozenset[str]
    pinned_tags: Mapping[str, str]
    policy: KeyPolicy = USUAL_POLICY

    @property
    def caller(self) -> Caller:
        """Give what the key says of the usage and the checks that come by it."""
        return Caller(
            self.key_id,
            self.pinned_tags,
            is_gateway=self.policy.trust == "gateway",
            required_tags=self.policy.required_tags,
            rejects_missing=self.policy.on_missing == "reject",
        )

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
    policy: KeyPolicy = USUAL_POLICY,
) -> NewKey:
    """Give a new key with its secret; raises InvalidInput for a scope, word or tag there is not."""
    _require_scopes(scopes)
    _require_policy(policy)
    _require_tags(tuple(pinned_tags), "pinned_tags")
    with database.transaction() as session:
        key = _new_key(name, scopes, now)
        add_key(session, _row_of(key, pinned_tags, policy, now))
    return key


def create_first_key(database: Database, *, now: datetime) -> NewKey | None:
    """Give an admin key when there is no key at all, else None.

    Of several processes one gets it.
    """
    with database.transaction() as session:
        if count_keys(session) > 0:
            return None
        key = _new_key("first admin", ("admin",), now)
        add_key(session, _row_of(key, {}, USUAL_POLICY, now))
    return key


def authenticate(database: Database, secret: str) -> KeyFacts:
    """Give what the key allows; raises Unauthenticated when it is unknown or revoked."""
    with database.reading() as session:
        row = find_key_by_hash(session, _hash(secret))
        if row is None or row.revoked_at is not None:
            raise Unauthenticated("the API key is unknown or revoked")
        return KeyFacts(
            row.id, row.name, frozenset(row.scopes), dict(row.pinned_tags), _policy_of(row)
        )


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


def _require_policy(policy: KeyPolicy) -> None:
    for field, word, known in (
        ("trust", policy.trust, TRUSTS),
        ("on_missing", policy.on_missing, ON_MISSING),
    ):
        if word not in known:
            raise InvalidInput(f"{field} must be {' or '.join(known)}, not {word!r}", field=field)
    _require_tags(policy.required_tags, "required_tags")


def _require_tags(names: tuple[str, ...], field: str) -> None:
    """Refuse too many tags, tags without a name and facts of the call, which nobody gives."""
    if len(names) > MAX_TAGS or len(set(names)) != len(names):
        raise InvalidInput(f"{field} names more than {MAX_TAGS} tags, or one twice", field=field)
    refused = next((name for name in names if not name or name in CALL_DIMENSIONS), None)
    if refused is not None:
        raise InvalidInput(f"{field}: {refused!r} is no tag", field=field)


def _new_key(name: str, scopes: Sequence[str], now: datetime) -> NewKey:
    secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return NewKey(new_id(now), name, tuple(sorted(set(scopes))), secret)


def _row_of(
    key: NewKey, pinned_tags: Mapping[str, str], policy: KeyPolicy, now: datetime
) -> ApiKeyRow:
    return ApiKeyRow(
        id=key.key_id,
        name=key.name,
        secret_sha256=_hash(key.secret),
        scopes=list(key.scopes),
        pinned_tags=dict(pinned_tags),
        trust=policy.trust,
        required_tags=list(policy.required_tags),
        on_missing=policy.on_missing,
        created_at=now,
    )


def _policy_of(row: ApiKeyRow) -> KeyPolicy:
    return KeyPolicy(row.trust, tuple(row.required_tags), row.on_missing)


def _hash(secret: str) -> str:
    # A secret of 192 random bits needs no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()

"""Who is calling and what they may do. It owns the dependencies that handlers ask for.

Keys live in services/keys.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Security
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request

from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Forbidden, Unauthenticated, Unavailable
from tokenbudget.services.fail_modes import FailModes
from tokenbudget.services.group_commit import GroupCommit
from tokenbudget.services.keys import KeyFacts, authenticate
from tokenbudget.services.ledger import Answer, Work

EVERYBODY: Final = KeyFacts("", "authentication is off", frozenset({"admin"}), {})
KEY_SCHEME: Final = "key"
MAX_CACHED_KEYS: Final = 10_000
# While the database is away nothing can be done with a key but ask for a quota.
OUTAGE_TRUST: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it was found, and until when that is relied on without looking again."""

    facts: KeyFacts
    looked_up_at: datetime
    until: datetime


@dataclass(slots=True)
class KeyCache:
    """Keys recently found valid, each for a few seconds.

    A revoked key works no longer than that, but while the database cannot be asked: then what was
    found within OUTAGE_TRUST still holds, since budgets may be open for that case.
    """

    lifetime: timedelta
    found: dict[bytes, KnownKey] = field(default_factory=dict)

    def find(self, secret: str, services: Services) -> KeyFacts:
        """Give what the secret allows; raises Unauthenticated."""
        now = services.clock()
        digest = _digest_of(secret)
        known = self.found.get(digest)
        if known is not None and known.until > now:
            return known.facts
        looked_up_at = now
        try:
            facts = authenticate(services.database, secret)
        except Unavailable:
            if known is None or known.looked_up_at + OUTAGE_TRUST <= now:
                raise
            facts, looked_up_at = known.facts, known.looked_up_at
        if len(self.found) >= MAX_CACHED_KEYS:
            self.found.clear()
        self.found[digest] = KnownKey(facts, looked_up_at, now + self.lifetime)
        return facts

    def find_known(self, secret: str, now: datetime) -> KeyFacts | None:
        """Give what the secret allows by what is remembered, None when that must be looked up."""
        known = self.found.get(_digest_of(secret))
        return known.facts if known is not None and known.until > now else None


@dataclass(slots=True)
class AppState:
    """What one application holds: its services, its writer, its key cache and its fail modes."""

    services: Services
    writer: GroupCommit[Work, Answer]
    keys: KeyCache
    fail_modes: FailModes


def state_of(connection: HTTPConnection) -> AppState:
    """Give the state of the application that serves this request."""
    state: AppState = connection.app.state.tokenbudget
    return state


def services_of(request: Request) -> Services:
    """Give the services of the application that serves this request."""
    return state_of(request).services


def authorize(connection: HTTPConnection, scope: str) -> KeyFacts:
    """Give the facts of the caller's key, which is in the Authorization header.

    Raises Unauthenticated, or Forbidden when the scope is missing. May ask the database.
    """
    state = state_of(connection)
    if state.services.settings.auth == "off":
        return EVERYBODY
    return _allowed(state.keys.find(_secret_of(connection), state.services), scope)


async def authorize_on_loop(
    connection: HTTPConnection, scope: str, *, secret: str | None = None
) -> KeyFacts:
    """Give the facts of the caller's key, which is in the Authorization header or handed in.

    Raises Unauthenticated, or Forbidden when the scope is missing. The database is asked off the
    event loop.
    """
    state = state_of(connection)
    if state.services.settings.auth == "off":
        return EVERYBODY
    secret = secret or _secret_of(connection)
    facts = state.keys.find_known(secret, state.services.clock())
    if facts is None:
        facts = await run_in_threadpool(state.keys.find, secret, state.services)
    return _allowed(facts, scope)


def find_known_key(state: AppState, authorization: str, scope: str) -> KeyFacts | None:
    """Give the facts of a key that is remembered and has the scope, else None.

    ``authorization`` is the header. The database is not asked.
    """
    if state.services.settings.auth == "off":
        return EVERYBODY
    try:
        secret = _secret_in(authorization)
    except Unauthenticated:
        return None
    facts = state.keys.find_known(secret, state.services.clock())
    return facts if facts is not None and facts.allows(scope) else None


class KeyScheme(SecurityBase):
    """How operations say in the API's description that they ask for a key; it checks nothing."""

    def __init__(self) -> None:
        self.scheme_name = KEY_SCHEME
        self.model = HTTPBearerModel()

    async def __call__(self) -> None:
        """Let the request pass: the demand beside it looks at the key."""


def require_scope(scope: str) -> Callable[..., KeyFacts]:
    """Give the dependency that demands a scope, which the API's description then names."""
    described = Security(KeyScheme(), scopes=[scope])

    def demand(request: Request, _described: None = described) -> KeyFacts:
        return authorize(request, scope)

    return demand


def _allowed(facts: KeyFacts, scope: str) -> KeyFacts:
    if not facts.allows(scope):
        raise Forbidden(f"this needs a key with scope {scope!r}", scope=scope)
    return facts


def _digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _secret_of(connection: HTTPConnection) -> str:
    return _secret_in(connection.headers.get("authorization", ""))


def _secret_in(authorization: str) -> str:
    """Give the key of ``Authorization: Bearer`` or, for browsers, the password of ``Basic``."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("the Authorization header is not valid Basic") from None
        return decoded.partition(":")[2]
    raise Unauthenticated("send the API key as Authorization: Bearer <key>")


ServicesIn = Annotated[Services, Depends(services_of)]
Problems = dict[int | str, dict[str, Any]]

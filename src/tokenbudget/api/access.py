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

from fastapi import Depends
from starlette.requests import HTTPConnection, Request

from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Forbidden, Unauthenticated
from tokenbudget.services.group_commit import GroupCommit
from tokenbudget.services.keys import KeyFacts, authenticate
from tokenbudget.services.ledger import Answer, Work

EVERYBODY: Final = KeyFacts("", "authentication is off", frozenset({"admin"}), {})
MAX_CACHED_KEYS: Final = 10_000


@dataclass(slots=True)
class KeyCache:
    """Keys recently found valid, each for a few seconds.

    A revoked key works no longer than that.
    """

    lifetime: timedelta
    found: dict[bytes, tuple[datetime, KeyFacts]] = field(default_factory=dict)

    def find(self, secret: str, services: Services) -> KeyFacts:
        """Give what the secret allows; raises Unauthenticated."""
        now = services.clock()
        digest = hashlib.sha256(secret.encode()).digest()
        known = self.found.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        facts = authenticate(services.database, secret)
        if len(self.found) >= MAX_CACHED_KEYS:
            self.found.clear()
        self.found[digest] = (now + self.lifetime, facts)
        return facts


@dataclass(slots=True)
class AppState:
    """What one application holds: its services, its writer and its key cache."""

    services: Services
    writer: GroupCommit[Work, Answer]
    keys: KeyCache


def state_of(connection: HTTPConnection) -> AppState:
    """Give the state of the application that serves this request."""
    state: AppState = connection.app.state.tokenbudget
    return state


def services_of(request: Request) -> Services:
    """Give the services of the application that serves this request."""
    return state_of(request).services


def authorize(connection: HTTPConnection, scope: str) -> KeyFacts:
    """Give the caller's key facts.

    Raises Unauthenticated, or Forbidden when the scope is missing.
    """
    state = state_of(connection)
    if state.services.settings.auth == "off":
        return EVERYBODY
    facts = state.keys.find(_secret_of(connection), state.services)
    if not facts.allows(scope):
        raise Forbidden(f"this needs a key with scope {scope!r}", scope=scope)
    return facts


def require_scope(scope: str) -> Callable[[Request], KeyFacts]:
    """Give the dependency that demands a scope."""

    def demand(request: Request) -> KeyFacts:
        return authorize(request, scope)

    return demand


def _secret_of(connection: HTTPConnection) -> str:
    """Give the key of ``Authorization: Bearer`` or, for browsers, the password of ``Basic``."""
    scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
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

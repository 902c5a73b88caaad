"""Delivering what the outbox holds.

At least once, with a stable id, backing off, and given up after a day.

Requests follow Standard Webhooks: ``webhook-id``, ``webhook-timestamp`` and, with a secret,
``webhook-signature``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx
import msgspec
import structlog

from tokenbudget.store.db import Database
from tokenbudget.store.outbox import list_due, note_dead, note_delivered, note_failed, note_unrouted
from tokenbudget.store.tables import OutboxRow

FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(hours=1)
JITTER_PERCENT: Final = 20
SECRET_PREFIX: Final = "whsec_"
ERROR_LENGTH: Final = 300

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where messages go; without a URL nothing leaves the process."""

    url: str | None
    secret: str | None
    timeout_seconds: int
    give_up_after: timedelta
    batch: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round of delivery did."""

    delivered: int
    failed: int
    dead: int


Sender = Callable[[str, bytes, dict[str, str]], int]
"""Posts a body with headers to a URL and gives the status.

Raises httpx.HTTPError when there is no answer.
"""


def http_sender(client: httpx.Client) -> Sender:
    """Give a sender over this client; redirects are not followed."""

    def send(url: str, body: bytes, headers: dict[str, str]) -> int:
        return client.post(url, content=body, headers=headers, follow_redirects=False).status_code

    return send


def deliver_due(database: Database, webhook: Webhook, send: Sender, *, now: datetime) -> Delivered:
    """Try every message that is due once, and give what became of them.

    No transaction is open while a message is under way; a crash in between sends it again under the
    same id.
    """
    with database.reading() as session:
        due = list_due(session, now=now, limit=webhook.batch)
        session.expunge_all()
    counts = {"delivered": 0, "failed": 0, "dead": 0}
    for message in due:
        if webhook.url is None:
            with database.transaction() as session:
                note_unrouted(session, message.id, now=now)
            continue
        error = _try(webhook, webhook.url, message, send, now)
        counts[_note(database, webhook, message, error, now)] += 1
    return Delivered(**counts)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Give ``v1,`` and the base64 HMAC-SHA256 of id, timestamp and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_secret_bytes(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def backoff(attempts: int) -> timedelta:
    """Give how long to wait after so many failed attempts.

    Doubling, bounded, give or take a fifth.
    """
    exponent = min(attempts, 16)
    base: timedelta = min(FIRST_BACKOFF * (1 << exponent), LONGEST_BACKOFF)
    percent = 100 - JITTER_PERCENT + secrets.randbelow(2 * JITTER_PERCENT + 1)
    return base * percent // 100


def _secret_bytes(secret: str) -> bytes:
    if secret.startswith(SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def _try(webhook: Webhook, url: str, message: OutboxRow, send: Sender, now: datetime) -> str | None:
    """Give None when the receiver took the message, else why not."""
    body = msgspec.json.encode(message.payload)
    timestamp = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
    }
    if webhook.secret:
        headers["webhook-signature"] = sign(webhook.secret, message.id, timestamp, body)
    try:
        status = send(url, body, headers)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    return None if 200 <= status < 300 else f"the receiver answered {status}"


def _note(
    database: Database, webhook: Webhook, message: OutboxRow, error: str | None, now: datetime
) -> str:
    with database.transaction() as session:
        if error is None:
            note_delivered(session, message.id, now=now)
            return "delivered"
        if now - message.created_at >= webhook.give_up_after:
            note_dead(session, message.id, error=error, now=now)
            logger.error("message_dead", message_id=message.id, topic=message.topic, error=error)
            return "dead"
        due_at = now + backoff(message.attempts)
        note_failed(session, message.id, error=error, due_at=due_at)
        logger.warning("message_failed", message_id=message.id, error=error, due_at=due_at)
        return "failed"

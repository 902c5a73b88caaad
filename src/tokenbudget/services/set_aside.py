"""Records of other programs that could not become usage: kept with the reason, tried again later.

A program that throws away what it was refused is never refused. What of its records may be stored
is decided by their format; here they are only kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.formats.events import Rejection
from tokenbudget.formats.foreign_records import ForeignRecord
from tokenbudget.services.keys import KeyFacts, KeyPolicy
from tokenbudget.store.db import Database
from tokenbudget.store.set_aside import (
    add_set_aside,
    find_set_aside,
    list_set_aside,
    note_reason,
    note_recorded,
)
from tokenbudget.store.tables import ApiKeyRow, SetAsideRow

MAX_DETAIL_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Arrival:
    """By which entrance records came, with whose key and when."""

    entrance: str
    api_key_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class SetAsidePage:
    """Some of the records, newest first, and the cursor of the next page."""

    rows: Sequence[SetAsideRow]
    next_cursor: str | None


def set_aside(
    database: Database, refused: Sequence[tuple[ForeignRecord, Rejection]], arrival: Arrival
) -> None:
    """Keep the records with the reasons; the same bytes at the same entrance are kept once."""
    rows = [
        {
            "entrance": arrival.entrance,
            "sha256": record.sha256,
            "size_bytes": record.size_bytes,
            "kept": record.kept,
            "event_ref": rejection.event_id,
            "reason": rejection.code,
            "detail": rejection.detail[:MAX_DETAIL_CHARACTERS],
            "api_key_id": arrival.api_key_id,
            "received_at": arrival.received_at,
        }
        for record, rejection in sorted(refused, key=lambda each: each[0].sha256)
    ]
    with database.transaction() as session:
        add_set_aside(session, rows)


def list_records(
    database: Database, *, is_waiting: bool, cursor: str | None, limit: int
) -> SetAsidePage:
    """Give the records that wait for a retry, or those a retry has recorded, newest first."""
    before = None if cursor is None else int(decode_cursor(cursor, length=1)[0] or 0)
    with database.reading() as session:
        rows = list_set_aside(session, is_waiting=is_waiting, before=before, limit=limit + 1)
        session.expunge_all()
    page = rows[:limit]
    return SetAsidePage(page, encode_cursor([page[-1].id]) if len(rows) > limit else None)


def get_record(database: Database, set_aside_id: int) -> tuple[SetAsideRow, Caller]:
    """Give a record and the caller it came from, by the key's policy of now.

    Raises NotFound, and Conflict for a record of which nothing could be kept.
    """
    with database.reading() as session:
        row = find_set_aside(session, set_aside_id)
        if row is None:
            raise NotFound(f"no record {set_aside_id} was set aside")
        if row.kept is None:
            raise Conflict(f"record {set_aside_id} could not be read, so nothing of it was kept")
        key = session.get(ApiKeyRow, row.api_key_id)
        session.expunge_all()
    return row, Caller() if key is None else _caller_of(key)


def settle_record(
    database: Database, set_aside_id: int, rejection: Rejection | None, *, now: datetime
) -> None:
    """Note that usage was made of a record, or why it still could not be."""
    with database.transaction() as session:
        if rejection is None:
            note_recorded(session, set_aside_id, now=now)
        else:
            detail = rejection.detail[:MAX_DETAIL_CHARACTERS]
            note_reason(session, set_aside_id, reason=rejection.code, detail=detail)


def _caller_of(key: ApiKeyRow) -> Caller:
    policy = KeyPolicy(key.trust, tuple(key.required_tags), key.on_missing)
    scopes = frozenset(key.scopes)
    return KeyFacts(key.id, key.name, scopes, dict(key.pinned_tags), policy).caller

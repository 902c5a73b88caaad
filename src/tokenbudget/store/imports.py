"""How far files of events have been imported. It refuses to read files and to record usage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.db import insert_new_rows, table_of
from tokenbudget.store.import_tables import EventImportRow

Counts = Mapping[str, int]


def find_import(session: Session, fingerprint: str) -> EventImportRow | None:
    """Give the import of a file, or None."""
    return session.get(EventImportRow, fingerprint)


def add_import(session: Session, row: Mapping[str, Any]) -> None:
    """Note that a file is being imported; one that is noted already stays as it is."""
    insert_new_rows(session, EventImportRow, [row])


def begin_import_again(session: Session, fingerprint: str, *, now: datetime) -> None:
    """Let the import of a file start from its first row."""
    counts = dict.fromkeys(("last_row", "accepted", "duplicates", "unpriced", "rejected"), 0)
    table = table_of(EventImportRow)
    statement = (
        sa.update(table)
        .where(table.c.fingerprint == fingerprint)
        .values(**counts, started_at=now, updated_at=now, finished_at=None)
    )
    session.connection().execute(statement)


def advance_import(
    session: Session, fingerprint: str, *, after_row: int, counts: Counts, now: datetime
) -> bool:
    """Note what is done by now and tell whether the import stood after that row until now."""
    table = table_of(EventImportRow)
    statement = (
        sa.update(table)
        .where(table.c.fingerprint == fingerprint, table.c.last_row == after_row)
        .values(**counts, updated_at=now)
    )
    return session.connection().execute(statement).rowcount == 1


def finish_import(session: Session, fingerprint: str, *, now: datetime) -> None:
    """Note that every row of the file is done."""
    table = table_of(EventImportRow)
    statement = sa.update(table).where(table.c.fingerprint == fingerprint).values(finished_at=now)
    session.connection().execute(statement)

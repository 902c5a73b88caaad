"""How far pulls have come, and what earlier pulls of a day stored.

It owns these queries; it refuses to decide what is read and what a restatement is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.bill_pulls import PullProgress
from tokenbudget.domain.periods import Period
from tokenbudget.store.bill_tables import (
    BillImportRow,
    BillLineRow,
    BillPullRow,
    ProviderUsageRow,
)
from tokenbudget.store.db import insert_new_rows, table_of

KEPT_TABLES: Final = (BillLineRow, ProviderUsageRow)


def find_progress(session: Session, *, source: str, account: str) -> PullProgress | None:
    """Give how far a report was read, None when it never was."""
    row = session.get(BillPullRow, (source, account))
    return None if row is None else PullProgress(row.pulled_until, row.pulled_at)


def list_progress(session: Session) -> Sequence[BillPullRow]:
    """Give how far each report of each account was read."""
    key = (col(BillPullRow.source), col(BillPullRow.account))
    return session.exec(select(BillPullRow).order_by(*key)).all()


def note_progress(
    session: Session, *, source: str, account: str, pulled_until: datetime, now: datetime
) -> None:
    """Note that a report was read until then; what was read further stays so.

    When a pull was complete is left alone, unless this is the first that is heard of the report.
    """
    row = {
        "source": source,
        "account": account,
        "pulled_until": pulled_until,
        "pulled_at": now,
    }
    if insert_new_rows(session, BillPullRow, [row]) == 1:
        return
    pull = table_of(BillPullRow)
    statement = (
        sa.update(pull)
        .where(pull.c.source == source, pull.c.account == account)
        .where(pull.c.pulled_until < pulled_until)
        .values(pulled_until=pulled_until)
    )
    session.connection().execute(statement)


def note_complete(session: Session, *, source: str, account: str, now: datetime) -> None:
    """Note that a pull of a report has come to its end."""
    pull = table_of(BillPullRow)
    statement = (
        sa.update(pull)
        .where(pull.c.source == source, pull.c.account == account)
        .values(pulled_at=now)
    )
    session.connection().execute(statement)


def list_import_digests(
    session: Session, *, source: str, file_names: Sequence[str]
) -> Sequence[tuple[str, str, str]]:
    """Give file name, id and digest of the imports of a source that have one of these names."""
    statement = select(BillImportRow.file_name, BillImportRow.id, BillImportRow.sha256).where(
        col(BillImportRow.source) == source, col(BillImportRow.file_name).in_(file_names)
    )
    return session.exec(statement).all()


def list_imports_in_force(
    session: Session, *, source: str, account: str, period: Period
) -> set[tuple[datetime, str]]:
    """Give when lines and usage in force begin within the period, with the ids of their imports."""
    found: set[tuple[datetime, str]] = set()
    for model in KEPT_TABLES:
        kept = table_of(model)
        statement = (
            sa.select(kept.c.period_start, kept.c.import_id)
            .distinct()
            .where(
                kept.c.source == source,
                kept.c.account == account,
                kept.c.superseded_by.is_(None),
                kept.c.period_start >= period.start,
                kept.c.period_start < period.end,
            )
        )
        found.update((start, id) for start, id in session.connection().execute(statement))
    return found

"""Which scheduled reports were made."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session

from tokenbudget.store.db import insert_new_rows
from tokenbudget.store.tables import ReportRunRow


def find_report_run(session: Session, kind: str, period_start: datetime) -> ReportRunRow | None:
    """Give the report of this kind and period, or None when none was made."""
    return session.get(ReportRunRow, (kind, period_start))


def note_report_run(
    session: Session, kind: str, period_start: datetime, *, path: str, now: datetime
) -> None:
    """Note that a report was made; the first note stands."""
    row = {"kind": kind, "period_start": period_start, "path": path, "created_at": now}
    insert_new_rows(session, ReportRunRow, [row])

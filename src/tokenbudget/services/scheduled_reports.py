"""The report a schedule makes.

Of the last complete week, once, however often and wherever the job runs.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from tokenbudget.services.reports import build_weekly, choose_week, write_weekly
from tokenbudget.store.db import Database
from tokenbudget.store.reports import find_report_run, note_report_run

WEEKLY: Final = "weekly"


def write_weekly_once(
    database: Database,
    *,
    now: datetime,
    currency: str,
    timezone: str,
    templates: Path,
    directory: Path,
) -> Path | None:
    """Give the path of the report just written, or None when it was written before."""
    period = choose_week(None, now=now, timezone=timezone)
    with database.reading() as session:
        if find_report_run(session, WEEKLY, period.start) is not None:
            return None
    report = build_weekly(database, period=period, now=now, currency=currency, timezone=timezone)
    path = write_weekly(report, formats=("html",), directory=directory, templates=templates)[0]
    with database.transaction() as session:
        note_report_run(session, WEEKLY, period.start, path=str(path), now=now)
    return path

"""The weekly report is written once a week, whoever asks and however often."""

from __future__ import annotations

from pathlib import Path

from tests.builders import make_event, record, rows_of
from tests.conftest import FrozenClock
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.scheduled_reports import write_weekly_once
from tokenbudget.settings import packaged_path
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ReportRunRow


def write(database: Database, clock: FrozenClock, directory: Path) -> Path | None:
    """Give the path of the report just written, or None."""
    return write_weekly_once(
        database,
        now=clock(),
        currency="USD",
        timezone="UTC",
        templates=packaged_path("reports"),
        directory=directory,
    )


def test_the_report_of_the_last_complete_week_is_written_once(
    ledger: Ledger, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    record(ledger, make_event(occurred_at="2026-11-12T10:00:00Z"))

    first = write(database, clock, tmp_path)
    second = write(database, clock, tmp_path)

    [run] = rows_of(database, ReportRunRow)
    assert first is not None
    assert "2026-W46" in first.name
    assert first.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert second is None
    assert (run["kind"], run["period_start"].day, run["path"]) == ("weekly", 9, str(first))


def test_the_next_week_has_a_report_of_its_own(
    database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    first = write(database, clock, tmp_path)
    clock.advance(days=7)

    second = write(database, clock, tmp_path)

    assert first is not None
    assert second is not None
    assert first != second
    assert len(rows_of(database, ReportRunRow)) == 2

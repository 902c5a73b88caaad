"""An import that is killed again and again goes on where it stopped, and counts each event once.

``TOKENBUDGET_FAULT_EVENTS`` sets how many events the file has, for a run at full size.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic, sleep

import polars as pl
import pytest
import sqlalchemy as sa

from tests.builders import broken_rules
from tests.faults.conftest import Place
from tests.server_process import COMMAND
from tokenbudget.bootstrap import open_services, prepare_database
from tokenbudget.settings import load_settings
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.import_tables import EventImportRow
from tokenbudget.store.tables import ChargeRow, EventKeyRow, UsageRow

EVENTS = int(os.environ.get("TOKENBUDGET_FAULT_EVENTS", "60000"))
KILLS = 4
LIMIT_SECONDS = 1_800
POLL_SECONDS = 0.02
MOST_WAIT_SECONDS = 1.5
SEED = 11
START = datetime(2026, 10, 1, tzinfo=UTC)
INPUT_TOKENS, OUTPUT_TOKENS = 1_000, 100


@dataclass(frozen=True)
class Import:
    """A file that is imported by a process of its own, into the ledger of a place."""

    place: Place
    file: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Start importing; what is printed goes to a log."""
        with (self.file.parent / "import.log").open("ab") as log:
            return subprocess.Popen(
                [COMMAND, "events", "import", str(self.file)],
                env={**os.environ, **self._environment()},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def open(self) -> Database:
        """Give the ledger, with its tables."""
        services = open_services(load_settings(**self._settings()))
        prepare_database(services)
        return services.database

    def _settings(self) -> dict[str, str]:
        url = self.place.settings.get("database_url")
        settings = {"data_dir": str(self.place.directory)}
        return settings if url is None else {**settings, "database_url": url}

    def _environment(self) -> dict[str, str]:
        return {f"TOKENBUDGET_{name.upper()}": value for name, value in self._settings().items()}


@pytest.fixture
def importing(place: Place, tmp_path: Path) -> Import:
    """Give the import of a file of many events, with a budget that they count against."""
    place.directory.mkdir(parents=True, exist_ok=True)
    file = tmp_path / "events.parquet"
    number = pl.int_range(EVENTS, eager=True)
    step = timedelta(days=30) / EVENTS
    pl.DataFrame(
        {
            "event_id": pl.select(pl.format("e-{}", number)).to_series(),
            "occurred_at": pl.select(pl.lit(START) + number * step).to_series(),
            "provider": pl.select(pl.repeat("openai", EVENTS)).to_series(),
            "model": pl.select(pl.repeat("gpt-4o", EVENTS)).to_series(),
            "response_id": pl.select(pl.format("r-{}", number)).to_series(),
            "input_tokens": pl.select(pl.repeat(INPUT_TOKENS, EVENTS)).to_series(),
            "output_tokens": pl.select(pl.repeat(OUTPUT_TOKENS, EVENTS)).to_series(),
            "team": pl.select(pl.format("team-{}", number % 6)).to_series(),
        }
    ).write_parquet(file)
    return Import(place, file)


def rows_done(database: Database) -> int:
    """Give how many rows of the file are noted as done."""
    with database.reading() as session:
        row = session.connection().execute(sa.select(table_of(EventImportRow))).mappings().first()
    return 0 if row is None else int(row["last_row"])


def count(database: Database, table: sa.Table) -> int:
    """Give how many rows a table has."""
    statement = sa.select(sa.func.count()).select_from(table)
    with database.reading() as session:
        return int(session.connection().execute(statement).scalar() or 0)


def kill_after_progress(process: subprocess.Popen[bytes], database: Database, wait: float) -> int:
    """Kill the import a while after it has got further and give how far it was noted before."""
    deadline = monotonic() + LIMIT_SECONDS
    before = rows_done(database)
    while rows_done(database) == before and process.poll() is None and monotonic() < deadline:
        sleep(POLL_SECONDS)
    sleep(wait)
    process.kill()
    process.wait(LIMIT_SECONDS)
    return before


def test_every_event_counts_once_although_its_import_is_killed_again_and_again(
    importing: Import,
) -> None:
    random = Random(SEED)
    database = importing.open()
    seen = []

    for kill in range(KILLS):
        process = importing.start()
        if kill == 0:
            # The first one ends before anything is noted.
            sleep(MOST_WAIT_SECONDS)
            process.kill()
            process.wait(LIMIT_SECONDS)
        else:
            seen.append(kill_after_progress(process, database, random.random() * MOST_WAIT_SECONDS))
    assert importing.start().wait(LIMIT_SECONDS) == 0
    usages = count(database, table_of(UsageRow))
    again = importing.start().wait(LIMIT_SECONDS)

    with database.reading() as session:
        charges = table_of(ChargeRow)
        nanos = session.connection().execute(sa.select(sa.func.sum(charges.c.list_nanos))).scalar()
    print(f"{KILLS} kills; noted as done before each: {seen}")
    assert (usages, again) == (EVENTS, 0)
    assert rows_done(database) == EVENTS
    assert count(database, table_of(UsageRow)) == EVENTS
    assert count(database, charges) == EVENTS
    assert count(database, table_of(EventKeyRow)) == 2 * EVENTS
    # A thousand tokens in at 2.50 dollars a million, a hundred out at 10.
    assert int(nanos or 0) == EVENTS * (2_500_000 + 1_000_000)
    assert broken_rules(database) == []
    database.close()

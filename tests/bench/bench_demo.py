"""How long the demo takes from an empty directory to its tables."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from tests.bench import BenchRow
from tests.server_process import COMMAND

MAX_SECONDS: Final = 60
MIN_EVENTS: Final = 100_000


def run() -> list[BenchRow]:
    """Give the seconds of one demo and how many events it replayed."""
    with TemporaryDirectory() as parent:
        directory = Path(parent) / "demo"
        started = perf_counter()
        subprocess.run(
            [COMMAND, "demo", "--no-serve", "--data-dir", str(directory)],
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = perf_counter() - started
        events = _count_events(directory / "tokenbudget.db")
    return [
        BenchRow(
            name=f"demo, {events:,} events, empty directory to tables",
            figure=seconds,
            unit="s",
            baseline=None,
            ratio=None,
            target=f"<= {MAX_SECONDS} s, >= {MIN_EVENTS:,} events",
            passed=seconds <= MAX_SECONDS and events >= MIN_EVENTS,
        )
    ]


def _count_events(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("SELECT count(*) FROM usage").fetchone()[0]
    return count

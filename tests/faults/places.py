"""The places a server is put to the test in: SQLite with one worker, PostgreSQL with several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

ENGINES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Place:
    """Where a server keeps its ledger, and the settings it needs for that."""

    directory: Path
    settings: dict[str, str]

    @property
    def engine(self) -> str:
        """Give the name of the database's engine."""
        return "postgresql" if "database_url" in self.settings else "sqlite"

    @property
    def database_url(self) -> str:
        """Give the URL of the ledger."""
        file = self.directory / "tokenbudget.db"
        return self.settings.get("database_url", f"sqlite:///{file.as_posix()}")


def sqlite_place_in(directory: Path) -> Place:
    """Give a place for one worker on SQLite."""
    return Place(directory / "ledger", {"workers": "1"})


@contextmanager
def postgres_place_in(directory: Path, postgres_url: str) -> Iterator[Place]:
    """Give a place for two workers on an empty PostgreSQL database of its own."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    url = server.url.set(database=f"{server.url.database}_{uuid4().hex[:8]}")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {url.database}")
    text = url.render_as_string(hide_password=False)
    try:
        yield Place(directory / "ledger", {"workers": "2", "database_url": text})
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {url.database} WITH (FORCE)")
        server.dispose()

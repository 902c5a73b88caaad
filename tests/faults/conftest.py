"""The places a server is put to the test in: SQLite with one worker, PostgreSQL with two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

ENGINES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Place:
    """Where a server keeps its ledger, and the settings it needs for that."""

    directory: Path
    settings: dict[str, str]


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    """Give a place for one worker on SQLite."""
    return Place(tmp_path / "ledger", {"workers": "1"})


@pytest.fixture
def postgres_place(tmp_path: Path, postgres_url: str) -> Iterator[Place]:
    """Give a place for two workers on an empty PostgreSQL database of its own."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    url = server.url.set(database=f"{server.url.database}_{uuid4().hex[:8]}")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {url.database}")
    text = url.render_as_string(hide_password=False)
    yield Place(tmp_path / "ledger", {"workers": "2", "database_url": text})
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {url.database} WITH (FORCE)")
    server.dispose()


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Place:
    """Give each place in turn."""
    name = "sqlite_place" if request.param == "sqlite" else "postgres_place"
    chosen: Place = request.getfixturevalue(name)
    return chosen

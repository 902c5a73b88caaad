"""Each place as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.places import ENGINES, postgres_place_in, sqlite_place_in
from tests.faults.places import Place as Place


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    """Give a place for one worker on SQLite."""
    return sqlite_place_in(tmp_path)


@pytest.fixture
def postgres_place(tmp_path: Path, postgres_url: str) -> Iterator[Place]:
    """Give a place for two workers on an empty PostgreSQL database of its own."""
    with postgres_place_in(tmp_path, postgres_url) as place:
        yield place


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Place:
    """Give each place in turn."""
    name = "sqlite_place" if request.param == "sqlite" else "postgres_place"
    chosen: Place = request.getfixturevalue(name)
    return chosen

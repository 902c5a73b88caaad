"""Databases for benchmarks: a file in a directory, or a PostgreSQL database of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa

from tests.conftest import DEFAULT_POSTGRES_URL, POSTGRES_URL_VARIABLE
from tokenbudget.settings import POSTGRES_PREFIX

ENGINES = ("SQLite", "PostgreSQL")


@contextmanager
def database_url(engine: str, directory: Path, *, name: str = "bench") -> Iterator[str]:
    """Give the URL of an empty database; one on PostgreSQL is dropped afterwards."""
    if engine == "SQLite":
        yield f"sqlite:///{(directory / 'tokenbudget.db').as_posix()}"
        return
    server = os.environ.get(POSTGRES_URL_VARIABLE, DEFAULT_POSTGRES_URL)
    database = f"tokenbudget_{name}_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    url = sa.make_url(server).set(database=database)
    try:
        text = url.render_as_string(hide_password=False)
        yield POSTGRES_PREFIX + text.partition("://")[2]
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())

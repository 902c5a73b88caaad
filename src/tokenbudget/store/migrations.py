"""Bringing a database to the tables this code knows, and refusing one that knows more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from tokenbudget.domain.errors import ConfigurationError, DatabaseTooNew
from tokenbudget.store.db import Database

MIGRATION_LOCK: Final = 0x70B2


def migrate(database: Database, scripts: Path) -> None:
    """Bring the database to the newest revision.

    Of several processes one does it and the others wait.

    Raises DatabaseTooNew when the database has a revision this code does not know; then nothing is
    changed.
    """
    with database.locked_connection() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config = _config(scripts, connection)
        _require_known(connection, config)
        command.upgrade(config, "head")


def require_current(database: Database, scripts: Path) -> None:
    """Raise ConfigurationError unless the database is exactly at the newest revision."""
    with database.engine.connect() as connection:
        config = _config(scripts, connection)
        _require_known(connection, config)
        newest = ScriptDirectory.from_config(config).get_current_head()
        if MigrationContext.configure(connection).get_current_revision() != newest:
            raise ConfigurationError(
                "the database is older than the code; run: tokenbudget db upgrade"
            )


def _require_known(connection: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        raise DatabaseTooNew(
            f"the database is at revision {present!r}, which this version does not know; "
            "use the newer code"
        )


def _config(scripts: Path, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

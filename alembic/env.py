"""Runs migrations on a connection handed in or, from the command line, on that of the settings."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import tokenbudget.store.tables  # noqa: F401  (fills the metadata that autogenerate compares with)
from tokenbudget.settings import load_settings
from tokenbudget.store.coding import BasisCode, Reference
from tokenbudget.store.db import Database, EventKey, Nanos, UtcDateTime
from tokenbudget.store.partitions import list_partitions, make_partitions

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '10s'"


def render_type(kind: str, item: object, _context: object) -> str | bool:
    """Spell our column types as what they are stored as: migrations import nothing of ours."""
    if kind == "type" and isinstance(item, UtcDateTime | Nanos):
        return "sa.BigInteger()"
    if kind == "type" and isinstance(item, EventKey):
        return 'sa.LargeBinary(16).with_variant(sa.Uuid(), "postgresql")'
    if kind == "type" and isinstance(item, Reference):
        return "sa.LargeBinary()"
    if kind == "type" and isinstance(item, BasisCode):
        return "sa.SmallInteger()"
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def run_migrations(connection) -> None:  # type: ignore[no-untyped-def]
    """Run what is due, all in one transaction, and give the coming days their partitions."""
    is_postgres = connection.dialect.name == "postgresql"
    partitions = frozenset(list_partitions(connection) if is_postgres else ())
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=not is_postgres,
        compare_type=True,
        render_item=render_type,
        # Partitions come with the days; no revision knows them.
        include_name=lambda name, kind, _: kind != "table" or name not in partitions,
    )
    with context.begin_transaction():
        if is_postgres:
            connection.exec_driver_sql(LOCK_TIMEOUT)
        context.run_migrations()
        if is_postgres:
            make_partitions(connection)


handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run_migrations(handed_in)
else:
    with Database(load_settings().database_url).engine.begin() as own_connection:
        run_migrations(own_connection)

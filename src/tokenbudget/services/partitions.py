"""Room for the coming days: the partitions that usage and charges of those days will go to."""

from __future__ import annotations

from tokenbudget.store.db import Database
from tokenbudget.store.partitions import make_partitions


def prepare_days(database: Database) -> list[str]:
    """Give the names of the partitions made for today and the coming days; none on SQLite.

    Raises Unavailable when others read so long that there was no moment for it; the default
    partition takes what is recorded until it succeeds.
    """
    if database.is_sqlite:
        return []
    with database.transaction() as session:
        return make_partitions(session.connection())

"""Which of several workers runs the scheduled jobs: the one that holds the lease."""

from __future__ import annotations

from datetime import datetime

from tokenbudget.store.db import Database
from tokenbudget.store.outbox import give_up_lease, take_lease


def lead(database: Database, name: str, holder: str, *, now: datetime, lease_seconds: int) -> bool:
    """Take or renew the lease and tell whether the holder now has it."""
    with database.transaction() as session:
        return take_lease(session, name, holder, now=now, lease_seconds=lease_seconds)


def step_down(database: Database, name: str, holder: str) -> None:
    """Give the lease up, so that another worker leads at once."""
    with database.transaction() as session:
        give_up_lease(session, name, holder)

"""Keys of events and calls: each is claimed once, by the usage that comes first.

Keys are claimed in their own order, so that two writers on one PostgreSQL cannot lock each other
out: the second waits until the first has committed, and then finds the key taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.columns import Columns, append_new_columns
from tokenbudget.store.db import ROWS_PER_STATEMENT, table_of
from tokenbudget.store.tables import EventKeyRow


def claim_keys(session: Session, claims: Mapping[bytes, int]) -> dict[bytes, int]:
    """Claim each key for a usage and give whose the keys are, empty when all were free."""
    if not claims:
        return {}
    keys = sorted(claims)
    columns: Columns = {"key": keys, "usage_id": [claims[key] for key in keys]}
    if append_new_columns(session, table_of(EventKeyRow), columns) == len(keys):
        return {}
    return find_keys(session, claims)


def find_keys(session: Session, keys: Collection[bytes]) -> dict[bytes, int]:
    """Give the usage that claimed each of these keys; keys that are free are left out."""
    table = table_of(EventKeyRow)
    ordered = sorted(keys)
    found: dict[bytes, int] = {}
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(table.c.key, table.c.usage_id).where(table.c.key.in_(chunk))
        found.update((key, usage_id) for key, usage_id in session.connection().execute(statement))
    return found

"""Can requests be served?"""

from __future__ import annotations

from tokenbudget.store.budgets import rules_number
from tokenbudget.store.db import Database


def is_ready(database: Database) -> bool:
    """Tell that the ledger can be read; raises Unavailable when it cannot."""
    with database.reading() as session:
        rules_number(session)
    return True

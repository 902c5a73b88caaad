"""Budgets a minute, whose counters would pile up: those of minutes gone by are let go of.

It refuses to count (``counting.py``), where usage of minutes so long ago is in no rate.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tokenbudget.services.counting import RATE_MEMORY
from tokenbudget.store.db import Database
from tokenbudget.store.rates import forget_minutes

COUNTERS_PER_PIECE: Final = 5_000
"""Counters let go of in one transaction."""


def forget_rates(
    database: Database, *, now: datetime, counters_per_piece: int = COUNTERS_PER_PIECE
) -> int:
    """Let go of counters of minutes more than a day ago that hold nothing; give how many went."""
    total = 0
    while True:
        with database.transaction() as session:
            gone = forget_minutes(session, before=now - RATE_MEMORY, limit=counters_per_piece)
        total += gone
        if gone < counters_per_piece:
            return total

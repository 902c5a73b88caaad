"""What tests of bills share: samples and what a ledger holds of bills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow, BillLineRow

BILLING = Path(__file__).parents[1] / "data" / "billing"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def stored_lines(database: Database) -> Sequence[sa.Row[tuple[object, ...]]]:
    """Give every bill line with its file's name, in the order of storing."""
    line, bill = table_of(BillLineRow), table_of(BillImportRow)
    statement = sa.select(line, bill.c.file_name).join_from(
        line, bill, line.c.import_id == bill.c.id
    )
    with database.reading() as session:
        return session.connection().execute(statement.order_by(line.c.id)).all()


def total_in_force(database: Database, currency: str = "USD") -> Decimal:
    """Give the exact sum of the lines that nothing superseded."""
    amounts = [
        Decimal(line.billed_amount)
        for line in stored_lines(database)
        if line.superseded_by is None and line.currency == currency
    ]
    return sum(amounts, Decimal(0))

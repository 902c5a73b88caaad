"""What tests of bills and reconciliation share: an empty ledger and its bill lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow, BillLineRow

BILLING = Path(__file__).parents[1] / "data" / "billing"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@contextmanager
def empty_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give a ledger without rows on the engine that the fixture's parameter names."""
    if request.param == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"))
    else:
        database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    SQLModel.metadata.create_all(database.engine)
    yield database
    SQLModel.metadata.drop_all(database.engine)
    database.close()


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

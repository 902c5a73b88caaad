"""A ledger of September 2026 to divide: two teams' usage and the bill lines a test names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.rollup_builders import make_usage, roll_up
from tokenbudget.domain.periods import Period
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import BillImportRow, BillLineRow

DOLLAR = 10**9
FIRST = datetime(2026, 9, 1, tzinfo=UTC)
FIRST_DAY = Period(FIRST, datetime(2026, 9, 2, tzinfo=UTC))
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def use(database: Database, dollars: int, team: str, **dimensions: Any) -> None:
    """Meter usage of a team at noon of the first: one request of ten tokens."""
    measures = {"effective_nanos": dollars * DOLLAR}
    at = FIRST.replace(hour=12)
    roll_up(database, [make_usage(at, measures=measures, team=team, **dimensions)])


def bill(database: Database, *lines: dict[str, Any]) -> None:
    """Put bill lines of one import in force, as ``line`` gives them."""
    with database.transaction() as session:
        session.add(
            BillImportRow(
                id="b1",
                source="focus",
                file_name="bill.csv",
                sha256="0" * 64,
                line_count=len(lines),
                imported_at=NOW,
            )
        )
        session.flush()
        numbered = [{**each, "row_number": number} for number, each in enumerate(lines, start=1)]
        insert_rows(session, BillLineRow, numbered)


def line(amount: str, **overrides: Any) -> dict[str, Any]:
    """Give the columns of a usage line of the first, of OpenAI's account org."""
    return {
        "import_id": "b1",
        "folded_rows": 1,
        "source": "focus",
        "provider": "openai",
        "account": "org",
        "project": None,
        "model": "gpt-5.2",
        "description": None,
        "category": "usage",
        "is_correction": False,
        "billing_month": 202609,
        "period_start": FIRST_DAY.start,
        "period_end": FIRST_DAY.end,
        "billed_amount": amount,
        "billed_nanos": 0,
        "currency": "USD",
        "tags": {},
        **overrides,
    }


def fill(database: Database, *more: dict[str, Any]) -> None:
    """Meter 30 of growth and 10 of search, and bill them with 4 of tax and the lines given."""
    use(database, 30, "growth")
    use(database, 10, "search")
    tax = line("4", category="tax", model=None, description="VAT")
    bill(database, line("40"), tax, *more)

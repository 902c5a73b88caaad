"""Bill lines and providers' reports put straight into a ledger, with boring defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tokenbudget.domain.money import decimal_to_nanos
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import BillImportRow, BillLineRow, ProviderUsageRow

ONE_DAY = timedelta(days=1)
IMPORT = "import"


def september(day: int, hour: int = 0) -> datetime:
    """Give an hour of September."""
    return datetime(2026, 9, day, hour, tzinfo=UTC)


def make_line(amount: str, **overrides: Any) -> dict[str, Any]:
    """Give a line of gpt-4.1 for the first of September."""
    start = overrides.pop("start", september(1))
    end = overrides.pop("end", start + ONE_DAY)
    return {
        "import_id": IMPORT,
        "row_number": 1,
        "source": "focus",
        "provider": "openai",
        "account": "org",
        "project": None,
        "api_key": None,
        "model": "gpt-4.1",
        "usage_type": None,
        "description": None,
        "category": "usage",
        "billing_month": 202609,
        "period_start": start,
        "period_end": end,
        "billed_amount": amount,
        "billed_nanos": decimal_to_nanos(Decimal(amount)),
        "currency": "USD",
        "tags": {},
        "superseded_by": None,
        **overrides,
    }


def make_report(api_key: str, tokens: int, **overrides: Any) -> dict[str, Any]:
    """Give what OpenAI says a key used on the first of September."""
    return {
        "import_id": IMPORT,
        "row_number": 1,
        "source": "openai-usage-completions",
        "provider": "openai",
        "account": "org",
        "project": None,
        "api_key": api_key,
        "model": "gpt-4.1",
        "period_start": september(1),
        "period_end": september(2),
        "requests": 1,
        "input_tokens": tokens,
        "output_tokens": None,
        "other_units": {},
        "tags": {},
        "superseded_by": None,
        **overrides,
    }


def store_bill(
    database: Database, *lines: dict[str, Any], reports: tuple[dict[str, Any], ...] = ()
) -> None:
    """Store one import of these lines and reports."""
    imported = {
        "id": IMPORT,
        "source": "focus",
        "file_name": "bill.csv",
        "sha256": IMPORT,
        "line_count": len(lines),
        "imported_at": september(30),
    }
    with database.transaction() as session:
        insert_rows(session, BillImportRow, [imported])
        insert_rows(session, BillLineRow, lines)
        insert_rows(session, ProviderUsageRow, reports)

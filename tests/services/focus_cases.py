"""A ledger with something of everything that a FOCUS export tells of, and files read back.

September 2026 is closed, October is open. Of ``acme/plain`` a million input tokens cost a dollar
and a million output tokens two (``tests/builders.py``).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from tests.builders import DOLLAR, PLAIN_RATES, PRICES, make_event, record
from tests.rollup_builders import make_dimensions
from tokenbudget.bootstrap import Services
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES
from tokenbudget.domain.statements import (
    Invoice,
    LineKey,
    Method,
    Origin,
    StatedInvoice,
    StatementHeader,
    StatementLine,
    StatementState,
)
from tokenbudget.formats.focus import FileKind
from tokenbudget.formats.focus_columns import DEFAULT_VERSION
from tokenbudget.services.focus_export import FocusExport, FocusQuestion, export_focus
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.ledger import add_rollups, intern_dimension_sets, intern_price_rows
from tokenbudget.store.statements import add_statement
from tokenbudget.store.tables import BillImportRow, BillLineRow

SEPTEMBER = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
OCTOBER = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BOOK = PRICES


@dataclass(frozen=True)
class FocusFile:
    """A file read back as texts, whatever its encoding."""

    path: Path
    export: FocusExport
    rows: list[dict[str, str | None]]

    def total(self, column: str, **where: str | None) -> Decimal:
        """Give the exact sum of a column over the rows with these cells."""
        return sum((Decimal(row[column] or 0) for row in self.rows_with(**where)), Decimal(0))

    def rows_with(self, **where: str | None) -> list[dict[str, str | None]]:
        """Give the rows with these cells."""
        return [
            row for row in self.rows if all(row[name] == value for name, value in where.items())
        ]


def export_file(
    database: Database,
    out: Path,
    *,
    period: Period = SEPTEMBER,
    version: str = DEFAULT_VERSION,
) -> FocusFile:
    """Export the period to the file and read it back."""
    question = FocusQuestion(period, FileKind(out.suffix[1:]), version)
    export = export_focus(database, question, out, price_list=BOOK)
    return FocusFile(out, export, read_rows(out))


def read_rows(path: Path) -> list[dict[str, str | None]]:
    """Give the rows of a file as texts, numbers plainly and without zeros that say nothing."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [
                {name: cell or None for name, cell in row.items()} for row in csv.DictReader(file)
            ]
    return [
        {name: _cell_text(cell) for name, cell in row.items()}
        for row in pl.read_parquet(path).iter_rows(named=True)
    ]


def fill_usage(ledger: Ledger, month: str) -> None:
    """Record usage of two teams on two days of a month, ``2026-09``."""
    growth = {"team": "growth", "feature": "summarise", "tenant": "acme"}
    search = {
        "team": "Suche & Zürich",
        "feature": "ranking",
        "city": "Zürich",
        "environment": "prod",
    }
    record(
        ledger,
        make_event(
            event_id=f"{month}-a",
            occurred_at=f"{month}-03T10:00:00Z",
            account="proj-alpha",
            tags=growth,
            usage={"input_tokens": 10_000, "output_tokens": 5_000, "reasoning_tokens": 1_000},
        ),
        # 900 plain at 1, 500 cached at 0.1, 100 written for 5 minutes at 1.25, 50 for an hour at
        # 2 dollars a million: 0.0009 + 0.00005 + 0.000125 + 0.0001; and 0.000002 of output.
        make_event(
            event_id=f"{month}-b",
            occurred_at=f"{month}-03T11:00:00Z",
            account="proj-beta",
            model="caching",
            tags=search,
            usage={
                "input_tokens": 1_550,
                "cached_input_tokens": 500,
                "cache_write_5m_tokens": 100,
                "cache_write_1h_tokens": 50,
                "output_tokens": 1,
            },
        ),
        make_event(
            event_id=f"{month}-c",
            occurred_at=f"{month}-04T00:00:00Z",
            account="proj-beta",
            tags=search,
            usage={"input_tokens": 30_000, "output_tokens": 0},
        ),
        make_event(
            event_id=f"{month}-d",
            occurred_at=f"{month}-04T23:59:59Z",
            model="gpt-9-zeta",
            account="proj-alpha",
            tags=growth,
            usage={"input_tokens": 77, "output_tokens": 7},
        ),
    )


def make_price_row(digest: str, **facts: Any) -> dict[str, Any]:
    """Give a price row as the ledger keeps it: a dollar a million input tokens."""
    return {
        "digest": digest,
        "provider": "acme",
        "model": "plain",
        "currency": "USD",
        "selector": {"tier": "standard"},
        "rates": dict(PLAIN_RATES),
        "agreed": None,
        "commitment": None,
        "origin": None,
        "valid_from": None,
        "valid_to": None,
        "recorded_at": NOW,
        **facts,
    }


def fill_rollup(
    database: Database,
    price_row: Mapping[str, Any] | None,
    starts_at: datetime,
    *,
    sums: Mapping[str, int],
    **dimensions: Any,
) -> None:
    """Add a daily rollup with a price row of its own, None for none."""
    place = make_dimensions(**{"provider": "acme", "model": "plain", **dimensions})
    with database.transaction() as session:
        [set_id] = intern_dimension_sets(session, [place]).values()
        ids = intern_price_rows(session, [price_row]) if price_row else {"": 0}
        row = {
            "grain_seconds": DAY_SECONDS,
            "starts_at": starts_at,
            "dimension_set_id": set_id,
            "price_row_id": next(iter(ids.values())),
            **dict.fromkeys(MEASURES, 0),
            **sums,
        }
        add_rollups(session, [row])


def fill_commitment(database: Database, starts_at: datetime) -> None:
    """Add a day of usage that capacity covers, its share of what that costs, and the rest of it."""
    covered = make_price_row("covered", commitment="ptu-1")
    share = make_price_row("shares", rates={}, selector={}, agreed={"shares_of": "ptu-1"})
    used = {"requests": 2, "input_tokens": 4_000, "list_nanos": 4 * 10**6}
    fill_rollup(database, covered, starts_at, sums={**used, "contracted_nanos": 4 * 10**6})
    fill_rollup(database, share, starts_at, sums={"effective_nanos": 700_000_001})
    fill_rollup(
        database,
        share,
        starts_at,
        sums={"effective_nanos": 299_999_999},
        model=UNUSED,
        team="unallocated",
    )


def make_line(category: str, amount: str, **facts: Any) -> dict[str, Any]:
    """Give a bill line of acme for the first days of a month, October unless told."""
    line: dict[str, Any] = {
        "import_id": "import",
        "source": "focus",
        "provider": "acme",
        "account": "org-1",
        "project": None,
        "api_key": None,
        "model": None,
        "usage_type": None,
        "description": f"{category} of acme",
        "category": category,
        "is_correction": False,
        "billing_month": 202610,
        "folded_rows": 1,
        "period_start": OCTOBER.start,
        "period_end": datetime(2026, 10, 3, tzinfo=UTC),
        "quantity": None,
        "unit": None,
        "billed_amount": amount,
        "billed_nanos": int(Decimal(amount) * DOLLAR),
        "list_nanos": None,
        "effective_amount": None,
        "invoice_ref": None,
        "currency": "USD",
        "tags": {},
    }
    return line | facts


def fill_bill(database: Database, lines: Sequence[Mapping[str, Any]]) -> None:
    """Store bill lines as one import."""
    bill = {
        "id": "import",
        "source": "focus",
        "file_name": "bill.csv",
        "sha256": "0" * 64,
        "line_count": len(lines),
        "imported_at": NOW,
    }
    numbered = [{**line, "row_number": number} for number, line in enumerate(lines, start=1)]
    with database.transaction() as session:
        insert_rows(session, BillImportRow, [bill])
        insert_rows(session, BillLineRow, numbered)


OCTOBER_LINES = (
    make_line("usage", "0.07", model="plain"),
    make_line("tax", "1.23", description="VAT 20 %"),
    make_line("credit", "-5.00", description="Promotional credit, Zürich"),
    make_line("purchase", "100.00", usage_type="prepaid", list_nanos=120 * DOLLAR),
    make_line("adjustment", "-0.000000000000000000000000000001"),
    make_line("purchase", "9.99", currency="EUR", account="org-eu", description="Support fee"),
    make_line(
        "usage",
        "-0.80",
        is_correction=True,
        description="Refund for September",
        period_start=SEPTEMBER.start,
        period_end=SEPTEMBER.end,
    ),
)


def make_stated(amount_cents: int, **facts: Any) -> StatementLine:
    """Give a row of September's statement for so many cents: usage of growth, spread."""
    corrects = facts.pop("corrects", None)
    metered = facts.pop("metered_nanos", None)
    key = LineKey(
        **{
            "service_month": 202609,
            "team": "growth",
            "feature": "summarise",
            "tenant": "acme",
            "cost_center": None,
            "provider": "acme",
            "account": "org-1",
            "model": "plain",
            "origin": Origin.USAGE,
            "method": Method.SPREAD,
            "rule": None,
            **facts,
        }
    )
    return StatementLine(key, amount_cents * DOLLAR // 100, metered, corrects=corrects)


SEARCH = {"team": "Suche & Zürich", "feature": "ranking", "tenant": None}
SEPTEMBER_LINES = (
    make_stated(3),
    make_stated(4, **SEARCH),
    make_stated(1, **SEARCH, model="caching"),
    make_stated(
        30, team="unallocated", feature=None, tenant=None, model=UNUSED, origin=Origin.UNUSED
    ),
    make_stated(70, feature=None, tenant=None),
    make_stated(
        250,
        **{**SEARCH, "team": "Untracked", "feature": None},
        model=None,
        origin=Origin.UNTRACKED,
        method=Method.RESIDUAL,
    ),
    make_stated(123, model=None, origin=Origin.TAX, method=Method.BY_DIRECT_COST, rule="tax"),
    make_stated(-500, model=None, origin=Origin.CREDIT, method=Method.EVENLY),
    make_stated(1_000, model=None, origin=Origin.PURCHASE, method=Method.FIXED, rule="support"),
    make_stated(-10, model=None, origin=Origin.ADJUSTMENT, method=Method.BY_TOKENS),
    make_stated(2, service_month=202608, corrects="august"),
    make_stated(-2, service_month=202608, corrects="august", **SEARCH),
)


def close_september(
    database: Database, lines: Sequence[StatementLine] = SEPTEMBER_LINES
) -> StatementHeader:
    """Store a closed statement of September with these rows."""
    total = sum(line.amount_nanos for line in lines)
    august = StatementHeader(
        statement_id="august",
        month=202608,
        version=1,
        state=StatementState.CLOSED,
        currency="USD",
        known_at=NOW,
        recorded_at=NOW,
        recorded_by=None,
        grace_ends_at=None,
        closed_at=NOW,
        approved_by=None,
        reason=None,
        rules_version=0,
        total_nanos=0,
        invoices=(),
        notes=(),
        digest="0" * 64,
    )
    september = replace(
        august,
        statement_id="september",
        month=202609,
        total_nanos=total,
        invoices=(StatedInvoice(202609, Invoice("acme", "org-1", total)),),
    )
    with database.transaction() as session:
        add_statement(session, august, [])
        add_statement(session, september, lines)
    return september


def fill_everything(services: Services, ledger: Ledger) -> None:
    """Record usage of both months, the bill of October and the closed statement of September."""
    for month in ("2026-09", "2026-10"):
        fill_usage(ledger, month)
        fill_commitment(services.database, datetime.fromisoformat(f"{month}-05T00:00:00Z"))
    fill_bill(services.database, OCTOBER_LINES)
    close_september(services.database)


def _cell_text(cell: object) -> str | None:
    if isinstance(cell, Decimal):
        text = format(cell, "f").rstrip("0")
        return f"{text}0" if text.endswith(".") else text
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%dT%H:%M:%SZ")
    return None if cell is None else str(cell)

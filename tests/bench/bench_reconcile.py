"""How long it takes to reconcile a month of a million daily rollups with 50,000 bill lines.

One company on SQLite: every rollup is of its own day, model, account and bearer. Nine keys of ten
match their lines; the last ones go by another name, and a key that nobody reports is on top. What
is measured is the product's own reading and matching, and the untracked names of the same month.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from sqlmodel import SQLModel

from tests.bench import BenchRow
from tests.rollup_builders import make_dimensions
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.services.coverage import find_untracked_spend
from tokenbudget.services.reconciliation import MonthFacts, Reading, reconcile_month
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.ledger import intern_dimension_sets
from tokenbudget.store.tables import BillImportRow, BillLineRow, RollupRow

ROLLUPS, LINES = 1_000_000, 50_000
QUICK_ROLLUPS, QUICK_LINES = 100_000, 5_000
DAYS, MODELS, ACCOUNTS, TEAMS = 30, 20, 40, 10
MONTH = 202609
FIRST = datetime(2026, 9, 1, tzinfo=UTC)
NANOS = 1_000_000
MAX_SECONDS = 10
ROWS_AT_ONCE = 50_000
READING = Reading("USD", PriceList([], version="bench"))


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give the times of reconciling and of finding what is untracked, and what was lost."""
    rollups, lines = (QUICK_ROLLUPS, QUICK_LINES) if is_quick else (ROLLUPS, LINES)
    with TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{Path(directory) / 'bills.db'}", sqlite_synchronous="OFF")
        SQLModel.metadata.create_all(database.engine)
        fill(database, rollups, lines)
        started = perf_counter()
        facts = reconcile_month(database, MONTH, READING)
        seconds = perf_counter() - started
        started = perf_counter()
        find_untracked_spend(database, MONTH, READING)
        finding_seconds = perf_counter() - started
        database.close()
    name = f"{len(facts.metered):,} metered against {len(facts.lines):,} lines"
    lost = _lost(facts, rollups)
    return [
        BenchRow(
            f"reconciling {name}",
            seconds,
            "s",
            None,
            None,
            f"<= {MAX_SECONDS} s",
            seconds <= MAX_SECONDS,
        ),
        BenchRow("the same, and untracked names", finding_seconds, "s", None, None, "-", True),
        BenchRow("reconciling: nanos lost", lost, "nanos", None, None, "0", lost == 0),
    ]


def fill(database: Database, rollups: int, lines: int) -> None:
    """Put the month into an empty ledger."""
    sets = _sets(rollups)
    dimensions = [
        make_dimensions(
            model=f"model-{place % MODELS}",
            account=f"key-{place // MODELS % ACCOUNTS}",
            team=f"team-{place % TEAMS}",
            tenant=f"tenant-{place}",
        )
        for place in range(sets)
    ]
    with database.transaction() as session:
        ids = list(intern_dimension_sets(session, dimensions).values())
        for first in range(0, len(ids), ROWS_AT_ONCE // DAYS):
            chunk = ids[first : first + ROWS_AT_ONCE // DAYS]
            insert_rows(
                session, RollupRow, [_rollup(each, day) for each in chunk for day in _days()]
            )
        insert_rows(session, BillImportRow, [_imported(lines)])
        insert_rows(session, BillLineRow, list(_lines(sets, lines)))


def _sets(rollups: int) -> int:
    return -(-rollups // DAYS)


def _days() -> list[datetime]:
    return [FIRST + timedelta(days=number) for number in range(DAYS)]


def _rollup(set_id: int, day: datetime) -> dict[str, Any]:
    return {
        "grain_seconds": DAY_SECONDS,
        "starts_at": day,
        "dimension_set_id": set_id,
        "price_row_id": 1,
        "requests": 1,
        "input_tokens": 10,
        "output_tokens": 5,
        "list_nanos": NANOS,
        "contracted_nanos": NANOS,
        "effective_nanos": NANOS,
    }


def _imported(lines: int) -> dict[str, Any]:
    return {
        "id": "bench",
        "source": "focus",
        "file_name": "bench",
        "sha256": "bench",
        "line_count": lines,
        "imported_at": FIRST,
    }


def _lines(sets: int, lines: int) -> Iterator[dict[str, Any]]:
    """Give the lines, those of one key, model and day as often as it takes."""
    groups = MODELS * ACCOUNTS * DAYS
    for place in range(lines):
        group, is_rogue = place % groups, place >= lines - ACCOUNTS
        model, rest = group % MODELS, group // MODELS
        account, day = rest % ACCOUNTS, rest // ACCOUNTS
        parts = len(range(group, lines - ACCOUNTS, groups)) or 1
        members = len(range(account * MODELS + model, sets, MODELS * ACCOUNTS))
        nanos = NANOS * members // parts
        is_renamed = account >= ACCOUNTS * 9 // 10
        yield {
            "import_id": "bench",
            "row_number": place,
            "source": "focus",
            "provider": "openai",
            "account": "org",
            "api_key": "rogue" if is_rogue else f"{'other-' if is_renamed else ''}key-{account}",
            "model": f"model-{model}",
            "usage_type": f"unit-{place // groups}",
            "category": "usage",
            "billing_month": MONTH,
            "period_start": FIRST + timedelta(days=day),
            "period_end": FIRST + timedelta(days=day + 1),
            "billed_amount": str(Decimal(nanos).scaleb(-9)),
            "billed_nanos": nanos,
            "currency": "USD",
            "tags": {},
        }


def _lost(facts: MonthFacts, rollups: int) -> int:
    """Give what differs between the rows and what was put in, in nanos."""
    result = facts.reconciliation
    expected = Decimal(_sets(rollups) * DAYS * NANOS).scaleb(-9)
    invoiced = sum((line.amount for line in facts.lines), Decimal(0))
    return int((abs(result.metered - expected) + abs(result.invoiced - invoiced)) * 10**9)

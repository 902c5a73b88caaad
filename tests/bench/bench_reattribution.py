"""How long it takes to attribute a million usages again, on SQLite.

The ledger is that of ``bench_rerating``: one company for a month, in 120 combinations of owners. A
thousand dated rules and a thousand mappings are in force, and one more rule moves all usage. What
is measured is the product's own dry run, approval and second approval, and placing a call by those
rules before and after it is remembered.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from tests.bench import BenchRow
from tests.bench.bench_rerating import EVENTS, FIRST, NOW, QUICK_EVENTS, WRONG_BOOK, fill
from tokenbudget.domain.allocation import Caller, CallFacts
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.reattribution import UsePeriod
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.placement import Memory
from tokenbudget.services.reattribution import approve_reattribution, propose_reattribution
from tokenbudget.services.rulebook import RulebookShelf
from tokenbudget.services.selfcheck import selfcheck
from tokenbudget.services.tag_rules import apply_tag_rules
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import ChargeRow, RollupRow

RULES = 1_000
PLACED = 20_000
MAX_DRY_RUN_SECONDS = 10
MAX_APPLY_SECONDS = 60
MAX_PLACING_MICROSECONDS = 200
MICROSECONDS = 1_000_000


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give the times of dry run, apply and placing, and what a second apply finds."""
    with TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{Path(directory) / 'reattribution.db'}")
        SQLModel.metadata.create_all(database.engine)
        fill(database, QUICK_EVENTS if is_quick else EVENTS)
        apply_tag_rules(database, parse_tag_rules(make_rules()), now=NOW)
        rows = [*measure(database), *measure_placing(database)]
        database.close()
    return rows


def make_rules() -> dict[str, Any]:
    """Give a thousand mappings, a thousand rules of thirty days, and one that moves all usage."""
    mappings = [
        {"match": {"provider": "acme", "account": f"proj-{n}"}, "tags": {"team": f"team-{n}"}}
        for n in range(RULES)
    ]
    rules = [
        {
            "name": f"rule {n}",
            "when": {"tenant": f"tenant-{n + 1_000}", "environment": {"not": "dev"}},
            "set": {"experiment": f"e{n}"},
            "valid_from": format_instant(FIRST + timedelta(days=n % 30)),
        }
        for n in range(RULES)
    ]
    moves_all = {"name": "all", "when": {"provider": "acme"}, "set": {"environment": "prod"}}
    return {"mapping": mappings, "rule": [*rules, moves_all]}


def measure(database: Database) -> list[BenchRow]:
    """Give the rows of a ledger whose usage all counts elsewhere now."""
    before = _total(database)
    started = perf_counter()
    proposed = propose_reattribution(database, UsePeriod(), now=NOW)
    dry_seconds = perf_counter() - started
    number = proposed.reattribution_id
    started = perf_counter()
    applied = approve_reattribution(database, WRONG_BOOK, number, now=NOW)
    apply_seconds = perf_counter() - started
    charges = _count(database)
    approve_reattribution(database, WRONG_BOOK, number, now=NOW)
    left = propose_reattribution(database, UsePeriod(), now=NOW).proposed.usages
    broken = sum(len(finding.broken) for finding in selfcheck(database))
    usages = applied.applied.usages
    name = f"re-attributing {usages:,} usages"
    return [
        _at_most(f"{name}: dry run", dry_seconds, "s", MAX_DRY_RUN_SECONDS),
        _at_most(f"{name}: apply", apply_seconds, "s", MAX_APPLY_SECONDS),
        _nothing("re-attributing: change of the total", _total(database) - before, "nanos"),
        _nothing("re-attributing: charges of a second apply", _count(database) - charges, "rows"),
        _nothing("re-attributing: left to move, invariants broken", left + broken, "items"),
    ]


def measure_placing(database: Database) -> list[BenchRow]:
    """Give what placing a call costs by two thousand rules: the first time, and remembered."""
    memory = Memory(frozenset())
    with database.reading() as session:
        rules = RulebookShelf(WRONG_BOOK).consult(session)
    calls = [
        (CallFacts("acme", "m", account=f"proj-{n}"), {"feature": f"f{n % 50}"})
        for n in range(PLACED)
    ]
    times = []
    for _ in range(2):
        started = perf_counter()
        for call, tags in calls:
            memory.place(call, tags, Caller("k"), rules, NOW)
        times.append(round((perf_counter() - started) * MICROSECONDS / PLACED, 1))
    first, again = times
    return [
        _at_most("placing a new call by 2,001 rules", first, "µs", MAX_PLACING_MICROSECONDS),
        BenchRow("placing it again, remembered", again, "µs", None, None, "-", True),
    ]


def _total(database: Database) -> int:
    """Give what the daily rollups add up to, in nanos."""
    table = table_of(RollupRow)
    statement = sa.select(sa.func.sum(table.c.effective_nanos)).where(
        table.c.grain_seconds == DAY_SECONDS
    )
    return _scalar(database, statement)


def _count(database: Database) -> int:
    return _scalar(database, sa.select(sa.func.count()).select_from(table_of(ChargeRow)))


def _scalar(database: Database, statement: sa.Select[Any]) -> int:
    with database.reading() as session:
        return int(session.connection().execute(statement).scalar() or 0)


def _at_most(name: str, found: float, unit: str, most: int) -> BenchRow:
    return BenchRow(name, found, unit, None, None, f"<= {most} {unit}", found <= most)


def _nothing(name: str, found: int, unit: str) -> BenchRow:
    return BenchRow(name, found, unit, None, None, "0", found == 0)

"""How long it takes to find and to mend a wrong price over a million usages, on SQLite.

One company for a month: 6 teams, 15 features and 40 tenants in 120 combinations, all usage of one
model whose input was priced a tenth too low, two budgets counting along. The ledger is filled in
bulk; what is measured is the product's own dry run, approval and second approval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from tests.bench import BenchRow
from tests.builders import make_budget, set_budgets
from tests.price_builders import make_model, make_price, make_price_list
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.rerating import RerateScope
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.services.postings import MICROS_PER_SECOND
from tokenbudget.services.price_rows import price_row_of
from tokenbudget.services.rerating import approve_rerate, propose_rerate
from tokenbudget.services.selfcheck import selfcheck
from tokenbudget.store.columns import columns_of
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.ledger import (
    add_rollups,
    append_charges,
    append_usage,
    digest_of,
    intern_dimension_sets,
    intern_price_list,
    intern_price_rows,
    intern_sources,
)
from tokenbudget.store.tables import ChargeRow, RollupRow

EVENTS, QUICK_EVENTS = 1_000_000, 50_000
EVENTS_PER_BATCH = 50_000
SEED = 20261121
COMBINATIONS = 120
TEAMS, FEATURES, TENANTS = 6, 15, 40
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
FIRST_SECOND = to_micros(FIRST) // MICROS_PER_SECOND
SPAN_SECONDS = 30 * 86_400
NOW = datetime(2026, 11, 2, tzinfo=UTC)
PERIOD = 202610
INPUT_NANOS, OUTPUT_NANOS = 1_000, 2_000
WRONG = make_price({"input_tokens": 1_000_000, "output_tokens": 2_000_000}, recorded_at=FIRST)
FIX = make_price({"input_tokens": 1_100_000, "output_tokens": 2_000_000}, recorded_at=NOW)
WRONG_BOOK = make_price_list(make_model(WRONG), version="wrong")
FIXED_BOOK = make_price_list(make_model(WRONG, FIX), version="fixed")
MAX_DRY_RUN_SECONDS = 10
MAX_APPLY_SECONDS = 60

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids under which usage of the bulk is stored."""

    source_id: int
    dimension_set_ids: Sequence[int]
    price_row_id: int
    price_list_id: int


@dataclass(frozen=True, slots=True)
class BulkUsage:
    """One usage of the bulk: which combination of owners used how much, and when."""

    usage_id: int
    second: int
    combination: int
    input_tokens: int
    output_tokens: int

    @property
    def nanos(self) -> int:
        """Give what the wrong book charges: a dollar a million in, two out."""
        return self.input_tokens * INPUT_NANOS + self.output_tokens * OUTPUT_NANOS


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give the times of dry run and apply, and what a second apply and the self-check find."""
    with TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{Path(directory) / 'rerating.db'}")
        SQLModel.metadata.create_all(database.engine)
        fill(database, QUICK_EVENTS if is_quick else EVENTS)
        rows = measure(database)
        database.close()
    return rows


def measure(database: Database) -> list[BenchRow]:
    """Give the rows of a ledger that was filled by the wrong book."""
    before = _total(database)
    proposed, dry_seconds = _timed(
        lambda: propose_rerate(database, FIXED_BOOK, RerateScope(), now=NOW)
    )
    applied, apply_seconds = _timed(
        lambda: approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=NOW)
    )
    gap = _total(database) - before - proposed.proposed.effective_nanos
    charges = _count(database)
    approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=NOW)
    left = propose_rerate(database, FIXED_BOOK, RerateScope(), now=NOW).proposed.usages
    broken = sum(len(finding.broken) for finding in selfcheck(database))
    usages = applied.applied.usages
    return [
        _seconds(f"re-rating {usages:,} usages: dry run", dry_seconds, MAX_DRY_RUN_SECONDS),
        _seconds(f"re-rating {usages:,} usages: apply", apply_seconds, MAX_APPLY_SECONDS),
        _nothing("re-rating: total less the difference shown", gap, "nanos"),
        _nothing("re-rating: charges added by a second apply", _count(database) - charges, "rows"),
        _nothing("re-rating: left to move, invariants broken", left + broken, "items"),
    ]


def fill(database: Database, events: int) -> None:
    """Record so many usages in order of time, with charges, rollups and counters."""
    random = Random(SEED)
    sums: dict[tuple[int, int], list[int]] = {}
    with database.transaction() as session:
        ids = _intern(session)
    for first in range(0, events, EVENTS_PER_BATCH):
        numbers = range(first, min(first + EVENTS_PER_BATCH, events))
        batch = [_bulk_usage(random, number, events) for number in numbers]
        with database.transaction() as session:
            append_usage(session, columns_of([_usage_row(usage, ids) for usage in batch]))
            append_charges(session, columns_of([_charge_row(usage, ids) for usage in batch]))
        for usage in batch:
            _sum_up(usage, sums)
    with database.transaction() as session:
        add_rollups(session, list(_rollup_rows(sums, ids)))
    usual: dict[str, Any] = {"limit": "1000000.00", "valid_from": "2026-10-01T00:00:00Z"}
    set_budgets(
        database,
        make_budget(id="team-1", selector={"team": "team-1"}, **usual),
        make_budget(id="tenants", split_by=["tenant"], window="day", **usual),
        now=NOW,
    )


def _intern(session: Session) -> Ids:
    combinations = [
        DimensionSet(
            team=f"team-{number % TEAMS}",
            feature=f"feature-{number % FEATURES}",
            tenant=f"tenant-{number % TENANTS}",
            provider="acme",
            model="m",
            service_tier="standard",
        )
        for number in range(COMBINATIONS)
    ]
    set_ids = intern_dimension_sets(session, combinations)
    match = WRONG_BOOK.find("acme", "m", occurred_at=NOW)
    if match is None:
        raise AssertionError("the wrong book prices the model")
    row = price_row_of(match, NOW)
    return Ids(
        source_id=intern_sources(session, ["bench"])["bench"],
        dimension_set_ids=[set_ids[digest_of(each)] for each in combinations],
        price_row_id=intern_price_rows(session, [row])[match.price_digest],
        price_list_id=intern_price_list(session, WRONG_BOOK.version, now=NOW),
    )


def _bulk_usage(random: Random, number: int, events: int) -> BulkUsage:
    return BulkUsage(
        usage_id=number + 1,
        second=FIRST_SECOND + number * SPAN_SECONDS // events,
        combination=random.randrange(COMBINATIONS),
        input_tokens=random.randrange(20_000),
        output_tokens=random.randrange(2_000),
    )


def _usage_row(usage: BulkUsage, ids: Ids) -> dict[str, Any]:
    return {
        "id": usage.usage_id,
        "source_id": ids.source_id,
        "event_ref": f"e{usage.usage_id}",
        "revision": 0,
        "content_hash": usage.usage_id,
        "occurred_at": from_micros(usage.second * MICROS_PER_SECOND),
        "recorded_at": NOW,
        "dimension_set_id": ids.dimension_set_ids[usage.combination],
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "attempt": 1,
    }


def _charge_row(usage: BulkUsage, ids: Ids) -> dict[str, Any]:
    return {
        "usage_id": usage.usage_id,
        "sequence": 0,
        "basis": "rated",
        "price_row_id": ids.price_row_id,
        "price_list_id": ids.price_list_id,
        "list_nanos": usage.nanos,
        "contracted_nanos": usage.nanos,
        "effective_nanos": usage.nanos,
        "accounting_period": PERIOD,
    }


def _sum_up(usage: BulkUsage, sums: dict[tuple[int, int], list[int]]) -> None:
    key = (usage.second - usage.second % QUARTER_HOUR_SECONDS, usage.combination)
    present = sums.setdefault(key, [0, 0, 0, 0])
    measured = (usage.nanos, 1, usage.input_tokens, usage.output_tokens)
    sums[key] = [a + b for a, b in zip(present, measured, strict=True)]


def _rollup_rows(
    sums: Mapping[tuple[int, int], Sequence[int]], ids: Ids
) -> Iterator[dict[str, Any]]:
    for (second, combination), (nanos, requests, input_tokens, output_tokens) in sums.items():
        measures = {
            **dict.fromkeys(MEASURES, 0),
            **dict.fromkeys(("list_nanos", "contracted_nanos", "effective_nanos"), nanos),
            "requests": requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
        }
        for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS):
            yield {
                "grain_seconds": grain,
                "starts_at": from_micros((second - second % grain) * MICROS_PER_SECOND),
                "dimension_set_id": ids.dimension_set_ids[combination],
                "price_row_id": ids.price_row_id,
                **measures,
            }


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


def _timed(work: Callable[[], ResultT]) -> tuple[ResultT, float]:
    started = perf_counter()
    result = work()
    return result, perf_counter() - started


def _seconds(name: str, seconds: float, most: int) -> BenchRow:
    return BenchRow(name, seconds, "s", None, None, f"<= {most} s", seconds <= most)


def _nothing(name: str, found: int, unit: str) -> BenchRow:
    return BenchRow(name, found, unit, None, None, "0", found == 0)

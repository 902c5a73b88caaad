"""How long a month by team and feature takes, and whether ten times the events make it longer.

One company, SQLite: 6 teams, 15 features, each used by 12 of 40 tenants on 2 of 4 models, some far
more than others. The calls to the two databases alternate, so that a slow moment of the machine
falls on both.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

from sqlmodel import SQLModel

from tests.bench import BenchRow
from tests.rollup_builders import CENT, RolledUsage, make_dimensions, roll_up
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.periods import QUARTER_HOUR, Period
from tokenbudget.services.costs import CostQuery, query_costs
from tokenbudget.store.db import Database

EVENTS = 100_000
MANY_TIMES = 10
CALLS = 200
MAX_P95_MS = 50
MAX_RATIO = 1.1
TEAMS, FEATURES, TENANTS, MODELS = 6, 15, 40, 4
TENANTS_PER_FEATURE, MODELS_PER_TENANT = 12, 2
MONTH = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
QUESTION = CostQuery(MONTH, ("team", "feature"))


def run() -> list[BenchRow]:
    """Give the p95 at N and 10 N events, and the ratio of the medians."""
    with TemporaryDirectory() as directory:
        few = _filled(Path(directory) / "few.db", EVENTS)
        many = _filled(Path(directory) / "many.db", EVENTS * MANY_TIMES)
        few_ms, many_ms = _alternate(few, many)
        few.close()
        many.close()
    return [
        _p95_row(EVENTS, few_ms),
        _p95_row(EVENTS * MANY_TIMES, many_ms),
        _growth_row(median(few_ms), median(many_ms)),
    ]


def _filled(path: Path, events: int) -> Database:
    database = Database(f"sqlite:///{path}", sqlite_synchronous="NORMAL")
    SQLModel.metadata.create_all(database.engine)
    fill(database, events)
    return database


def fill(database: Database, events: int) -> None:
    """Roll up that many events of the month into a database that has the tables."""
    chance = random.Random(events)
    combinations = _combinations(random.Random(1))
    weights = [1 / (place + 1) ** 0.5 for place in range(len(combinations))]
    quarters = (MONTH.end - MONTH.start) // QUARTER_HOUR
    cells = Counter(
        (chosen, chance.randrange(quarters))
        for chosen in chance.choices(range(len(combinations)), weights, k=events)
    )
    roll_up(
        database,
        (
            _usage(combinations[chosen], MONTH.start + quarter * QUARTER_HOUR, count)
            for (chosen, quarter), count in cells.items()
        ),
    )


def _combinations(chance: random.Random) -> list[DimensionSet]:
    return [
        make_dimensions(
            team=f"team-{feature % TEAMS}",
            feature=f"feature-{feature}",
            tenant=f"tenant-{tenant}",
            model=f"model-{model}",
        )
        for feature in range(FEATURES)
        for tenant in chance.sample(range(TENANTS), TENANTS_PER_FEATURE)
        for model in chance.sample(range(MODELS), MODELS_PER_TENANT)
    ]


def _usage(dimensions: DimensionSet, occurred_at: datetime, requests: int) -> RolledUsage:
    measures = {
        "list_nanos": CENT * requests,
        "contracted_nanos": CENT * requests,
        "effective_nanos": CENT * requests,
        "requests": requests,
        "input_tokens": 1_500 * requests,
        "output_tokens": 200 * requests,
    }
    return RolledUsage(occurred_at, dimensions, measures)


def _alternate(few: Database, many: Database) -> tuple[list[float], list[float]]:
    for database in (few, many):
        query_costs(database, QUESTION)
    pairs = [(_milliseconds(few), _milliseconds(many)) for _ in range(CALLS)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _milliseconds(database: Database) -> float:
    started = perf_counter()
    query_costs(database, QUESTION)
    return (perf_counter() - started) * 1_000


def _p95_row(events: int, milliseconds: list[float]) -> BenchRow:
    p95 = quantiles(milliseconds, n=20)[-1]
    name = f"costs: month by team and feature, {events:,} events, p95"
    return BenchRow(name, p95, "ms", None, None, f"≤ {MAX_P95_MS} ms", p95 <= MAX_P95_MS)


def _growth_row(few_ms: float, many_ms: float) -> BenchRow:
    ratio = many_ms / few_ms
    name = f"costs: median with {MANY_TIMES}× the events"
    return BenchRow(name, many_ms, "ms", few_ms, ratio, f"≤ {MAX_RATIO}×", ratio <= MAX_RATIO)

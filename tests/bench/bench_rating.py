"""How fast usage is rated: whole tables at once, and one by one, resolving of prices included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from time import perf_counter

import polars as pl

from tests.bench import BenchRow
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.frames.rating import rate_frame
from tokenbudget.settings import packaged_path

EVENTS = 1_000_000
ONE_BY_ONE = 20_000
REPEATS = 7
SEED = 20261121
MODELS = 50
PROVIDERS = ("openai", "anthropic", "google", "mistral", "deepseek", "xai", "bedrock", "groq")
TIERS = (None, "standard", "batch", "priority")
UNITS = ("input_tokens", "cached_input_tokens", "cache_write_5m_tokens", "output_tokens")
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
SPAN_SECONDS = 680 * 86_400
TABLE_TARGET = 3_000_000
ONE_BY_ONE_TARGET_MICROS = 15
LOAD_TARGET_SECONDS = 0.5


def run() -> list[BenchRow]:
    """Give events a second for tables, microseconds an event one by one, and the time to load."""
    directory = packaged_path("pricing")
    load_seconds = _best(lambda: load_price_book(directory))
    price_list = load_price_book(directory)
    events = make_events(price_list, EVENTS)
    pairs = as_pairs(events.head(ONE_BY_ONE))
    table_seconds = _best(lambda: rate_frame(events, price_list))
    single_seconds = _best(lambda: _rate_one_by_one(pairs, price_list))
    by_table, by_one = EVENTS / table_seconds, ONE_BY_ONE / single_seconds
    micros = 1_000_000 / by_one
    return [
        BenchRow(
            name="rating a table of 1 M events",
            figure=by_table,
            unit="events/s",
            baseline=by_one,
            ratio=by_table / by_one,
            target=f">= {TABLE_TARGET:,} events/s",
            passed=by_table >= TABLE_TARGET,
        ),
        BenchRow(
            name="rating one usage",
            figure=micros,
            unit="us",
            baseline=None,
            ratio=None,
            target=f"<= {ONE_BY_ONE_TARGET_MICROS} us",
            passed=micros <= ONE_BY_ONE_TARGET_MICROS,
        ),
        BenchRow(
            name="loading the price book",
            figure=load_seconds,
            unit="s",
            baseline=None,
            ratio=None,
            target=f"<= {LOAD_TARGET_SECONDS} s",
            passed=load_seconds <= LOAD_TARGET_SECONDS,
        ),
    ]


def make_events(price_list: PriceList, count: int) -> pl.DataFrame:
    """Give that many events of fifty models over two years, in random order of time."""
    random = Random(SEED)
    names = [
        (prices.provider, model.model)
        for prices in price_list.providers
        if prices.provider in PROVIDERS
        for model in prices.models
    ]
    chosen = random.choices(random.sample(names, MODELS), k=count)
    totals = [random.randrange(300_000) for _ in range(count)]
    return pl.DataFrame(
        {
            "provider": [provider for provider, _ in chosen],
            "model": [model for _, model in chosen],
            "service_tier": random.choices(TIERS, k=count),
            "seconds": [random.randrange(SPAN_SECONDS) for _ in range(count)],
            "input_tokens": totals,
            "cached_input_tokens": [total // 3 for total in totals],
            "cache_write_5m_tokens": [total // 10 for total in totals],
            "output_tokens": [random.randrange(3_000) for _ in range(count)],
        }
    ).select(
        pl.exclude("seconds"),
        occurred_at=pl.lit(FIRST).dt.cast_time_unit("us") + pl.duration(seconds="seconds"),
    )


def as_pairs(events: pl.DataFrame) -> list[tuple[RatingFacts, dict[str, int]]]:
    """Give the events as the facts and quantities that the domain takes."""
    return [
        (
            RatingFacts(row["provider"], row["model"], row["occurred_at"], row["service_tier"]),
            {unit: row[unit] for unit in UNITS},
        )
        for row in events.iter_rows(named=True)
    ]


def _rate_one_by_one(
    pairs: Sequence[tuple[RatingFacts, dict[str, int]]], price_list: PriceList
) -> None:
    for facts, quantities in pairs:
        rate(quantities, facts, price_list)


def _best(work: Callable[[], object]) -> float:
    """Give the seconds of the fastest run: others on the machine can only make one slower."""
    best = float("inf")
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
    return best

"""How fast usage is rated: whole tables at once, and one by one, resolving of prices included.

genai-prices' ``calc_price`` rates usage of the same table in the same run, a call at a time. It is
called as its users call it: ``Usage`` is built, provider, time and tier are given, and its own
cache of names is warm. Usage of a model that it does not know is left out.
The table comes twice: with its names as text, and as categories, which is how a column of names is
kept in Parquet and Arrow files. Names are resolved in either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from random import Random
from time import perf_counter
from typing import Any

import polars as pl
from genai_prices import Usage, calc_price

from tests.bench import BenchRow
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.frames.rating import rate_frame
from tokenbudget.settings import packaged_path

EVENTS = 1_000_000
ONE_BY_ONE = 20_000
REPEATS = 15
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
CALLS = 2_000
CALL_RATIO_TARGET = 1_000
PACKAGE_PROVIDERS = {"bedrock": "aws", "xai": "x-ai"}

Call = Callable[[], object]


def run() -> list[BenchRow]:
    """Give events a second for tables, microseconds an event one by one, and the time to load."""
    directory = packaged_path("pricing")
    load_seconds = _best(lambda: load_price_book(directory))
    price_list = load_price_book(directory)
    events = make_events(price_list, EVENTS)
    pairs = as_pairs(events.head(ONE_BY_ONE))
    calls = as_calls(events)
    coded = events.with_columns(pl.col(pl.String).cast(pl.Categorical))
    by_table = EVENTS / _best(lambda: rate_frame(events, price_list))
    by_codes = EVENTS / _best(lambda: rate_frame(coded, price_list))
    by_one = ONE_BY_ONE / _best(lambda: _rate_one_by_one(pairs, price_list))
    by_call = len(calls) / _best(lambda: [call() for call in calls])
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
        _against_package("names as text", by_table, by_call),
        _against_package("names as categories", by_codes, by_call),
        BenchRow(
            name="rating one usage",
            figure=micros,
            unit="us",
            baseline=1_000_000 / by_call,
            ratio=by_call / by_one,
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


def _against_package(names: str, by_table: float, by_call: float) -> BenchRow:
    return BenchRow(
        name=f"rating a table, {names}, against calc_price of genai-prices per call",
        figure=by_table,
        unit="events/s",
        baseline=by_call,
        ratio=by_table / by_call,
        target=f">= {CALL_RATIO_TARGET:,} x",
        passed=by_table >= CALL_RATIO_TARGET * by_call,
    )


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


def as_calls(events: pl.DataFrame) -> list[Call]:
    """Give CALLS of the first events as calls of the package, less those whose model it misses."""
    found: list[Call] = []
    for row in events.iter_rows(named=True):
        call = partial(_call_package, row)
        try:
            call()
        except LookupError:
            continue
        found.append(call)
        if len(found) == CALLS:
            break
    return found


def _call_package(row: Mapping[str, Any]) -> object:
    tier = row["service_tier"]
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier else None
    usage = Usage(
        input_tokens=row["input_tokens"],
        cache_read_tokens=row["cached_input_tokens"],
        cache_write_tokens=row["cache_write_5m_tokens"],
        output_tokens=row["output_tokens"],
    )
    return calc_price(
        usage,
        row["model"],
        provider_id=PACKAGE_PROVIDERS.get(row["provider"], row["provider"]),
        genai_request_timestamp=row["occurred_at"],
        price_context=context,
    )


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

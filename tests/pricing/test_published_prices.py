"""The price book that ships agrees with real bookings, with published figures and with itself."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from tokenbudget.domain.money import NANOS_PER_UNIT, decimal_to_nanos
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import Charge, RatingFacts, rate
from tokenbudget.domain.usage import Basis
from tokenbudget.formats.price_book import load_price_book, read_sources
from tokenbudget.formats.price_lint import lint_price_book
from tokenbudget.settings import packaged_path

AIDER = Path(__file__).parents[1] / "data" / "aider_author_usage.csv.gz"
AIDER_ROWS = 4_045
NOISE = Decimal("1e-9")
"""The tool summed in binary fractions and wrote up to eighteen digits."""

PREFIXES = {
    "fireworks_ai": "fireworks",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "together_ai": "together",
    "vertex_ai": "google",
}
BARE_NAMES = {
    "claude": "anthropic",
    "gemini": "google",
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
}
PRICED_LIKE_THE_TOOL = {
    "gpt-4o": 19,
    "gpt-4o-mini": 38,
    "openai/gpt-4o-mini": 1,
    "o3-mini": 90,
    "gpt-5": 15,
    "gpt-5.2": 5,
    "gemini/gemini-2.5-pro": 39,
}
HIDDEN_CACHE_ROWS = {
    "claude-3-5-sonnet-20241022": 5,
    "anthropic/claude-3-7-sonnet-20250219": 1,
    "claude-3-5-haiku-20241022": 1,
    "o3": 3,
    "deepseek/deepseek-chat": 11,
}
"""Rows whose cost shows prompt-cache reads or writes that the token columns hide."""


@dataclass(frozen=True)
class Booking:
    """One request of the tool, what it booked then and what it costs by our book."""

    main_model: str
    occurred_at: datetime
    booked: Decimal
    charge: Charge

    @property
    def is_equal(self) -> bool:
        """Tell whether the charge is the booked cost."""
        nanos = self.charge.list_nanos
        return nanos is not None and abs(Decimal(nanos) / NANOS_PER_UNIT - self.booked) <= NOISE


@cache
def published() -> PriceList:
    """Give the price book that ships."""
    return load_price_book(packaged_path("pricing"))


def split_model(main_model: str) -> tuple[str, str]:
    """Give provider and model of the tool's names, whose prefix is optional."""
    prefix, slash, rest = main_model.partition("/")
    if slash:
        return PREFIXES.get(prefix, prefix), rest
    found = (provider for start, provider in BARE_NAMES.items() if main_model.startswith(start))
    return next(found, ""), main_model


def bookings() -> Iterator[Booking]:
    """Give every row of the recording."""
    with gzip.open(AIDER, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            provider, model = split_model(row["main_model"])
            occurred_at = datetime.fromisoformat(row["time_utc"])
            quantities = {
                "input_tokens": int(row["prompt_tokens"]),
                "output_tokens": int(row["completion_tokens"]),
            }
            charge = rate(quantities, RatingFacts(provider, model, occurred_at), published())
            yield Booking(row["main_model"], occurred_at, Decimal(row["cost_usd"]), charge)


@cache
def bookings_by_model() -> dict[str, list[Booking]]:
    """Give the rows by the tool's model name, in order of time."""
    found: dict[str, list[Booking]] = {}
    for booking in sorted(bookings(), key=lambda booking: booking.occurred_at):
        found.setdefault(booking.main_model, []).append(booking)
    return found


@pytest.mark.parametrize(("main_model", "count"), PRICED_LIKE_THE_TOOL.items())
def test_every_row_of_a_model_costs_what_was_booked(main_model: str, count: int) -> None:
    rows = bookings_by_model()[main_model]

    assert len(rows) == count
    assert [row for row in rows if not row.is_equal] == []
    assert {row.charge.flags for row in rows} == {()}


@pytest.mark.parametrize(("main_model", "count"), HIDDEN_CACHE_ROWS.items())
def test_only_rows_with_hidden_cache_use_differ(main_model: str, count: int) -> None:
    rows = bookings_by_model()[main_model]

    assert sum(not row.is_equal for row in rows) == count
    assert sum(row.is_equal for row in rows) > 50


@pytest.mark.parametrize(
    ("main_model", "last_old", "first_new", "old", "new"),
    [
        ("claude-3-5-haiku-20241022", "2025-02-08", "2025-03-22", (1, 5), (Decimal("0.8"), 4)),
        ("o3", "2025-05-11", "2025-07-10", (10, 40), (2, 8)),
        (
            "deepseek/deepseek-chat",
            "2025-02-06",
            "2025-03-24",
            (Decimal("0.14"), Decimal("0.28")),
            (Decimal("0.27"), Decimal("1.10")),
        ),
    ],
)
def test_a_change_of_price_inside_the_recording_is_followed(
    main_model: str,
    last_old: str,
    first_new: str,
    old: tuple[Decimal, Decimal],
    new: tuple[Decimal, Decimal],
) -> None:
    rows = bookings_by_model()[main_model]
    by_rates: dict[tuple[Decimal, Decimal], list[str]] = {}
    for row in rows:
        assert row.charge.price is not None
        rates = row.charge.price.rates
        pair = (Decimal(rates["input_tokens"]) / 10**6, Decimal(rates["output_tokens"]) / 10**6)
        by_rates.setdefault(pair, []).append(row.occurred_at.date().isoformat())

    assert by_rates.keys() == {old, new}
    assert max(by_rates[old]) == last_old
    assert min(by_rates[new]) == first_new


def test_dirty_rows_are_kept_flagged_and_never_fatal() -> None:
    rows = list(bookings())
    redacted = [row for row in rows if row.main_model.endswith("REDACTED")]
    nameless = [row for row in rows if row.main_model == "None"]
    absurd = [row for row in rows if row.booked > 9_000]

    assert len(rows) == AIDER_ROWS
    assert Counter(row.charge.basis for row in redacted) == {Basis.UNPRICED: len(redacted)}
    assert len(redacted) > 300
    assert {row.charge.flags for row in nameless} == {("provider_unknown",)}
    assert len(nameless) == 14
    assert len(absurd) == 1
    # 10,023 tokens in at 1.25 and 10 out at 10 dollars a million.
    assert absurd[0].charge.list_nanos == 12_628_750
    assert all(row.charge.flags for row in rows if row.charge.list_nanos is None)


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("provider", "model", "overrides", "quantities", "dollars"),
    [
        ("openai", "gpt-5", {}, {"input_tokens": MILLION}, "1.25"),
        ("openai", "gpt-5", {"service_tier": "batch"}, {"input_tokens": MILLION}, "0.625"),
        ("openai", "gpt-5", {"service_tier": "flex"}, {"input_tokens": MILLION}, "0.625"),
        ("openai", "gpt-5", {"service_tier": "priority"}, {"input_tokens": MILLION}, "2.50"),
        ("openai", "gpt-5.4", {}, {"input_tokens": 272_000}, "0.68"),
        ("openai", "gpt-5.4", {}, {"input_tokens": 272_001}, "1.360005"),
        ("openai", "gpt-4o", {}, {"input_tokens": MILLION, "cached_input_tokens": MILLION}, "1.25"),
        ("anthropic", "claude-sonnet-4-5-20250929", {}, {"input_tokens": 200_000}, "0.60"),
        ("anthropic", "claude-sonnet-4-5-20250929", {}, {"input_tokens": 200_001}, "1.200006"),
        (
            "anthropic",
            "anthropic/claude-3-7-sonnet-20250219",
            {},
            {"input_tokens": 1_000, "cache_write_5m_tokens": 1_000},
            "0.00375",
        ),
        (
            "anthropic",
            "claude-3-5-sonnet-20241022",
            {},
            {"input_tokens": 1_000, "cache_write_1h_tokens": 1_000},
            "0.006",
        ),
        (
            "anthropic",
            "claude-3-5-sonnet-20241022",
            {"service_tier": "batch"},
            {"input_tokens": 1_000, "output_tokens": 1_000},
            "0.009",
        ),
        ("gcp.gemini", "models/gemini-2.5-pro", {}, {"input_tokens": 200_001}, "0.5000025"),
        (
            "vertex_ai",
            "publishers/google/models/gemini-2.5-pro",
            {},
            {"output_tokens": 1_000},
            "0.01",
        ),
        ("mistral_ai", "mistral-large-2512", {}, {"input_tokens": MILLION}, "0.50"),
        ("x_ai", "grok-4", {}, {"input_tokens": 1_000, "output_tokens": 1_000}, "0.018"),
        (
            "aws.bedrock",
            "anthropic.claude-3-5-haiku-20241022-v1:0",
            {},
            {"input_tokens": MILLION},
            "0.80",
        ),
        ("deepseek", "deepseek-v4-pro", {}, {"input_tokens": MILLION}, "0.66"),
        ("groq", "whisper-large-v3", {}, {"audio_seconds": 3_600}, "0.111"),
    ],
)
def test_a_published_figure_is_what_is_charged(
    provider: str,
    model: str,
    overrides: dict[str, str],
    quantities: dict[str, int],
    dollars: str,
) -> None:
    saturday = datetime(2026, 11, 14, 2, tzinfo=UTC)

    charge = rate(quantities, RatingFacts(provider, model, saturday, **overrides), published())

    assert charge.list_nanos == decimal_to_nanos(Decimal(dollars))


def test_peak_hours_hold_on_weekdays_and_not_before_they_were_introduced() -> None:
    def input_price(occurred_at: datetime) -> int | None:
        facts = RatingFacts("deepseek", "deepseek-v4-pro", occurred_at)
        return rate({"input_tokens": MILLION}, facts, published()).list_nanos

    assert input_price(datetime(2026, 11, 13, 2, tzinfo=UTC)) == 1_320_000_000
    assert input_price(datetime(2026, 11, 13, 5, tzinfo=UTC)) == 660_000_000
    assert input_price(datetime(2026, 11, 14, 2, tzinfo=UTC)) == 660_000_000
    assert input_price(datetime(2026, 8, 22, 2, tzinfo=UTC)) == 1_320_000_000
    assert input_price(datetime(2026, 8, 14, 2, tzinfo=UTC)) == 435_000_000


def test_azure_serves_models_of_others_and_the_hit_is_flagged() -> None:
    facts = RatingFacts("azure", "claude-sonnet-4-5", datetime(2026, 11, 1, tzinfo=UTC))

    assert rate({"input_tokens": 1}, facts, published()).flags == ("provider_fallback",)


def test_the_book_covers_the_providers_people_use() -> None:
    providers = {prices.provider for prices in published().providers}

    assert providers >= {
        "openai",
        "anthropic",
        "google",
        "mistral",
        "deepseek",
        "xai",
        "bedrock",
        "azure",
    }
    assert providers >= {"cohere", "groq", "fireworks", "together", "openrouter", "perplexity"}
    assert sum(len(prices.models) for prices in published().providers) > 2_000


def test_the_book_has_no_lint_findings() -> None:
    assert lint_price_book(read_sources(packaged_path("pricing"))) == []


def test_every_row_says_where_it_comes_from() -> None:
    rows = [
        price
        for provider in published().providers
        for model in provider.models
        for price in model.prices
    ]

    assert len(rows) > 3_000
    assert [row for row in rows if not row.source] == []


def test_no_two_rows_share_a_reference() -> None:
    references = Counter(
        price.price_ref
        for provider in published().providers
        for model in provider.models
        for price in model.prices
    )

    assert [reference for reference, count in references.items() if count > 1] == []

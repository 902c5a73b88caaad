"""Faults of public price books: what genai-prices answers, what ours answers instead, and why.

Each test names a fault. Amounts of the package are stated too, so that a fault which it mends
shows up here and the difference can go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import product

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice

from tests.pricing.published_cases import CLASSES, build_cases
from tests.pricing.published_rates import has_daily_hours
from tokenbudget.domain.money import NANOS_PER_UNIT
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import STANDARD_TIER, ModelPrices
from tokenbudget.domain.rating import Charge, RatingFacts, rate
from tokenbudget.domain.schedules import PriceMatch
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.settings import packaged_path

MILLION = 1_000_000
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEYS_OF_NO_UNIT = {
    "input_audio_hours": "the same hours as audio_hours, told twice",
    "input_annotated_document_kpages": "annotated pages are no unit of ours",
    "input_text_messages_kcount": "messages of a voice session are no unit of ours",
    "output_citation_mtok": "citation tokens are no unit of ours",
}


@cache
def published() -> PriceList:
    """Give the price book that ships."""
    return load_price_book(packaged_path("pricing"))


def ours(
    provider: str,
    model: str,
    quantities: Mapping[str, int],
    *,
    at: datetime = NOON,
    tier: str | None = None,
) -> Charge:
    """Give the charge by our book."""
    return rate(quantities, RatingFacts(provider, model, at, tier), published())


def dollars(charge: Charge) -> Decimal | None:
    """Give the list cost in dollars."""
    return None if charge.list_nanos is None else Decimal(charge.list_nanos) / NANOS_PER_UNIT


def theirs(
    provider: str,
    model: str,
    usage: Mapping[str, int],
    *,
    at: datetime = NOON,
    context: Mapping[str, str] | None = None,
) -> Decimal:
    """Give the dollars by the package."""
    answer = calc_price(
        Usage(**usage),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
        price_context=context,
    )
    return answer.total_price


def test_a_missing_tier_falls_back_to_the_standard_price_and_ours_says_so() -> None:
    charge = ours("cohere", "command-r", {"input_tokens": MILLION}, tier="batch")

    in_silence = theirs(
        "cohere", "command-r", {"input_tokens": MILLION}, context={"processing": "batch"}
    )
    assert in_silence == Decimal("0.15")
    assert dollars(charge) == Decimal("0.15")
    assert charge.flags == ("tier_fallback",)


def test_a_miscapitalised_tier_is_still_that_tier() -> None:
    charge = ours("openai", "gpt-4o", {"input_tokens": MILLION}, tier="Priority")

    standard = theirs(
        "openai", "gpt-4o", {"input_tokens": MILLION}, context={"service_tier": "Priority"}
    )
    assert standard == Decimal("2.50")
    assert dollars(charge) == Decimal("4.25")
    assert charge.flags == ()


def test_batch_through_another_providers_models_is_billed_as_batch() -> None:
    charge = ours("azure", "gpt-4o", {"input_tokens": MILLION}, tier="batch")

    full_price = theirs(
        "azure", "gpt-4o", {"input_tokens": MILLION}, context={"processing": "batch"}
    )
    assert full_price == Decimal("2.50")
    assert dollars(charge) == Decimal("1.25")
    assert charge.flags == ("provider_fallback",)


def test_batch_cost_half_before_the_day_somebody_looked_it_up() -> None:
    the_day_before = datetime(2026, 10, 13, tzinfo=UTC)

    charge = ours("openai", "gpt-4o", {"input_tokens": MILLION}, at=the_day_before, tier="batch")

    full_price = theirs(
        "openai",
        "gpt-4o",
        {"input_tokens": MILLION},
        at=the_day_before,
        context={"processing": "batch"},
    )
    assert full_price == Decimal("2.50")
    assert dollars(charge) == Decimal("1.25")
    assert charge.price is not None
    assert charge.price.note == "assumed before 2026-10-14"


def test_no_tier_is_half_of_the_standard_price_by_assumption() -> None:
    unsaid = [
        (provider.provider, model.model)
        for provider in published().providers
        for model in provider.models
        if not {"batch", None} & {row.selector.tier for row in model.prices}
    ]

    charges = [
        ours(provider, model, {"input_tokens": 1}, tier="batch") for provider, model in unsaid
    ]
    silent = [charge for charge in charges if charge.match and "tier_fallback" not in charge.flags]

    assert len(unsaid) > 1_000
    assert silent == []


def test_long_context_of_a_tier_is_priced_or_flagged_never_dropped() -> None:
    matches = list(_matches_above_a_standard_step())

    silent = [
        match
        for match in matches
        if match.price.selector.above is None and "context_fallback" not in match.flags
    ]

    assert len(matches) > 100
    assert silent == []


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-11-13T02:00:00+00:00", "1.32"),
        ("2026-11-14T02:00:00+00:00", "0.66"),
        ("2026-08-14T02:00:00+00:00", "0.435"),
    ],
)
def test_peak_hours_end_at_the_weekend_and_did_not_exist_before(
    instant: str, expected: str
) -> None:
    at = datetime.fromisoformat(instant)

    charge = ours("deepseek", "deepseek-v4-pro", {"input_tokens": MILLION}, at=at)

    always_peak = theirs("deepseek", "deepseek-v4-pro", {"input_tokens": MILLION}, at=at)
    assert always_peak == Decimal("1.320")
    assert dollars(charge) == Decimal(expected)
    assert charge.flags == ()


def test_a_discount_by_the_hour_that_is_over_is_no_price_of_today() -> None:
    at_night = datetime(2026, 6, 1, 20, tzinfo=UTC)

    charge = ours("deepseek", "deepseek-chat", {"input_tokens": MILLION}, at=at_night)

    discounted_for_ever = theirs(
        "deepseek", "deepseek-chat", {"input_tokens": MILLION}, at=at_night
    )
    assert discounted_for_ever == Decimal("0.135")
    assert dollars(charge) == Decimal("0.14")


@pytest.mark.parametrize(
    ("instant", "expected"),
    [("2025-12-01T23:59:59.999999+00:00", "2"), ("2025-12-02T00:00:00+00:00", "0.5")],
)
def test_a_moving_alias_is_resolved_by_date_and_flagged(instant: str, expected: str) -> None:
    at = datetime.fromisoformat(instant)

    charge = ours("mistral", "mistral-large-latest", {"input_tokens": MILLION}, at=at)

    what_it_once_meant = theirs("mistral", "mistral-large-latest", {"input_tokens": MILLION}, at=at)
    assert what_it_once_meant == Decimal(2)
    assert dollars(charge) == Decimal(expected)
    assert charge.flags == ("alias",)


def test_what_was_used_and_has_no_rate_leaves_the_charge_unpriced() -> None:
    charge = ours("cohere", "command-r", {"input_tokens": 10, "web_searches": 1_000})

    searches_for_nothing = theirs(
        "cohere", "command-r", {"input_tokens": 10, "web_searches": 1_000}
    )
    assert searches_for_nothing == Decimal("0.0000015")
    assert charge.list_nanos is None
    assert charge.flags == ("unrated_web_searches",)


def test_a_price_that_changed_is_dated_although_the_package_keeps_the_last_one() -> None:
    before = datetime(2025, 2, 1, tzinfo=UTC)

    charge = ours("anthropic", "claude-3-5-haiku-20241022", {"input_tokens": MILLION}, at=before)

    last = theirs("anthropic", "claude-3-5-haiku-20241022", {"input_tokens": MILLION}, at=before)
    assert last == Decimal("0.8")
    assert dollars(charge) == Decimal(1)


def test_seconds_are_charged_as_reported_where_the_package_knows_a_least_charge() -> None:
    # Groq bills ten seconds at least. Its answers report the seconds it bills; a caller who
    # reports the length of the recording instead has to raise it to ten.
    charge = ours("groq", "whisper-large-v3", {"audio_seconds": 3})
    billed = ours("groq", "whisper-large-v3", {"audio_seconds": 10})

    ten_seconds = theirs("groq", "whisper-large-v3", {"audio_seconds": 3})
    # 0.111 dollars an hour.
    assert dollars(charge) == Decimal("0.0000925")
    assert dollars(billed) == Decimal("0.000308333")
    assert abs(ten_seconds - Decimal("0.000308333")) < Decimal("1e-9")


def test_a_model_without_any_published_price_is_free_by_a_row_or_unpriced() -> None:
    unpublished = [
        (provider.id, model)
        for provider in providers
        for model in provider.models
        if not any(_published_keys(model))
    ]

    charges = [ours(name, model.id, {"input_tokens": MILLION}) for name, model in unpublished]

    assert len(charges) > 100
    assert {charge.list_nanos for charge in charges} == {0, None}
    assert all(
        set(charge.price.rates.values()) == {0}
        for charge in charges
        if charge.list_nanos == 0 and charge.price is not None
    )


def test_every_model_of_the_package_is_in_a_case_or_is_told_here_why_not() -> None:
    covered = {case.place for case in build_cases()}

    left_out = [
        (provider.id, model.id)
        for provider in providers
        for model in provider.models
        if (provider.id, model.id) not in covered
        and any(_published_keys(model))
        and not has_daily_hours(model)
    ]

    assert left_out == []


def test_every_published_rate_has_a_unit_of_ours_or_is_told_here_why_not() -> None:
    told = {key for usage_class in CLASSES.values() for key in usage_class.keys}

    published_keys = {
        key for provider in providers for model in provider.models for key in _published_keys(model)
    }

    assert published_keys - told == KEYS_OF_NO_UNIT.keys()


def _published_keys(model: ModelInfo) -> set[str]:
    rows = model.prices if isinstance(model.prices, list) else [_always(model.prices)]
    return {key for row in rows for key, price in vars(row.prices).items() if price is not None}


def _always(prices: ModelPrice) -> ConditionalPrice:
    return ConditionalPrice(prices=prices)


def _matches_above_a_standard_step() -> Iterator[PriceMatch]:
    """Give what each tier of a model has for a request above a step of its standard prices."""
    models = [model for provider in published().providers for model in provider.models]
    for model in models:
        tiers = {row.selector.tier for row in model.prices if row.selector.tier}
        steps = {row.selector.above for row in model.prices if row.selector.above is not None}
        for tier, step in product(sorted(tiers), sorted(steps)):
            standard = _match(model, STANDARD_TIER, step + 1)
            match = _match(model, tier, step + 1)
            if standard and match and standard.price.selector.above == step:
                yield match


def _match(model: ModelPrices, tier: str, total_input_tokens: int) -> PriceMatch | None:
    return published().find(
        model.provider,
        model.model,
        occurred_at=NOON,
        service_tier=tier,
        total_input_tokens=total_input_tokens,
    )

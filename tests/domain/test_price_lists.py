"""The row is found by name, time, tier, region, size and hour; every fallback is a flag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain import price_lists
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import AliasTarget, DailyHours, ProviderPrices
from tokenbudget.domain.schedules import PriceMatch


def find(price_list: PriceList, model: str = "m", **overrides: Any) -> PriceMatch | None:
    """Look up acme's model at noon."""
    provider = overrides.pop("provider", "acme")
    return price_list.find(provider, model, **{"occurred_at": NOON, **overrides})


def input_rate(match: PriceMatch | None) -> int:
    """Give the rate of plain input, in picos; there has to be a match."""
    assert match is not None
    return match.price.rates["input_tokens"]


def flags(match: PriceMatch | None) -> tuple[str, ...]:
    """Give the flags; there has to be a match."""
    assert match is not None
    return match.flags


def dated_model() -> Any:
    """Give a model whose input costs 10, 20 from February and 30 from April 2026."""
    return make_model(
        make_price({"input_tokens": 10}),
        make_price({"input_tokens": 20}, valid_from=day("2026-02-01")),
        make_price({"input_tokens": 30}, valid_from=day("2026-04-01")),
    )


@pytest.mark.parametrize(
    ("occurred_at", "expected"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), 10),
        (day("2026-02-01") - timedelta(microseconds=1), 10),
        (day("2026-02-01"), 20),
        (day("2026-04-01") - timedelta(microseconds=1), 20),
        (day("2026-04-01"), 30),
    ],
)
def test_the_price_of_the_time_of_use_applies(occurred_at: datetime, expected: int) -> None:
    match = find(make_price_list(dated_model()), occurred_at=occurred_at)

    assert input_rate(match) == expected
    assert flags(match) == ()


def test_usage_before_the_first_dated_row_has_no_price() -> None:
    price_list = make_price_list(make_model(make_price(valid_from=day("2026-02-01"))))

    assert find(price_list, occurred_at=day("2026-01-31")) is None
    assert price_list.schedule("acme", "m", None, None).absence == "no_price_at_time"


def test_usage_after_the_stated_end_has_no_price() -> None:
    price_list = make_price_list(make_model(make_price(valid_to=day("2026-02-01"))))

    assert find(price_list) is None


@pytest.mark.parametrize(
    ("provider", "model", "absence"),
    [("nobody", "m", "provider_unknown"), ("acme", "m2", "model_unknown")],
)
def test_what_is_unknown_has_no_price_and_says_why(provider: str, model: str, absence: str) -> None:
    price_list = make_price_list()

    assert find(price_list, model, provider=provider) is None
    assert price_list.schedule(provider, model, None, None).absence == absence


@pytest.mark.parametrize("provider", ["acme", "ACME", "acme-ai", "acme_ai"])
@pytest.mark.parametrize("model", ["m", "M", "acme/m", "acme-ai/m", "publishers/acme/models/m"])
def test_a_name_is_found_in_its_usual_spellings(provider: str, model: str) -> None:
    assert find(make_price_list(), model, provider=provider) is not None


def test_another_providers_prefix_is_not_taken_off() -> None:
    assert find(make_price_list(), "other/m") is None


def test_a_compact_date_is_read_as_one_with_dashes() -> None:
    price_list = make_price_list(make_model(model="m-2025-12-11"))

    assert find(price_list, "acme/m-20251211") is not None
    assert find(price_list, "m-20251399") is None


def test_globs_and_regular_expressions_answer_to_names() -> None:
    price_list = make_price_list(
        make_model(make_price({"input_tokens": 1}), model="a", patterns=("fast-*-v1",)),
        make_model(make_price({"input_tokens": 2}), model="b", patterns=(r"/^fast-\d+$/",)),
    )

    assert input_rate(find(price_list, "fast-x.y-v1")) == 1
    assert input_rate(find(price_list, "fast-12")) == 2
    assert find(price_list, "fast-x.y-v12") is None
    assert input_rate(find(price_list, "b")) == 2


def test_an_exact_name_beats_a_pattern_and_the_first_pattern_wins() -> None:
    price_list = make_price_list(
        make_model(make_price({"input_tokens": 1}), model="a", patterns=("fast*",)),
        make_model(make_price({"input_tokens": 2}), model="b", patterns=("fast-b", "fa*")),
    )

    assert input_rate(find(price_list, "fast-b")) == 2
    assert input_rate(find(price_list, "fast-c")) == 1
    assert input_rate(find(price_list, "far")) == 2


def test_a_moving_alias_means_the_model_of_its_time_and_is_flagged() -> None:
    price_list = make_price_list(
        make_model(make_price({"input_tokens": 1}), model="m-1"),
        make_model(make_price({"input_tokens": 2}), model="m-2"),
        aliases={
            "m-latest": (
                AliasTarget(day("2025-01-01"), "m-1"),
                AliasTarget(day("2026-01-01"), "m-2"),
            )
        },
    )

    assert find(price_list, "m-latest", occurred_at=day("2024-12-31")) is None
    assert input_rate(find(price_list, "m-latest", occurred_at=day("2025-12-31"))) == 1
    assert input_rate(find(price_list, "m-latest")) == 2
    assert flags(find(price_list, "m-latest")) == ("alias",)


def test_a_provider_may_serve_the_models_of_another_and_the_hit_is_flagged() -> None:
    maker = ProviderPrices(
        provider="maker",
        names=("maker",),
        models=(make_model(make_price({"input_tokens": 7}), model="theirs"),),
        aliases={"newest": (AliasTarget(None, "theirs"),)},
    )
    empty = ProviderPrices(provider="empty", names=("empty",), models=())
    price_list = make_price_list(others=(empty, maker), fallback=("empty", "maker"))

    assert flags(find(price_list)) == ()
    assert input_rate(find(price_list, "theirs")) == 7
    assert flags(find(price_list, "theirs")) == ("provider_fallback",)
    assert flags(find(price_list, "newest")) == ("provider_fallback", "alias")
    assert find(price_list, "nowhere") is None


def tiered_model() -> Any:
    """Give a model with standard and batch rows; only standard knows long context."""
    return make_model(
        make_price({"input_tokens": 10}),
        make_price({"input_tokens": 20}, above=200_000),
        make_price({"input_tokens": 5}, tier="batch"),
    )


@pytest.mark.parametrize("tier", [None, "", "standard", "default", "auto", "On-Demand"])
def test_the_many_words_for_the_standard_tier_are_one(tier: str | None) -> None:
    match = find(make_price_list(tiered_model()), service_tier=tier)

    assert input_rate(match) == 10
    assert flags(match) == ()


@pytest.mark.parametrize("tier", ["batch", "BATCH"])
def test_a_tier_with_a_row_is_priced_by_it(tier: str) -> None:
    match = find(make_price_list(tiered_model()), service_tier=tier)

    assert input_rate(match) == 5
    assert flags(match) == ()


def test_a_tier_without_a_row_is_priced_as_standard_and_flagged() -> None:
    match = find(make_price_list(tiered_model()), service_tier="flex")

    assert input_rate(match) == 10
    assert flags(match) == ("tier_fallback",)


@pytest.mark.parametrize(("size", "expected"), [(199_999, 10), (200_000, 10), (200_001, 20)])
def test_long_context_starts_above_its_threshold_and_takes_the_whole_request(
    size: int, expected: int
) -> None:
    match = find(make_price_list(tiered_model()), total_input_tokens=size)

    assert input_rate(match) == expected


def test_a_tier_without_a_row_for_long_context_says_so() -> None:
    price_list = make_price_list(tiered_model())

    below = find(price_list, service_tier="batch", total_input_tokens=200_000)
    above = find(price_list, service_tier="batch", total_input_tokens=200_001)

    assert flags(below) == ()
    assert input_rate(above) == 5
    assert flags(above) == ("context_fallback",)


def test_a_model_with_rows_for_long_context_only_has_no_price_below_it() -> None:
    price_list = make_price_list(make_model(make_price({"input_tokens": 20}, above=200_000)))

    assert find(price_list, total_input_tokens=200_000) is None
    assert input_rate(find(price_list, total_input_tokens=200_001)) == 20


def test_a_region_with_its_own_row_is_priced_by_it() -> None:
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": 10}),
            make_price({"input_tokens": 12}, region="eu"),
            make_price({"input_tokens": 5}, tier="batch"),
        )
    )

    assert input_rate(find(price_list, region="EU")) == 12
    assert flags(find(price_list, region="eu")) == ()
    assert input_rate(find(price_list, region="us")) == 10
    assert flags(find(price_list, region="us")) == ()
    assert input_rate(find(price_list, region="eu", service_tier="batch")) == 5
    assert flags(find(price_list, region="eu", service_tier="batch")) == ("region_fallback",)


def test_multiplier_rows_apply_on_top_and_together() -> None:
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": 10}),
            make_price({"input_tokens": 5}, tier="batch"),
            make_price({}, times=(11, 10), tier=None, region="eu"),
            make_price({}, times=(2, 1), tier=None, above=100),
            make_price({}, times=(3, 1), tier="priority"),
        )
    )

    regional = find(price_list, region="eu", service_tier="batch")
    both = find(price_list, region="eu", total_input_tokens=101)
    urgent = find(price_list, service_tier="priority")

    assert regional is not None
    assert (input_rate(regional), regional.numerator, regional.denominator) == (5, 11, 10)
    assert both is not None
    assert (input_rate(both), both.numerator, both.denominator) == (10, 11, 5)
    assert urgent is not None
    assert (urgent.numerator, urgent.flags) == (3, ())


def test_multipliers_alone_are_no_price() -> None:
    price_list = make_price_list(make_model(make_price({}, times=(2, 1), tier=None)))

    assert find(price_list) is None


def test_the_divisor_of_a_row_is_part_of_the_ratio() -> None:
    match = find(make_price_list(make_model(make_price({"audio_seconds": 100}, divisor=9))))

    assert match is not None
    assert (match.numerator, match.denominator) == (1, 9)


def test_rows_for_hours_of_the_day_apply_in_those_hours_only() -> None:
    peak = DailyHours(spans=((540, 600),), weekdays=(0, 1, 2, 3, 4))
    lunch = DailyHours(spans=((720, 780),))
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": 10}),
            make_price({"input_tokens": 20}, hours=peak),
            make_price({"input_tokens": 30}, hours=lunch),
        )
    )
    nine_on_monday = NOON.replace(hour=9)

    assert input_rate(find(price_list, occurred_at=nine_on_monday)) == 20
    assert input_rate(find(price_list, occurred_at=nine_on_monday - timedelta(days=1))) == 10
    assert input_rate(find(price_list, occurred_at=NOON)) == 30
    assert input_rate(find(price_list, occurred_at=NOON.replace(hour=10))) == 10


def test_the_cache_of_schedules_is_bounded_and_forgetting_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(price_lists, "MAX_CACHED_SCHEDULES", 2)
    price_list = make_price_list()

    before = find(price_list)
    for number in range(5):
        find(price_list, f"unknown-{number}")

    assert find(price_list) == before
    assert price_list.schedule("acme", "m", None, None) is price_list.schedule(
        "acme", "m", None, None
    )

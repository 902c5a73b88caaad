"""A price row knows when it is valid, what it rates and who it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.price_builders import NOON, day, make_price
from tokenbudget.domain.prices import (
    DailyHours,
    close_validity,
    inherit_rates,
    normalise_word,
)


def test_a_unit_without_a_rate_takes_that_of_its_parent() -> None:
    rates = inherit_rates({"input_tokens": 3, "cache_write_tokens": 4, "output_tokens": 15})

    assert rates["cached_input_tokens"] == 3
    assert rates["cached_audio_tokens"] == 3
    assert rates["cache_write_5m_tokens"] == 4
    assert rates["cache_write_1h_tokens"] == 4
    assert rates["input_video_tokens"] == 3
    assert rates["reasoning_tokens"] == 15
    assert rates["output_image_tokens"] == 15


def test_a_cached_modality_costs_what_cached_text_costs() -> None:
    rates = inherit_rates({"input_tokens": 3, "cached_input_tokens": 1, "input_audio_tokens": 9})

    assert rates["cached_audio_tokens"] == 1


def test_a_rate_of_zero_is_a_rate_and_is_not_replaced_by_its_parent() -> None:
    assert inherit_rates({"input_tokens": 3, "cached_input_tokens": 0})["cached_input_tokens"] == 0


def test_a_unit_without_a_parent_stays_without_a_rate() -> None:
    assert "web_searches" not in inherit_rates({"input_tokens": 3, "output_tokens": 15})


def test_a_row_ends_where_the_next_of_its_selector_begins() -> None:
    old, new = make_price(), make_price({"input_tokens": 2}, valid_from=day("2026-01-01"))
    batch = make_price({"input_tokens": 1}, tier="batch", valid_from=day("2025-06-01"))

    closed = close_validity((new, old, batch))

    assert [price.valid_to for price in closed] == [None, day("2026-01-01"), None]


def test_an_end_that_a_row_states_is_kept() -> None:
    old = make_price(valid_to=day("2025-12-01"))
    new = make_price({"input_tokens": 2}, valid_from=day("2026-01-01"))

    assert close_validity((old, new))[0].valid_to == day("2025-12-01")


def test_a_fix_recorded_later_replaces_the_row_it_fixes() -> None:
    wrong = make_price({"input_tokens": 9}, valid_from=day("2026-01-01"))
    fix = make_price(
        {"input_tokens": 2}, valid_from=day("2026-01-01"), recorded_at=day("2026-02-01")
    )

    assert close_validity((fix, wrong)) == (fix,)


def test_a_multiplier_row_does_not_end_a_row_with_rates() -> None:
    base = make_price()
    dearer = make_price({}, times=(11, 10), tier=None, valid_from=day("2026-01-01"))
    standard = make_price({}, times=(12, 10), valid_from=day("2026-02-01"))

    assert [price.valid_to for price in close_validity((base, dearer, standard))] == [None] * 3


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        (day("2026-01-01"), True),
        (day("2026-01-01") - timedelta(microseconds=1), False),
        (day("2026-02-01"), False),
        (day("2026-02-01") - timedelta(microseconds=1), True),
        (None, False),
    ],
)
def test_validity_includes_its_beginning_and_excludes_its_end(
    instant: datetime | None, expected: bool
) -> None:
    price = make_price(valid_from=day("2026-01-01"), valid_to=day("2026-02-01"))

    assert price.is_valid_at(instant) is expected


def test_a_row_without_dates_is_always_valid() -> None:
    assert make_price().is_valid_at(None)
    assert make_price().is_valid_at(NOON)


def test_a_later_row_does_not_change_the_reference_of_the_one_it_ends() -> None:
    old = make_price()
    later = make_price({"input_tokens": 2}, valid_from=day("2026-01-01"))

    closed = close_validity((old, later))

    assert closed[0].valid_to is not None
    assert closed[0].price_ref == old.price_ref


def test_provenance_does_not_change_the_reference_but_everything_that_rates_does() -> None:
    price = make_price()
    others = [
        make_price({"input_tokens": 2}),
        make_price(tier="batch"),
        make_price(region="eu"),
        make_price(above=0),
        make_price(hours=DailyHours(weekdays=(0,))),
        make_price(valid_from=NOON),
        make_price(recorded_at=NOON),
        make_price(currency="CNY"),
        make_price(divisor=3),
        make_price(model="other"),
    ]

    assert make_price(source="manual: a page", note="seen").price_ref == price.price_ref
    assert len({price.price_ref, *(other.price_ref for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [(16, 29, False), (16, 30, True), (23, 59, True), (0, 0, True), (0, 29, True), (0, 30, False)],
)
def test_daily_hours_may_run_past_midnight(hour: int, minute: int, expected: bool) -> None:
    hours = DailyHours(spans=((16 * 60 + 30, 30),))

    assert hours.contains(datetime(2026, 3, 2, hour, minute, 59, tzinfo=UTC)) is expected


def test_daily_hours_hold_on_their_weekdays_only() -> None:
    hours = DailyHours(spans=((60, 240), (360, 600)), weekdays=(0, 1, 2, 3, 4))
    friday, saturday = datetime(2026, 3, 6, 2, tzinfo=UTC), datetime(2026, 3, 7, 2, tzinfo=UTC)

    assert hours.contains(friday)
    assert not hours.contains(friday + timedelta(hours=3))
    assert not hours.contains(saturday)


def test_daily_hours_are_those_of_their_zone_in_summer_and_winter() -> None:
    hours = DailyHours(spans=((540, 600),), zone_name="America/New_York")

    assert hours.contains(datetime(2026, 1, 15, 14, 30, tzinfo=UTC))
    assert not hours.contains(datetime(2026, 7, 15, 14, 30, tzinfo=UTC))
    assert hours.contains(datetime(2026, 7, 15, 13, 30, tzinfo=UTC))


@pytest.mark.parametrize("word", ["x-ai", "X_AI", " x ai "])
def test_provider_words_are_compared_in_one_spelling(word: str) -> None:
    assert normalise_word(word) == "x_ai"

"""A charge is disjoint classes times rates, rounded once; what is unknown is never free."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.price_builders import NOON, make_model, make_price, make_price_list
from tokenbudget.domain.money import PICOS_PER_NANO
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import (
    RatingFacts,
    affordable_output_tokens,
    charge_lines,
    disjoint_quantities,
    rate,
    upper_bound_cost,
)
from tokenbudget.domain.usage import MAX_QUANTITY, Basis

# Dollars a million: input 3, cached 0.30, writes 3.75 (one hour 6), output 15. A search: 0.01.
FULL_RATES = {
    "input_tokens": 3_000_000,
    "cached_input_tokens": 300_000,
    "cache_write_tokens": 3_750_000,
    "cache_write_1h_tokens": 6_000_000,
    "output_tokens": 15_000_000,
    "web_searches": 10_000_000_000,
}


def facts(**overrides: Any) -> RatingFacts:
    """Give acme's model m at noon."""
    return RatingFacts(**{"provider": "acme", "model": "m", "occurred_at": NOON, **overrides})


def list_of(rates: dict[str, int], **overrides: Any) -> PriceList:
    """Give a price list with one row."""
    return make_price_list(make_model(make_price(rates, **overrides)))


@pytest.mark.parametrize(
    ("quantities", "nanos"),
    [
        ({"input_tokens": 1_000_000}, 3_000_000_000),
        ({"input_tokens": 1_000, "output_tokens": 100}, 4_500_000),
        ({"input_tokens": 1_000, "cached_input_tokens": 900}, 570_000),
        ({"input_tokens": 1_000, "cache_write_tokens": 1_000}, 3_750_000),
        ({"input_tokens": 1_000, "cache_write_5m_tokens": 1_000}, 3_750_000),
        ({"input_tokens": 1_000, "cache_write_1h_tokens": 1_000}, 6_000_000),
        (
            {
                "input_tokens": 1_000,
                "cached_input_tokens": 500,
                "cache_write_5m_tokens": 200,
                "cache_write_1h_tokens": 100,
            },
            2_100_000,
        ),
        ({"input_tokens": 0, "output_tokens": 100, "reasoning_tokens": 80}, 1_500_000),
        ({"input_tokens": 0, "web_searches": 2}, 20_000_000),
        ({"input_tokens": 1_000, "requests": 1}, 3_000_000),
        ({"input_tokens": 0, "output_tokens": 0}, 0),
    ],
)
def test_a_usage_costs_its_classes_times_their_rates(
    quantities: dict[str, int], nanos: int
) -> None:
    charge = rate(quantities, facts(), list_of(FULL_RATES))

    assert charge.list_nanos == nanos
    assert charge.contracted_nanos == nanos
    assert charge.effective_nanos == nanos
    assert charge.basis is Basis.RATED
    assert charge.flags == ()


def test_modalities_and_their_cached_parts_are_priced_apart() -> None:
    price_list = list_of(
        {
            "input_tokens": 4_000_000,
            "cached_input_tokens": 400_000,
            "input_audio_tokens": 32_000_000,
            "cached_audio_tokens": 500_000,
            "output_tokens": 16_000_000,
            "output_audio_tokens": 64_000_000,
        }
    )
    quantities = {
        "input_tokens": 100,
        "cached_input_tokens": 30,
        "input_audio_tokens": 60,
        "cached_audio_tokens": 20,
        "output_tokens": 50,
        "output_audio_tokens": 40,
    }

    charge = rate(quantities, facts(), price_list)

    # In: text 30 at 4, cached 10 at 0.4, audio 40 at 32, cached 20 at 0.5. Out: 10 at 16, 40 at 64.
    assert charge.list_nanos == 120_000 + 4_000 + 1_280_000 + 10_000 + 160_000 + 2_560_000
    assert disjoint_quantities(quantities) == {
        "input_tokens": 30,
        "cached_input_tokens": 10,
        "input_audio_tokens": 40,
        "cached_audio_tokens": 20,
        "output_tokens": 10,
        "output_audio_tokens": 40,
    }


@pytest.mark.parametrize(("tokens", "nanos"), [(1, 0), (2, 1), (3, 2), (5, 2), (6, 3), (7, 4)])
def test_a_charge_is_rounded_once_and_half_to_even(tokens: int, nanos: int) -> None:
    half_a_nano_a_token = list_of({"input_tokens": 500})

    charge = rate({"input_tokens": tokens}, facts(), half_a_nano_a_token)

    assert charge.list_nanos == nanos


def test_parts_that_would_each_round_away_still_count_together() -> None:
    price_list = list_of({"input_tokens": 400, "output_tokens": 400})

    assert rate({"input_tokens": 1, "output_tokens": 1}, facts(), price_list).list_nanos == 1


def test_an_hourly_rate_is_exact_by_the_second() -> None:
    # Four cents an hour are 100,000,000 / 9 picos a second.
    price_list = list_of({"audio_seconds": 100_000_000}, divisor=9)

    assert rate({"audio_seconds": 3_600}, facts(), price_list).list_nanos == 40_000_000
    assert rate({"audio_seconds": 1}, facts(), price_list).list_nanos == 11_111


def test_multipliers_are_exact() -> None:
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": 1_250}),
            make_price({}, times=(11, 10), tier=None, region="eu"),
        )
    )

    # 1,250 x 1.1 = 1,375 picos a token; 4 tokens are 5,500 picos, a tie that goes to the even 6.
    assert rate({"input_tokens": 4}, facts(region="eu"), price_list).list_nanos == 6


def test_multipliers_are_for_tokens_and_leave_searches_at_their_price() -> None:
    # A row with an hourly rate has a divisor: its searches are 90 billion ninths of a pico.
    rates = {"input_tokens": 9_000_000, "web_searches": 90_000_000_000, "audio_seconds": 9}
    price_list = make_price_list(
        make_model(
            make_price(rates, divisor=9),
            make_price({}, times=(11, 10), tier=None, region="eu"),
        )
    )

    # A million tokens at 1 dollar x 1.1, and three searches at a cent each.
    usage = {"input_tokens": 1_000_000, "web_searches": 3}
    charge = rate(usage, facts(region="eu"), price_list)

    assert charge.list_nanos == 1_130_000_000
    assert [line.amount_picos for line in charge_lines(usage, charge)] == [
        1_100_000_000_000,
        30_000_000_000,
    ]


@pytest.mark.parametrize("quantities", [None, {}])
def test_unknown_usage_is_unpriced_and_not_free(quantities: dict[str, int] | None) -> None:
    charge = rate(quantities, facts(), list_of(FULL_RATES))

    assert charge.list_nanos is None
    assert charge.contracted_nanos is None
    assert charge.effective_nanos is None
    assert charge.basis is Basis.UNPRICED
    assert charge.flags == ("usage_unknown",)


@pytest.mark.parametrize(
    ("overrides", "flag"),
    [({"provider": "nobody"}, "provider_unknown"), ({"model": "nothing"}, "model_unknown")],
)
def test_an_unknown_model_is_unpriced_and_says_so(overrides: dict[str, str], flag: str) -> None:
    charge = rate({"input_tokens": 1}, facts(**overrides), list_of(FULL_RATES))

    assert charge.list_nanos is None
    assert charge.price is None
    assert charge.flags == (flag,)
    assert charge_lines({"input_tokens": 1}, charge) == []


def test_a_used_unit_without_a_rate_leaves_the_whole_charge_unpriced() -> None:
    price_list = list_of({"input_tokens": 3_000_000})
    quantities = {"input_tokens": 10, "images": 2, "output_tokens": 5, "web_searches": 0}

    charge = rate(quantities, facts(service_tier="flex"), price_list)

    assert charge.list_nanos is None
    assert charge.price is not None
    assert charge.flags == ("tier_fallback", "unrated_output_tokens", "unrated_images")


def test_a_price_in_another_currency_is_unpriced_until_it_can_be_converted() -> None:
    charge = rate({"input_tokens": 1}, facts(), list_of(FULL_RATES, currency="CNY"))

    assert charge.list_nanos is None
    assert charge.flags == ("currency_CNY",)


def test_parts_that_exceed_their_total_are_flagged_and_not_guessed() -> None:
    quantities = {"input_tokens": 100, "input_audio_tokens": 100, "cached_input_tokens": 50}

    charge = rate(quantities, facts(), list_of(FULL_RATES))

    assert charge.list_nanos is None
    assert charge.flags == ("usage_inconsistent",)


def test_output_without_input_is_priced_as_the_lower_bound_it_is() -> None:
    charge = rate({"output_tokens": 10}, facts(), list_of(FULL_RATES))

    assert charge.list_nanos == 150_000
    assert charge.flags == ("input_tokens_absent",)
    assert rate({"output_tokens": 0}, facts(), list_of(FULL_RATES)).flags == ()


def test_the_size_of_a_request_is_its_total_input_with_what_was_cached() -> None:
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": 1_000_000, "cached_input_tokens": 100_000}),
            make_price({"input_tokens": 2_000_000, "cached_input_tokens": 200_000}, above=1_000),
        )
    )
    quantities = {"input_tokens": 1_001, "cached_input_tokens": 1_000}

    # One token at 2, a thousand at 0.20 dollars a million.
    assert rate(quantities, facts(), price_list).list_nanos == 2_000 + 200_000


def test_lines_explain_a_charge_and_add_up_to_it() -> None:
    quantities = {"input_tokens": 1_000, "cached_input_tokens": 900, "requests": 1}
    charge = rate(quantities, facts(), list_of(FULL_RATES))

    lines = charge_lines(quantities, charge)

    assert [(line.unit, line.quantity, line.rate_picos) for line in lines] == [
        ("input_tokens", 100, Fraction(3_000_000)),
        ("cached_input_tokens", 900, Fraction(300_000)),
    ]
    assert sum(line.amount_picos for line in lines) == 570_000 * PICOS_PER_NANO


def test_the_upper_bound_takes_the_dearest_rate_output_may_have() -> None:
    price_list = list_of(
        {
            "input_tokens": 2_000_000,
            "output_tokens": 8_000_000,
            "reasoning_tokens": 10_000_000,
            "requests": 5_000_000_000,
        }
    )

    bound = upper_bound_cost(1_000, 100, facts(), price_list)

    # 0.002 for input, 0.001 for output as reasoning, 0.005 for the request.
    assert bound.list_nanos == 8_000_000
    assert bound.basis is Basis.RATED


def test_the_upper_bound_uses_the_price_for_the_size_of_the_input() -> None:
    price_list = make_price_list(
        make_model(make_price(), make_price({"input_tokens": 9_000_000}, above=1_000))
    )

    assert upper_bound_cost(1_000, 0, facts(), price_list).list_nanos == 1_000_000
    assert upper_bound_cost(1_001, 0, facts(), price_list).list_nanos == 9_009_000


@pytest.mark.parametrize(
    ("rates", "overrides", "output", "flags"),
    [
        (FULL_RATES, {"model": "nothing"}, 1, ("model_unknown",)),
        ({"input_tokens": 1}, {}, 1, ("unrated_output_tokens",)),
        ({"output_tokens": 1}, {}, 1, ("unrated_input_tokens",)),
        (
            {"input_tokens": 1},
            {"service_tier": "flex"},
            1,
            ("tier_fallback", "unrated_output_tokens"),
        ),
    ],
)
def test_the_upper_bound_of_what_has_no_price_is_unpriced_and_affords_nothing(
    rates: dict[str, int], overrides: dict[str, str], output: int, flags: tuple[str, ...]
) -> None:
    price_list = list_of(rates)

    bound = upper_bound_cost(10, output, facts(**overrides), price_list)

    assert bound.list_nanos is None
    assert bound.flags == flags
    assert affordable_output_tokens(10**12, 10, facts(**overrides), price_list) == 0


def test_the_upper_bound_in_another_currency_is_unpriced() -> None:
    price_list = list_of(FULL_RATES, currency="CNY")

    assert upper_bound_cost(1, 1, facts(), price_list).flags == ("currency_CNY",)
    assert affordable_output_tokens(10**12, 1, facts(), price_list) == 0


def test_a_model_without_output_can_be_bounded_when_no_output_is_asked_for() -> None:
    assert (
        upper_bound_cost(1_000, 0, facts(), list_of({"input_tokens": 20_000})).list_nanos == 20_000
    )


@pytest.mark.parametrize(
    ("headroom_nanos", "tokens"),
    [(2_999_999, 0), (3_000_000, 0), (3_014_999, 0), (3_015_000, 1), (10_000_000, 466)],
)
def test_affordable_output_is_what_headroom_leaves_after_the_input(
    headroom_nanos: int, tokens: int
) -> None:
    affordable = affordable_output_tokens(headroom_nanos, 1_000, facts(), list_of(FULL_RATES))

    assert affordable == tokens


def test_free_output_is_affordable_up_to_the_largest_quantity() -> None:
    price_list = list_of({"input_tokens": 1_000_000, "output_tokens": 0})

    assert affordable_output_tokens(1_000_000, 1_000, facts(), price_list) == MAX_QUANTITY
    assert affordable_output_tokens(999_999, 1_000, facts(), price_list) == 0
    assert affordable_output_tokens(10**15, 1_000, facts(), list_of(FULL_RATES)) <= MAX_QUANTITY


@given(
    headroom=st.integers(0, 10**10),
    input_tokens=st.integers(0, 10**6),
    input_rate=st.integers(0, 10**8),
    output_rate=st.integers(1, 10**8),
    times=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_what_is_affordable_never_costs_more_than_the_headroom(
    headroom: int, input_tokens: int, input_rate: int, output_rate: int, times: tuple[int, int]
) -> None:
    price_list = make_price_list(
        make_model(
            make_price({"input_tokens": input_rate, "output_tokens": output_rate}),
            make_price({}, times=times, tier=None),
        )
    )

    tokens = affordable_output_tokens(headroom, input_tokens, facts(), price_list)

    cost = upper_bound_cost(input_tokens, tokens, facts(), price_list).list_nanos
    one_more = upper_bound_cost(input_tokens, tokens + 1, facts(), price_list).list_nanos
    assert cost is not None
    assert one_more is not None
    assert cost <= headroom or tokens == 0
    assert one_more >= headroom or tokens == MAX_QUANTITY


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**10), st.integers(0, 10**10))
def test_a_charge_lies_within_half_a_nano_of_the_exact_cost(
    input_tokens: int, output_tokens: int, input_rate: int, output_rate: int
) -> None:
    price_list = list_of({"input_tokens": input_rate, "output_tokens": output_rate})
    quantities = {"input_tokens": input_tokens, "output_tokens": output_tokens}

    charge = rate(quantities, facts(), price_list)

    exact_picos = input_tokens * input_rate + output_tokens * output_rate
    assert charge.list_nanos is not None
    assert abs(charge.list_nanos * PICOS_PER_NANO - exact_picos) * 2 <= PICOS_PER_NANO

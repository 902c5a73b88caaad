"""A day of usage in priced parts: price x quantity is the cost, and parts add up to the day."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.focus import (
    ATTOS_PER_NANO,
    ATTOS_PER_UNIT,
    NO_TERMS,
    DaySums,
    Part,
    PriceTerms,
    RunningShare,
    disjoint_tokens,
    take_apart,
    unit_prices,
)

DOLLAR = ATTOS_PER_UNIT
PRICES = {
    "input_tokens": DOLLAR,
    "cached_input_tokens": DOLLAR // 10,
    "cache_write_tokens": DOLLAR * 5 // 4,
    "output_tokens": 2 * DOLLAR,
    "reasoning_tokens": 2 * DOLLAR,
}
TERMS = PriceTerms(listed=PRICES, contracted=PRICES)
HALVED = PriceTerms(listed=PRICES, contracted={unit: price // 2 for unit, price in PRICES.items()})


def make_day(**sums: Any) -> DaySums:
    return DaySums(datetime(2026, 9, 1, tzinfo=UTC), 1, 1, **{"requests": 1, **sums})


def costs_of(parts: list[Part]) -> dict[str, tuple[int, int]]:
    """Give list and effective cost by meter, in nanos."""
    return {
        part.meter: (part.list_cost // ATTOS_PER_NANO, part.effective // ATTOS_PER_NANO)
        for part in parts
    }


def test_each_class_of_tokens_has_its_own_price_and_cost() -> None:
    # 600 at 1, 300 at 0.1, 100 at 1.25, 40 at 2 and 10 at 2 dollars a million, in nanos.
    day = make_day(
        input_tokens=1_000,
        cached_input_tokens=300,
        cache_write_tokens=100,
        output_tokens=50,
        reasoning_tokens=10,
        list_nanos=855_000,
        contracted_nanos=855_000,
        effective_nanos=855_000,
    )

    parts = take_apart(day, TERMS)

    assert costs_of(parts) == {
        "input_tokens": (600_000, 600_000),
        "cached_input_tokens": (30_000, 30_000),
        "cache_write_tokens": (125_000, 125_000),
        "output_tokens": (80_000, 80_000),
        "reasoning_tokens": (20_000, 20_000),
    }
    assert [part.quantity for part in parts] == [600, 300, 100, 40, 10]
    assert parts[0].priced == 600 * 10**12
    assert [part.requests for part in parts] == [1, 0, 0, 0, 0]


def test_contracted_prices_stand_beside_list_prices() -> None:
    day = make_day(
        input_tokens=1_000, list_nanos=10**6, contracted_nanos=500_000, effective_nanos=500_000
    )

    [part] = take_apart(day, HALVED)

    assert (part.list_price, part.contracted_price) == (DOLLAR, DOLLAR // 2)
    assert part.contracted_cost == part.effective == part.billed == 500_000 * ATTOS_PER_NANO


def test_what_tokens_do_not_explain_is_a_part_at_a_blended_price() -> None:
    # Two searches of a cent each in three requests beside a thousand tokens.
    day = make_day(
        requests=3,
        input_tokens=1_000,
        list_nanos=21_000_000,
        contracted_nanos=21_000_000,
        effective_nanos=21_000_000,
    )

    _, rest = take_apart(day, TERMS)

    assert (rest.meter, rest.quantity, rest.block, rest.priced) == ("other_units", 3, 3, DOLLAR)
    assert rest.list_price == rest.list_cost == 20_000_000 * ATTOS_PER_NANO


def test_the_rounding_of_charges_is_a_part_of_its_own_and_may_be_negative() -> None:
    terms = PriceTerms(listed={"input_tokens": DOLLAR * 3 // 80_000}, contracted={})
    # A token at 0.0000375 dollars a million is 0.0375 nanos; the charge was rounded to nothing.
    day = make_day(input_tokens=1)

    tokens, rest = take_apart(day, terms)

    assert tokens.list_cost == 37_500_000
    assert (rest.meter, rest.quantity, rest.priced) == ("rounding", 0, -DOLLAR)
    assert rest.list_cost == -37_500_000
    assert rest.contracted_cost == 0


def test_rests_of_opposite_signs_are_two_parts_since_a_quantity_has_one_sign() -> None:
    day = make_day(list_nanos=5, contracted_nanos=-7, effective_nanos=-7)

    listed, contracted = take_apart(day, NO_TERMS)

    assert (listed.list_cost, listed.contracted_cost) == (5 * ATTOS_PER_NANO, 0)
    assert (contracted.list_cost, contracted.contracted_cost) == (0, -7 * ATTOS_PER_NANO)
    assert contracted.meter == "other_units_contracted"
    assert min(listed.list_price, contracted.contracted_price) > 0
    assert listed.effective + contracted.effective == -7 * ATTOS_PER_NANO


def test_rests_of_opposite_signs_work_the_other_way_round_too() -> None:
    listed, contracted = take_apart(make_day(list_nanos=-5, contracted_nanos=7), NO_TERMS)

    assert (listed.list_cost, contracted.contracted_cost) == (
        -5 * ATTOS_PER_NANO,
        7 * ATTOS_PER_NANO,
    )


def test_requests_with_a_price_are_a_part_and_are_not_counted_twice() -> None:
    terms = PriceTerms(listed={"requests": DOLLAR // 100}, contracted={"requests": DOLLAR // 100})
    day = make_day(
        requests=2, list_nanos=50_000_000, contracted_nanos=50_000_000, effective_nanos=50_000_000
    )

    requests, rest = take_apart(day, terms)

    assert (requests.meter, requests.quantity, requests.block) == ("requests", 2, 1)
    assert requests.list_cost == 20_000_000 * ATTOS_PER_NANO
    assert (rest.meter, rest.quantity) == ("other_units", 0)


def test_unpriced_usage_keeps_its_tokens_and_says_how_many_requests_lack_a_price() -> None:
    day = make_day(requests=4, unpriced_requests=4, input_tokens=77, output_tokens=7)

    parts = take_apart(day, NO_TERMS)

    assert [(part.meter, part.quantity, part.list_price) for part in parts] == [
        ("input_tokens", 77, 0),
        ("output_tokens", 7, 0),
    ]
    assert [part.unpriced_requests for part in parts] == [4, 0]


def test_requests_without_tokens_and_cost_are_still_told() -> None:
    [part] = take_apart(make_day(requests=2), NO_TERMS)

    assert (part.meter, part.quantity, part.is_of_tokens) == ("requests", 2, False)


def test_covered_usage_is_not_invoiced_by_itself() -> None:
    covered = PriceTerms(listed=PRICES, contracted=PRICES, commitment="ptu-1")
    day = make_day(input_tokens=1_000, list_nanos=10**6, contracted_nanos=10**6)

    [part] = take_apart(day, covered)

    assert (part.effective, part.billed) == (0, 0)
    assert part.contracted_cost == 10**6 * ATTOS_PER_NANO


def test_a_share_of_a_commitment_has_effective_cost_alone() -> None:
    day = make_day(requests=0, effective_nanos=333)

    [part] = take_apart(day, PriceTerms(commitment="ptu-1", is_share=True))

    assert (part.meter, part.quantity, part.list_cost) == ("commitment", 0, 0)
    assert (part.effective, part.billed) == (333 * ATTOS_PER_NANO, 0)


def test_an_invoiced_amount_is_spread_over_the_parts_by_cost() -> None:
    # 3 to 1 by cost: 10 nanos are 7.5 and 2.5, and the first of equal remainders gets the rest.
    day = make_day(
        input_tokens=3_000_000,
        output_tokens=500_000,
        list_nanos=4 * 10**9,
        contracted_nanos=4 * 10**9,
        effective_nanos=4 * 10**9,
    )

    parts = take_apart(day, TERMS, billed_nanos=10)

    assert [part.billed // ATTOS_PER_NANO for part in parts] == [8, 2]


def test_classes_that_do_not_add_up_are_left_as_totals() -> None:
    day = make_day(input_tokens=5, cached_input_tokens=9, output_tokens=3)

    assert disjoint_tokens(day) == {"input_tokens": 5, "output_tokens": 3}


def test_prices_are_for_a_million_tokens_or_one_request_with_twelve_decimals() -> None:
    # Half a picodollar a token is half a microdollar a million; a third of one has no end.
    picos = {
        "input_tokens": Fraction(1, 2),
        "output_tokens": Fraction(1, 3),
        "requests": Fraction(5 * 10**9),
    }

    prices = unit_prices(picos, tokens=frozenset({"input_tokens", "output_tokens"}))

    assert prices == {
        "input_tokens": 5 * 10**11,
        "output_tokens": 333_333 * 10**6,
        "requests": 5 * 10**15,
    }


def test_shares_that_run_along_add_up_to_the_last_nano() -> None:
    share = RunningShare(100, 3)

    assert [share.next(1) for _ in range(3)] == [33, 34, 33]


def test_a_share_without_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        RunningShare(1, 0)


counts = st.integers(0, 10**7)
nanos = st.integers(-(10**12), 10**12)


@given(
    tokens=st.tuples(counts, counts, counts, counts, counts),
    money=st.tuples(nanos, nanos, nanos),
    prices=st.lists(st.integers(0, 10**14), min_size=12, max_size=12),
    billed=st.none() | nanos,
    requests=st.integers(0, 1_000),
)
def test_parts_always_add_up_and_price_times_quantity_is_always_the_cost(
    tokens: tuple[int, ...],
    money: tuple[int, ...],
    prices: list[int],
    billed: int | None,
    requests: int,
) -> None:
    plain, cached, written, output, reasoning = tokens
    day = make_day(
        requests=requests,
        input_tokens=plain + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
        list_nanos=money[0],
        contracted_nanos=money[1],
        effective_nanos=money[2],
    )
    units = (*PRICES, "requests")
    terms = PriceTerms(
        listed=dict(zip(units, [price * 10**6 for price in prices[:6]], strict=True)),
        contracted=dict(zip(units, [price * 10**6 for price in prices[6:]], strict=True)),
    )

    parts = take_apart(day, terms, billed)

    assert sum(part.list_cost for part in parts) == money[0] * ATTOS_PER_NANO
    assert sum(part.contracted_cost for part in parts) == money[1] * ATTOS_PER_NANO
    assert sum(part.effective for part in parts) == money[2] * ATTOS_PER_NANO
    due = money[1] if billed is None else billed
    assert sum(part.billed for part in parts) == due * ATTOS_PER_NANO
    assert all(part.list_price * part.priced % ATTOS_PER_UNIT == 0 for part in parts)
    assert all(part.list_price >= 0 and part.contracted_price >= 0 for part in parts)
    assert sum(part.requests for part in parts) == requests
    assert len({part.meter for part in parts}) == len(parts)

"""Rating a whole table gives what rating each usage gives: amounts to the nano, rows and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cache
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import DailyHours
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import MAX_QUANTITY, UNITS, find_fault
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.frames.rating import CHARGE_COLUMNS, rate_frame
from tokenbudget.settings import packaged_path

SEED = 20261121
EVENTS = 10_000


@cache
def published() -> PriceList:
    """Give the price book that ships."""
    return load_price_book(packaged_path("pricing"))


def as_frame(events: Sequence[tuple[RatingFacts, Mapping[str, int]]]) -> pl.DataFrame:
    """Give the events as a table with a column for every unit."""
    rows = [
        {
            "provider": facts.provider,
            "model": facts.model,
            "service_tier": facts.service_tier,
            "region": facts.region,
            "occurred_at": facts.occurred_at,
            **{unit: quantities.get(unit) for unit in UNITS},
        }
        for facts, quantities in events
    ]
    texts = dict.fromkeys(("provider", "model", "service_tier", "region"), pl.String)
    times = {"occurred_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema={**texts, **times, **dict.fromkeys(UNITS, pl.Int64)})


def assert_twins_agree(
    events: Sequence[tuple[RatingFacts, Mapping[str, int]]], price_list: PriceList
) -> None:
    """Compare every column of every charge with the domain's."""
    table = rate_frame(as_frame(events), price_list).select(CHARGE_COLUMNS.keys())
    for (facts, quantities), row in zip(events, table.iter_rows(named=True), strict=True):
        charge = rate(quantities, facts, price_list)
        assert row == {
            "price_ref": charge.price.price_ref if charge.price else None,
            "price_digest": charge.match.price_digest if charge.match else None,
            "list_nanos": charge.list_nanos,
            "contracted_nanos": charge.contracted_nanos,
            "effective_nanos": charge.effective_nanos,
            "basis": charge.basis.value,
            "flags": list(charge.flags),
        }, (facts, quantities)


def random_quantities(random: Random) -> dict[str, int]:
    """Give counts of a request, sometimes huge, sometimes with parts that do not fit."""
    total = random.choice((0, 7, 199_999, 200_001, random.randrange(400_000), MAX_QUANTITY))
    output = random.randrange(9_000)
    quantities = {"input_tokens": total, "output_tokens": output}
    parts = random.sample([unit for unit in UNITS if unit not in quantities], random.randrange(5))
    for part in parts:
        quantities[part] = random.choice((0, 1, random.randrange(1 + output // 4)))
    for absent in random.sample(sorted(quantities), random.choice((0, 0, 0, 1, 2))):
        del quantities[absent]
    return quantities


def random_facts(random: Random, names: Sequence[tuple[str, str]]) -> RatingFacts:
    """Give a model of the book, or an unknown one, at some time from 2024 to the end of 2026."""
    provider, model = random.choice(names)
    return RatingFacts(
        provider=provider,
        model=random.choice((model, model, model, model, "no-such-model")),
        occurred_at=day("2024-01-01") + timedelta(seconds=random.randrange(3 * 365 * 86_400)),
        service_tier=random.choice((None, "standard", "batch", "priority", "flex", "unheard-of")),
        region=random.choice((None, None, "eu")),
    )


def test_ten_thousand_random_events_cost_the_same_as_one_by_one() -> None:
    random = Random(SEED)
    names = [
        (prices.provider, model.model)
        for prices in published().providers
        for model in prices.models
    ]
    chosen = [*random.sample(names, 300), ("deepseek", "deepseek-v4-pro"), ("nobody", "m")]

    events = [(random_facts(random, chosen), random_quantities(random)) for _ in range(EVENTS)]

    assert_twins_agree(events, published())
    priced = sum(
        rate(quantities, facts, published()).list_nanos is not None for facts, quantities in events
    )
    impossible = sum(find_fault(quantities) is not None for _, quantities in events)
    assert priced > EVENTS // 3
    assert impossible > EVENTS // 100


def varied_price_list() -> PriceList:
    """Give a list with dates, tiers, sizes, hours, multipliers, a divisor and a foreign price."""
    peak = DailyHours(spans=((9 * 60, 17 * 60),), weekdays=(0, 1, 2, 3, 4), zone_name="Asia/Tokyo")
    night = DailyHours(spans=((22 * 60, 6 * 60),))
    return make_price_list(
        make_model(
            make_price({"input_tokens": 333, "cached_input_tokens": 77, "output_tokens": 1_501}),
            make_price({"input_tokens": 500, "output_tokens": 999}, valid_from=day("2026-02-01")),
            make_price({"input_tokens": 501, "output_tokens": 1_000}, above=100),
            make_price({"input_tokens": 250, "output_tokens": 500}, tier="batch"),
            make_price({"input_tokens": 777, "output_tokens": 1}, hours=peak),
            make_price({"input_tokens": 111, "output_tokens": 2}, hours=night),
            make_price({}, times=(11, 10), tier=None, region="eu"),
        ),
        make_model(make_price({"audio_seconds": 100_000_001}, divisor=9), model="spoken"),
        make_model(make_price(currency="CNY"), model="foreign"),
        make_model(make_price(above=50, valid_to=day("2026-03-01")), model="long-only"),
    )


@given(
    st.lists(
        st.tuples(
            st.builds(
                RatingFacts,
                provider=st.sampled_from(("acme", "acme", "nobody")),
                model=st.sampled_from(("m", "spoken", "foreign", "long-only", "none")),
                occurred_at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(  # noqa: DTZ001
                    lambda naive: naive.replace(tzinfo=NOON.tzinfo)
                ),
                service_tier=st.sampled_from((None, "batch", "flex")),
                region=st.sampled_from((None, "eu")),
                account=st.none(),
                commitment=st.none(),
            ),
            st.dictionaries(
                st.sampled_from(
                    (
                        "input_tokens",
                        "output_tokens",
                        "cached_input_tokens",
                        "audio_seconds",
                        "requests",
                    )
                ),
                st.sampled_from((0, 1, 2, 3, 50, 51, 100, 101, MAX_QUANTITY)),
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_kind_of_selector_and_fault_agrees_with_the_domain(
    events: list[tuple[RatingFacts, dict[str, int]]],
) -> None:
    assert_twins_agree(events, varied_price_list())


def test_sums_beyond_64_bits_are_exact() -> None:
    price_list = make_price_list(
        make_model(make_price({"images": 250_000_000_000, "input_tokens": 10**10}))
    )
    quantities = {"images": MAX_QUANTITY, "input_tokens": MAX_QUANTITY}

    table = rate_frame(as_frame([(RatingFacts("acme", "m", NOON), quantities)]), price_list)

    # A quarter of a dollar and a cent, a hundred million times.
    assert table["list_nanos"].to_list() == [26_000_000_000_000_000]


def small_frame(**columns: Any) -> pl.DataFrame:
    """Give a frame of two events of acme's model with the columns told."""
    usual = {"provider": ["acme"] * 2, "model": ["m"] * 2, "occurred_at": [NOON] * 2}
    return pl.DataFrame({**usual, **columns})


def test_the_events_keep_their_order_and_their_columns() -> None:
    frame = small_frame(input_tokens=[2_000, 1_000], note=["b", "a"])

    table = rate_frame(frame.lazy(), make_price_list())

    assert table.columns == [*frame.columns, *CHARGE_COLUMNS]
    assert table["note"].to_list() == ["b", "a"]
    assert table["list_nanos"].to_list() == [2_000_000, 1_000_000]


def test_a_frame_without_input_column_has_absent_input() -> None:
    table = rate_frame(small_frame(output_tokens=[10, 0]), make_price_list())

    assert table["flags"].to_list() == [["input_tokens_absent"], []]


def test_a_frame_without_any_unit_is_unpriced() -> None:
    table = rate_frame(small_frame(), make_price_list())

    assert table["list_nanos"].to_list() == [None, None]
    assert table["flags"].to_list() == [["usage_unknown"]] * 2


def test_a_provider_or_model_that_is_null_is_unknown() -> None:
    frame = small_frame(provider=[None, "acme"], model=["m", None], input_tokens=[1, 1])

    table = rate_frame(frame, make_price_list())

    assert table["flags"].to_list() == [["provider_unknown"], ["model_unknown"]]


def test_a_frame_without_any_provider_and_model_is_unknown() -> None:
    frame = small_frame(provider=[None, None], model=[None, None], input_tokens=[1, 1])

    table = rate_frame(frame, make_price_list())

    assert table["flags"].to_list() == [["provider_unknown"]] * 2


@pytest.mark.parametrize("dtype", [pl.Categorical(), pl.Enum(["acme", "m", "none", "batch"])])
def test_texts_may_be_categories(dtype: Any) -> None:
    frame = small_frame(
        provider=["acme", None], service_tier=[None, "batch"], input_tokens=[1_000, 1_000]
    )
    categories = frame.with_columns(pl.col(pl.String).cast(dtype))

    table = rate_frame(categories, make_price_list())

    charges = rate_frame(frame, make_price_list()).select(CHARGE_COLUMNS.keys())
    assert table.select(CHARGE_COLUMNS.keys()).equals(charges)
    assert table.select(frame.columns).equals(categories)


@pytest.mark.parametrize("tokens", [499, 500, 501, 1_499, 1_500, 1_501, 2_500, 3_500])
def test_half_a_nano_is_rounded_to_the_even_nano(tokens: int) -> None:
    price_list = make_price_list(make_model(make_price({"output_tokens": 1, "input_tokens": 0})))

    table = rate_frame(small_frame(input_tokens=[0, 0], output_tokens=[tokens] * 2), price_list)

    # One pico a token: banker's rounding of thousandths.
    assert table["list_nanos"].to_list() == [round(Fraction(tokens, 1_000))] * 2


def test_divisors_that_differ_do_not_mix() -> None:
    spoken = make_price({"audio_seconds": 100_000_001}, divisor=9)
    price_list = make_price_list(make_model(make_price()), make_model(spoken, model="spoken"))
    frame = small_frame(model=["m", "spoken"], input_tokens=[1_000, None], audio_seconds=[None, 9])

    table = rate_frame(frame, price_list)

    assert table["list_nanos"].to_list() == [1_000_000, 100_000]


def test_an_empty_frame_gives_an_empty_frame_with_the_columns() -> None:
    table = rate_frame(small_frame().clear(), make_price_list())

    assert table.is_empty()
    assert {name: table.schema[name] for name in CHARGE_COLUMNS} == CHARGE_COLUMNS


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="need a column model"):
        rate_frame(small_frame().drop("model"), make_price_list())


@pytest.mark.parametrize("dtype", [pl.Datetime("us"), pl.Datetime("us", "Asia/Tokyo"), pl.String])
def test_times_that_are_not_utc_are_refused(dtype: Any) -> None:
    frame = pl.DataFrame({"provider": [], "model": [], "occurred_at": pl.Series([], dtype=dtype)})

    with pytest.raises(ValueError, match="occurred_at must be Datetime in UTC"):
        rate_frame(frame, make_price_list())

"""A further source completes the book only where it agrees; contradictions are named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.domain.price_completion import Ladder, Offer, complete_book
from tokenbudget.domain.price_differences import AddRow, Difference, SetSunset
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import AliasTarget, ModelPrices, Price

LABEL = "other 2.0"
TODAY = day("2026-11-21")
SPRING = day("2026-03-01")


def per_million(**figures: int | str) -> dict[str, Fraction]:
    """Give the price of one token for figures in dollars a million."""
    units = {
        "input": "input_tokens",
        "cached": "cached_input_tokens",
        "output": "output_tokens",
        "audio_in": "input_audio_tokens",
    }
    return {units[key]: Fraction(figure) / 10**6 for key, figure in figures.items()}


BASE = per_million(input=1, output=4)
HALF = per_million(input="1/2", output=2)
LONG = per_million(input=2, output=8)


def base_row(**overrides: Any) -> Price:
    """Give the row of the book that BASE agrees with."""
    return make_price(source="book-package 1.0", **overrides)


def offer(name: str = "m", base: Mapping[str, Fraction] = BASE, **overrides: Any) -> Offer:
    """Give an offer for a name of ``acme`` with these base prices and tiers."""
    tiers: dict[str, Ladder] = {"standard": {None: base}, **overrides.pop("tiers", {})}
    return Offer(provider="acme", name=name, tiers=tiers, **overrides)


def complete(book: PriceList | ModelPrices, *offers: Offer) -> list[Difference]:
    """Give what the offers add to a book or to a book of one model."""
    price_list = make_price_list(book) if isinstance(book, ModelPrices) else book
    return complete_book(price_list, offers, label=LABEL, today=TODAY)


def told(differences: list[Difference]) -> list[tuple[str, str, str]]:
    """Give kind, place and reason of each."""
    return [(each.kind.value, each.place, each.reason) for each in differences]


def rows(differences: list[Difference]) -> list[Price]:
    """Give the rows that would be added."""
    return [each.change.price for each in differences if isinstance(each.change, AddRow)]


def test_a_tier_is_added_where_the_base_prices_agree() -> None:
    found = complete(make_model(base_row(valid_from=SPRING)), offer(tiers={"batch": {None: HALF}}))

    (row,) = rows(found)
    assert told(found) == [
        ("new_row", "from 2026-03-01T00:00:00Z, tier batch", "other 2.0 agrees on the base prices")
    ]
    assert row.rates == {"input_tokens": 500_000, "output_tokens": 2_000_000}
    assert (row.selector.tier, row.valid_from, row.source) == ("batch", SPRING, LABEL)


def test_what_is_no_token_keeps_its_standard_price_in_a_tier() -> None:
    base = {"input_tokens": 1_000_000, "output_tokens": 4_000_000, "web_searches": 10_000_000_000}

    found = complete(make_model(base_row(rates=base)), offer(tiers={"flex": {None: HALF}}))

    assert rows(found)[0].rates == {
        "input_tokens": 500_000,
        "output_tokens": 2_000_000,
        "web_searches": 10_000_000_000,
    }


def test_a_tier_that_says_nothing_about_a_rate_of_tokens_is_not_taken() -> None:
    base = {"input_tokens": 1_000_000, "output_tokens": 4_000_000, "cached_input_tokens": 100_000}
    ladder = {None: HALF, 200_000: LONG}

    found = complete(make_model(base_row(rates=base)), offer(tiers={"batch": ladder}))

    assert told(found) == [
        ("conflict", "tier batch", "other 2.0: states nothing for cached_input_tokens")
    ]


def test_other_base_prices_are_a_conflict_and_add_nothing() -> None:
    other = per_million(input=3, output=15)

    found = complete(
        make_model(base_row(), patterns=("m", "m-1")),
        offer("m", other, tiers={"batch": {None: HALF}}),
        offer("m-1", other),
    )

    assert told(found) == [
        ("conflict", "tier standard", "other 2.0: m, m-1: input_tokens 3, output_tokens 15")
    ]


def test_an_entry_without_base_prices_says_nothing() -> None:
    assert complete(make_model(base_row()), Offer("acme", "m", {})) == []


def test_an_output_price_of_zero_agrees_with_none() -> None:
    embedding = make_model(base_row(rates={"input_tokens": 1_000_000}))
    base = per_million(input=1, output=0)

    assert complete(embedding, offer(base=base)) == []


def test_names_the_book_does_not_know_and_moving_ones_mean_nothing() -> None:
    book = make_price_list(make_model(base_row()), aliases={"m-latest": (AliasTarget(None, "m"),)})

    assert complete(book, offer("stranger"), offer("m-latest", per_million(input=9))) == []


def test_a_long_context_row_is_added_where_the_sources_agree_on_that_size_too() -> None:
    model = make_model(
        base_row(), base_row(rates={"input_tokens": 2_000_000, "output_tokens": 8_000_000}, above=9)
    )
    batch = {None: HALF, 9: BASE, 99: BASE}
    agreeing = Offer("acme", "m", {"standard": {None: BASE, 9: LONG}, "batch": batch})
    differing = Offer("acme", "m", {"standard": {None: BASE, 9: BASE}, "batch": batch})

    assert [row.selector.above for row in rows(complete(model, agreeing))] == [None, 9]
    assert [row.selector.above for row in rows(complete(model, differing))] == [None]


def test_names_of_one_model_add_to_each_other_and_must_not_contradict() -> None:
    base = {"input_tokens": 1_000_000, "output_tokens": 4_000_000, "input_audio_tokens": 3_000_000}
    model = make_model(base_row(rates=base), patterns=("m", "m-1"))
    with_audio = HALF | per_million(audio_in="3/2")

    together = complete(
        model,
        offer("m", tiers={"flex": {None: HALF}}),
        offer("m-1", tiers={"flex": {None: with_audio}}),
    )
    against = complete(
        model,
        offer("m", tiers={"flex": {None: with_audio}}),
        offer("m-1", tiers={"flex": {None: BASE}}),
    )

    assert rows(together)[0].rates["input_audio_tokens"] == 1_500_000
    assert told(against) == [
        ("conflict", "tier flex", "other 2.0: its names state different prices")
    ]


def test_a_tier_the_book_has_is_compared_and_never_changed() -> None:
    half = {"input_tokens": 500_000, "output_tokens": 2_000_000}
    model = make_model(base_row(), base_row(rates=half, tier="batch"))
    pinned = make_model(
        base_row(), base_row(rates=half, tier="batch", is_pinned=True, note="agreed by phone")
    )
    other = HALF | per_million(output=3, cached="1/4")

    same = complete(model, offer(tiers={"batch": {None: HALF}}))
    differing = complete(model, offer(tiers={"batch": {None: other}}))
    kept = complete(pinned, offer(tiers={"batch": {None: other}}))

    reason = "other 2.0: output_tokens 3 instead of 2, cached_input_tokens 0.25 instead of none"
    assert same == []
    assert told(differing) == [("conflict", "tier batch", reason)]
    assert told(kept) == [("pinned", "tier batch", "agreed by phone")]


def test_a_tier_that_begins_later_is_left_alone() -> None:
    later = base_row(tier="batch", valid_from=day("2027-01-01"))

    found = complete(make_model(base_row(), later), offer(tiers={"batch": {None: HALF}}))

    assert told(found) == [
        ("conflict", "tier batch", "other 2.0: the book has a row, but not for today")
    ]


def test_a_region_with_prices_of_its_own_is_added_when_they_differ() -> None:
    model = make_model(
        base_row(), base_row(rates={"input_tokens": 2_000_000, "output_tokens": 8_000_000}, above=9)
    )
    base = Offer("acme", "m", {"standard": {None: BASE, 9: LONG}})
    dearer = Offer("acme", "m", {"standard": {None: LONG, 9: LONG, 99: LONG}}, region="eu-west-1")
    equal = Offer("acme", "m", {"standard": {None: BASE, 9: LONG}}, region="us-east-1")

    found = complete(model, base, dearer, equal)

    assert [each.place for each in found] == [
        "since ever, tier standard, region eu-west-1",
        "since ever, tier standard, region eu-west-1, above 9",
    ]
    assert rows(found)[0].rates == {"input_tokens": 2_000_000, "output_tokens": 8_000_000}


def test_a_region_alone_without_a_base_that_agrees_adds_nothing() -> None:
    assert complete(make_model(base_row()), offer(base=LONG, region="eu-west-1")) == []


def test_a_multiplier_of_a_region_is_added_as_a_row_for_every_tier() -> None:
    found = complete(make_model(base_row()), offer(multipliers={"eu": Fraction("1.1")}))

    (row,) = rows(found)
    assert (row.times, row.rates) == ((11, 10), {})
    assert (row.selector.tier, row.selector.region) == (None, "eu")


def test_a_multiplier_the_book_has_is_compared() -> None:
    times = base_row(rates={}, times=(11, 10), tier=None, region="eu")
    model = make_model(base_row(), times, patterns=("m", "m-1"))

    same = complete(model, offer(multipliers={"eu": Fraction("1.1")}))
    other = complete(model, offer(multipliers={"eu": Fraction("1.2")}))
    torn = complete(model, offer(multipliers={"eu": Fraction("1.1")}), offer("m-1"))

    assert same == []
    assert told(other) == [("conflict", "tier any, region eu", "other 2.0: another multiplier")]
    assert told(torn) == [
        ("conflict", "tier any, region eu", "other 2.0: its names state different multipliers")
    ]


def sunsets(model: ModelPrices, *days: datetime | None) -> list[Difference]:
    """Give what follows for a model two of whose names have these days of sunset."""
    offers = [offer(name, sunset=each) for name, each in zip(("m", "m-1"), days, strict=True)]
    return complete(model, *offers)


def test_the_sunset_of_a_model_is_that_of_its_last_name() -> None:
    model = make_model(base_row(), patterns=("m", "m-1"))

    all_end = sunsets(model, day("2027-01-01"), day("2027-02-01"))
    one_stays = sunsets(model, day("2027-01-01"), None)

    assert told(all_end) == [("new_sunset", "sunset 2027-02-01", LABEL)]
    assert all_end[0].change == SetSunset("m", day("2027-02-01"), LABEL)
    assert one_stays == []


def test_another_sunset_is_a_conflict_unless_ours_was_entered_by_hand() -> None:
    def with_sunset(source: str) -> ModelPrices:
        return make_model(
            base_row(), patterns=("m", "m-1"), sunset=day("2027-03-01"), sunset_source=source
        )

    same = sunsets(with_sunset("other 1.0"), day("2027-01-01"), day("2027-03-01"))
    other = sunsets(with_sunset("other 1.0"), day("2027-01-01"), day("2027-02-01"))
    kept = sunsets(with_sunset("manual: a page"), day("2027-01-01"), day("2027-02-01"))

    assert same == []
    assert told(other) == [("conflict", "sunset 2027-02-01", "the book says 2027-03-01, other 1.0")]
    assert told(kept) == [
        ("pinned", "sunset 2027-02-01", "the book says 2027-03-01, manual: a page")
    ]

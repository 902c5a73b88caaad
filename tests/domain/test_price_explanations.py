"""A look-up says which row is used, why, and what every flag means."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.price_explanations import (
    PriceExplanation,
    PriceQuestion,
    explain_price,
    flag_meaning,
)
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import AliasTarget, DailyHours, ProviderPrices

QUESTION = PriceQuestion("acme", "m", NOON, input_tokens=1)
DOUBLE = {"input_tokens": 2_000_000, "output_tokens": 8_000_000}


def explained(price_list: PriceList, **asked: Any) -> PriceExplanation:
    """Give the explanation of a price there is."""
    found = explain_price(price_list, replace(QUESTION, **asked))
    assert isinstance(found, PriceExplanation), found
    return found


def test_a_plain_price_is_explained_by_name_tier_size_and_validity() -> None:
    found = explained(make_price_list())

    assert found.used is found.steps[0]
    assert found.reasons == (
        "provider 'acme' means acme",
        "it is a name of m",
        "the row is one of m, for tier standard",
        "for regions without a row of their own",
        "for input of any size",
        "valid since ever until further notice",
    )


def test_other_spellings_are_told() -> None:
    found = explained(make_price_list(), provider="Acme-AI", model="acme/M")

    assert found.reasons[:3] == (
        "provider 'Acme-AI' means acme",
        "the name is read as 'm'",
        "it is a name of m",
    )


def test_the_pattern_that_a_name_answers_to_is_told() -> None:
    book = make_price_list(make_model(patterns=("m", "m-2*")))

    assert "it answers to the pattern 'm-2*' of m" in explained(book, model="m-2026").reasons


def test_a_moving_name_is_told() -> None:
    book = make_price_list(aliases={"m-latest": (AliasTarget(None, "m"),)})

    found = explained(book, model="m-latest")

    assert "it is a moving name" in found.reasons
    assert found.used is not None
    assert found.used.flags == ("alias",)


def test_a_provider_whose_models_are_served_is_told() -> None:
    host = ProviderPrices("host", ("host",), (), fallback=("acme",))
    found = explained(make_price_list(others=(host,)), provider="host")

    assert found.reasons[:3] == (
        "provider 'host' means host",
        "host has no such model of its own, and also serves those of acme",
        "it is a name of m",
    )


def test_tier_region_time_and_multiplier_of_the_row_are_told() -> None:
    hours = DailyHours(spans=((0, 14 * 60),))
    book = make_price_list(
        make_model(
            make_price(tier="batch", region="eu", valid_to=day("2026-04-01")),
            make_price(
                DOUBLE, tier="batch", region="eu", hours=hours, valid_from=day("2026-01-01")
            ),
            make_price({}, times=(11, 10), tier=None, region="eu"),
        )
    )

    assert explained(book, service_tier="batch", region="eu").reasons[2:] == (
        "the row is one of m, for tier batch",
        "for region eu",
        "for input of any size",
        "it is the time of day that the row is for",
        "valid from 2026-01-01T00:00:00Z until further notice",
        "rates of tokens are multiplied by 11/10",
    )


def test_a_divisor_is_no_multiplier() -> None:
    book = make_price_list(make_model(make_price({"audio_seconds": 100_000_001}, divisor=9)))

    assert explained(book).reasons[-1] == "valid since ever until further notice"


def test_a_fix_says_that_it_is_one_and_a_late_row_does_not() -> None:
    fix = make_price(DOUBLE, recorded_at=day("2026-03-01"))
    wrong = make_price()

    fixed = explained(make_price_list(make_model(wrong, fix)))
    late = explained(make_price_list(make_model(fix)))

    assert fixed.reasons[-1] == "it fixes another row, recorded 2026-03-01T00:00:00Z"
    assert late.reasons[-1] == "valid since ever until further notice"


@pytest.mark.parametrize(
    ("input_tokens", "place", "reason"),
    [
        (0, 0, "for input of up to 100 tokens"),
        (100, 0, "for input of up to 100 tokens"),
        (101, 1, "for input of above 100 up to 200 tokens"),
        (201, 2, "for input of above 200 tokens"),
    ],
)
def test_the_size_of_the_input_chooses_the_step(input_tokens: int, place: int, reason: str) -> None:
    book = make_price_list(
        make_model(make_price(), make_price(above=100), make_price(DOUBLE, above=200))
    )

    found = explained(book, input_tokens=input_tokens)

    assert found.used is found.steps[place]
    assert reason in found.reasons


def test_input_too_small_for_every_step_has_steps_and_no_price() -> None:
    found = explained(make_price_list(make_model(make_price(above=100))), input_tokens=100)

    assert (found.used, len(found.steps)) == (None, 1)
    assert found.reasons[-1] == "it is a name of m"


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"provider": "nobody"}, "provider_unknown"),
        ({"model": "nothing"}, "model_unknown"),
        ({"occurred_at": day("2025-01-01")}, "no_price_at_time"),
    ],
)
def test_no_price_is_a_word(asked: dict[str, Any], word: str) -> None:
    book = make_price_list(make_model(make_price(valid_from=day("2026-01-01"))))

    assert explain_price(book, replace(QUESTION, **asked)) == word


def test_every_flag_has_a_meaning() -> None:
    contract = Contract("acme-2026", provider="acme", times=Fraction(7, 8))
    book = make_price_list().with_agreements(Agreements(contracts=(contract,)))

    used = explained(book, service_tier="flex").used

    assert used is not None
    assert [flag_meaning(flag) for flag in used.flags] == [
        "no row is for the service tier; the standard price is used",
        "the contracted rates follow this contract",
    ]
    assert flag_meaning("fx:CNY@2026-11-02").startswith("the price is in another currency")

"""A price on the wire: facts as text, rates a million tokens, hours of the day, contracts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.price_explanations import (
    PriceExplanation,
    PriceQuestion,
    explain_price,
)
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import DailyHours
from tokenbudget.formats.price_lookup import describe_explanation, describe_match

QUESTION = PriceQuestion("acme", "m", NOON, input_tokens=1)


def explained(price_list: PriceList, question: PriceQuestion = QUESTION) -> PriceExplanation:
    """Give the explanation of a price there is."""
    found = explain_price(price_list, question)
    assert isinstance(found, PriceExplanation), found
    return found


def test_a_row_is_told_with_rates_a_million_and_what_is_absent_is_empty() -> None:
    price = make_price({"input_tokens": 1_250_000, "web_searches": 10**10}, source="the page")
    [match] = explained(make_price_list(make_model(price))).steps

    assert describe_match(match) == {
        "price_ref": price.price_ref,
        "provider": "acme",
        "model": "m",
        "tier": "standard",
        "region": "",
        "above_input_tokens": "",
        "daily_hours": "",
        "valid_from": "",
        "valid_to": "",
        "sunset": "",
        "currency": "USD",
        "million_input_tokens": "1.25",
        "web_searches": "0.01",
        "source": "the page",
        "note": "",
        "flags": "",
    }


def test_selector_validity_and_sunset_are_told() -> None:
    nights = DailyHours(spans=((22 * 60, 6 * 60),), weekdays=(0, 1, 2, 3, 4), zone_name="UTC")
    price = make_price(
        region="eu",
        above=100,
        hours=nights,
        valid_from=day("2026-01-01"),
        valid_to=day("2026-06-01"),
    )
    model = make_model(price, sunset=day("2027-01-01"))
    question = replace(QUESTION, region="eu", occurred_at=NOON.replace(hour=23), input_tokens=101)
    [match] = explained(make_price_list(model), question).steps

    told = describe_match(match)

    assert (told["region"], told["above_input_tokens"]) == ("eu", "100")
    assert told["daily_hours"] == "22:00-06:00 MTWTF-- UTC"
    assert (told["valid_from"], told["valid_to"], told["sunset"]) == (
        "2026-01-01T00:00:00Z",
        "2026-06-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    )


def test_contracted_rates_stand_beside_published_ones() -> None:
    contract = Contract("acme-2026", provider="acme", times=Fraction(7, 8))
    book = make_price_list().with_agreements(Agreements(contracts=(contract,)))
    [match] = explained(book).steps

    told = describe_match(match)

    # An eighth off one and four dollars a million.
    assert (told["million_input_tokens"], told["million_output_tokens"]) == ("1", "4")
    assert told["contracted_currency"] == "USD"
    assert told["contracted_million_input_tokens"] == "0.875"
    assert told["contracted_million_output_tokens"] == "3.5"
    assert told["flags"] == "contract:acme-2026"


def test_an_explanation_repeats_the_question_and_explains_flags() -> None:
    found = explained(make_price_list(), replace(QUESTION, service_tier="flex"))

    wire = describe_explanation(found)

    assert (wire["provider"], wire["model"], wire["at"]) == ("acme", "m", "2026-03-02T12:00:00Z")
    assert (wire["service_tier"], wire["region"], wire["input_tokens"]) == ("flex", None, 1)
    assert wire["used"] == wire["steps"][0]
    assert wire["flags"] == [
        {
            "flag": "tier_fallback",
            "meaning": "no row is for the service tier; the standard price is used",
        }
    ]
    assert wire["reasons"] == list(found.reasons)


def test_no_step_for_so_little_input_is_null() -> None:
    book = make_price_list(make_model(make_price(above=100)))

    wire = describe_explanation(explained(book))

    assert (wire["used"], wire["flags"], len(wire["steps"])) == (None, [], 1)

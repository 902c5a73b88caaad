"""The invented bill agrees with the replay but for a little drift and one untracked key."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tokenbudget.demo.bill import UNTRACKED_KEY, openai_costs_page

FIRST = date(2026, 11, 1)
DOLLAR = 1_000_000_000


def amounts(bucket: dict[str, Any]) -> list[Decimal]:
    return [Decimal(result["amount"]["value"]) for result in bucket["results"]]


def three_days() -> dict[tuple[date, str], int]:
    return {
        (FIRST + timedelta(days=age), model): dollars * DOLLAR
        for age in range(3)
        for model, dollars in (("gpt-5-mini", 10), ("gpt-5.2", 100))
    }


def test_a_result_has_the_shape_of_the_costs_api() -> None:
    page = openai_costs_page({(FIRST, "gpt-5.2"): 100 * DOLLAR})

    assert page["object"] == "page"
    assert page["has_more"] is False
    assert page["data"][0]["start_time"] == 1_793_491_200
    assert page["data"][0]["end_time"] == 1_793_577_600
    assert page["data"][0]["results"][0] == {
        "object": "organization.costs.result",
        "amount": {"value": "100.000000000", "currency": "usd"},
        "line_item": "gpt-5.2, text tokens",
        "project_id": "proj_gateway",
        "api_key_id": "key_gateway_prod",
        "quantity": None,
        "quantity_unit": None,
    }


def test_most_days_agree_within_two_percent() -> None:
    page = openai_costs_page(three_days())

    for bucket in (page["data"][0], page["data"][2]):
        mini, large = amounts(bucket)
        assert Decimal("9.8") <= mini <= Decimal("10.2")
        assert Decimal(98) <= large <= Decimal(102)


def test_the_middle_day_agrees_but_for_37_per_mille_of_its_dearest_model_on_another_key() -> None:
    page = openai_costs_page(three_days())

    middle = page["data"][1]

    assert amounts(middle) == [Decimal(10), Decimal(100), Decimal("3.7")]
    assert (middle["results"][2]["project_id"], middle["results"][2]["api_key_id"]) == UNTRACKED_KEY
    assert middle["results"][2]["line_item"] == "gpt-5.2, text tokens"


def test_a_day_without_costs_is_an_empty_bucket() -> None:
    costs = {(FIRST, "gpt-5.2"): DOLLAR, (FIRST + timedelta(days=2), "gpt-5.2"): DOLLAR}

    page = openai_costs_page(costs)

    assert [len(bucket["results"]) for bucket in page["data"]] == [1, 0, 2]


def test_equal_costs_give_an_equal_bill_in_any_order() -> None:
    reordered = dict(reversed(three_days().items()))

    assert openai_costs_page(reordered) == openai_costs_page(three_days())


def test_no_costs_give_an_empty_page() -> None:
    assert openai_costs_page({})["data"] == []


def test_more_days_than_a_page_holds_are_refused() -> None:
    costs = {(FIRST, "gpt-5.2"): DOLLAR, (FIRST + timedelta(days=180), "gpt-5.2"): DOLLAR}

    with pytest.raises(ValueError, match="181 days"):
        openai_costs_page(costs)

"""Of the contracts that hold, the most specific one applies, and list cost never hears of it."""

from __future__ import annotations

from datetime import date, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain import price_lists
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.exchange import FxTable, Quote
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import (
    Charge,
    RatingFacts,
    affordable_output_tokens,
    charge_lines,
    rate,
    upper_bound_cost,
)

MILLION_IN = {"input_tokens": 1_000_000}
"""Costs a dollar at the list price of ``make_price()``; a million out costs four."""


def percent_off(contract_id: str, percent: int, **overrides: Any) -> Contract:
    """Give a discount on everything."""
    return Contract(contract_id, times=Fraction(100 - percent, 100), **overrides)


def agreed(*contracts: Contract, price_list: PriceList | None = None, **others: Any) -> PriceList:
    """Give a price list with these contracts."""
    agreements = Agreements(contracts=contracts, version="agreed", **others)
    return (price_list or make_price_list()).with_agreements(agreements)


def charge_of(
    price_list: PriceList, quantities: dict[str, int] | None = None, **overrides: Any
) -> Charge:
    """Give the charge of a million input tokens of acme's model m at noon."""
    facts = RatingFacts(**{"provider": "acme", "model": "m", "occurred_at": NOON, **overrides})
    return rate(quantities or MILLION_IN, facts, price_list)


def test_a_discount_leaves_the_list_cost_alone_and_is_named_on_the_charge() -> None:
    charge = charge_of(agreed(percent_off("acme-2026", 12)))

    assert charge.list_nanos == 1_000_000_000
    assert charge.contracted_nanos == 880_000_000
    assert charge.effective_nanos == 880_000_000
    assert charge.flags == ("contract:acme-2026",)


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({"provider": "acme"}, True),
        ({"provider": "other"}, False),
        ({"model": "m"}, True),
        ({"model": "m*"}, True),
        ({"model": "/^m$/"}, True),
        ({"model": "n*"}, False),
        ({"account": "org-1"}, True),
        ({"account": "org-2"}, False),
        ({"tier": "standard"}, True),
        ({"tier": "batch"}, False),
        ({"region": "eu"}, True),
        ({"region": "us"}, False),
        ({"provider": "acme", "account": "org-2"}, False),
    ],
)
def test_a_contract_applies_when_every_condition_holds(
    conditions: dict[str, str], matches: bool
) -> None:
    price_list = agreed(percent_off("c", 50, **conditions))

    charge = charge_of(price_list, account="org-1", region="EU")

    assert charge.contracted_nanos == (500_000_000 if matches else 1_000_000_000)


def test_a_contract_on_a_model_covers_every_name_of_it() -> None:
    model = make_model(make_price(), patterns=("m", "m-2026-*"))
    price_list = agreed(
        percent_off("dated-name", 10, model="m-2026-03-01"), price_list=make_price_list(model)
    )

    assert charge_of(price_list, model="m-2026-03-01").contracted_nanos == 900_000_000
    assert charge_of(price_list, model="m").contracted_nanos == 1_000_000_000


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (percent_off("a", 10, provider="acme"), percent_off("b", 20)),
        (percent_off("a", 10, provider="acme", account="o"), percent_off("b", 20, model="m*")),
        (percent_off("a", 10, model="m"), percent_off("b", 20, provider="acme", priority=9)),
        (percent_off("a", 10, priority=2), percent_off("b", 20, priority=1)),
        (
            percent_off("a", 10, valid_from=day("2026-02-01")),
            percent_off("b", 20, valid_from=day("2026-01-01")),
        ),
        (percent_off("a", 10, valid_from=day("2026-02-01")), percent_off("b", 20)),
        (percent_off("a", 10), percent_off("b", 20)),
    ],
)
def test_the_most_specific_wins_then_priority_then_the_later_beginning_then_the_id(
    winner: Contract, loser: Contract
) -> None:
    for contracts in ((winner, loser), (loser, winner)):
        charge = charge_of(agreed(*contracts), account="o")

        assert charge.contracted_nanos == 900_000_000
        assert charge.flags == ("contract:a",)


def test_a_contract_holds_from_its_first_instant_to_before_its_last() -> None:
    contract = percent_off("c", 50, valid_from=day("2026-03-01"), valid_to=day("2026-04-01"))
    price_list = agreed(contract)

    costs = [
        charge_of(price_list, occurred_at=datetime.fromisoformat(text)).contracted_nanos
        for text in (
            "2026-02-28T23:59:59.999999Z",
            "2026-03-01T00:00:00Z",
            "2026-03-31T23:59:59.999999Z",
            "2026-04-01T00:00:00Z",
        )
    ]

    assert costs == [1_000_000_000, 500_000_000, 500_000_000, 1_000_000_000]


def test_contracts_that_stack_come_on_top_of_the_one_that_wins() -> None:
    price_list = agreed(
        percent_off("base", 50, provider="acme"),
        percent_off("loser", 90),
        percent_off("loyalty", 10, stacks=True),
        percent_off("volume", 20, stacks=True, provider="acme"),
    )

    charge = charge_of(price_list)

    assert charge.contracted_nanos == 360_000_000
    assert charge.flags == ("contract:base", "contract:volume", "contract:loyalty")


def test_a_discount_on_some_units_reaches_what_is_priced_as_them() -> None:
    rates = {"input_tokens": 1_000_000, "cache_write_tokens": 2_000_000, "output_tokens": 4_000_000}
    quantities = {
        "input_tokens": 3_000_000,
        "cached_input_tokens": 1_000_000,
        "cache_write_tokens": 1_000_000,
        "output_tokens": 1_000_000,
        "reasoning_tokens": 1_000_000,
    }
    contract = percent_off("c", 50, applies=frozenset({"input_tokens", "output_tokens"}))
    price_list = agreed(contract, price_list=make_price_list(make_model(make_price(rates))))

    charge = charge_of(price_list, quantities)

    # Uncached 1 and cached 1 at half of 1, written 1 at the whole 2, reasoning 1 at half of 4.
    assert charge.list_nanos == 8_000_000_000
    assert charge.contracted_nanos == 5_000_000_000


def test_a_discount_on_a_unit_without_a_rate_of_its_own_gives_it_one() -> None:
    contract = percent_off("c", 50, applies=frozenset({"cached_input_tokens", "images"}))
    quantities = {"input_tokens": 2_000_000, "cached_input_tokens": 1_000_000}

    assert charge_of(agreed(contract), quantities).contracted_nanos == 1_500_000_000


def test_rates_of_ones_own_replace_those_named_and_ignore_multipliers() -> None:
    price_list = make_price_list(
        make_model(
            make_price(), make_price({}, times=(2, 1), tier=None, region="eu"), patterns=("m",)
        )
    )
    contract = Contract("own", rates={"input_tokens": Fraction(300_000)})
    quantities = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}

    charge = charge_of(agreed(contract, price_list=price_list), quantities, region="eu")

    # The list price is doubled there: 2 in, 8 out. Under contract 0.30 in.
    assert charge.list_nanos == 10_000_000_000
    assert charge.contracted_nanos == 8_300_000_000


def test_everything_off_costs_nothing_and_is_affordable() -> None:
    price_list = agreed(percent_off("gift", 100))
    facts = RatingFacts("acme", "m", NOON)

    assert charge_of(price_list).contracted_nanos == 0
    assert affordable_output_tokens(0, 1_000, facts, price_list) == 100_000_000


def test_a_contract_publishes_no_price() -> None:
    contract = Contract("own", rates={"images": Fraction(1)})

    charge = charge_of(agreed(contract), {"input_tokens": 1, "images": 1})

    assert charge.contracted_nanos is None
    assert charge.flags == ("contract:own", "unrated_images")


def test_bounds_follow_the_contract_where_budgets_do() -> None:
    price_list = agreed(percent_off("c", 50))
    facts = RatingFacts("acme", "m", NOON)

    bound = upper_bound_cost(1_000_000, 1_000_000, facts, price_list)

    assert (bound.list_nanos, bound.effective_nanos) == (5_000_000_000, 2_500_000_000)
    # Half a dollar for the input leaves half a dollar for output at two dollars a million.
    assert affordable_output_tokens(1_000_000_000, 1_000_000, facts, price_list) == 250_000


def test_covered_usage_keeps_its_prices_and_has_no_effective_cost_of_its_own() -> None:
    price_list = agreed(percent_off("c", 50))
    facts = RatingFacts("acme", "m", NOON, commitment="ptu")

    charge = rate(MILLION_IN, facts, price_list)

    assert (charge.list_nanos, charge.contracted_nanos) == (1_000_000_000, 500_000_000)
    assert charge.effective_nanos == 0
    assert charge.flags == ("contract:c", "commitment:ptu")
    assert upper_bound_cost(1_000_000, 1_000_000, facts, price_list).effective_nanos == 0
    assert affordable_output_tokens(0, 1_000_000, facts, price_list) == 100_000_000
    assert affordable_output_tokens(-1, 1_000_000, facts, price_list) == 0


def test_covered_usage_without_a_price_is_unpriced_all_the_same() -> None:
    charge = charge_of(make_price_list(), model="none", commitment="ptu")

    assert charge.effective_nanos is None
    assert charge.flags == ("commitment:ptu", "model_unknown")


YUAN_LIST = make_price_list(make_model(make_price(currency="CNY")))
YUAN_QUOTE = Quote(date(2026, 3, 1), "USD", {"CNY": Fraction(8)}, "bank")


def test_a_foreign_price_is_converted_by_the_quote_of_its_day_and_rounded_once() -> None:
    price_list = agreed(percent_off("c", 50), price_list=YUAN_LIST, exchange=FxTable((YUAN_QUOTE,)))

    charge = charge_of(price_list, {"input_tokens": 12})

    # 12 microyuan are 1.5 microdollars.
    assert (charge.list_nanos, charge.contracted_nanos) == (1_500, 750)
    assert charge.flags == ("contract:c", "fx:CNY@2026-03-01")
    assert sum(line.amount_picos for line in charge_lines({"input_tokens": 12}, charge)) == (
        1_500_000
    )


def test_without_a_quote_that_day_a_foreign_price_is_unpriced() -> None:
    price_list = agreed(price_list=YUAN_LIST, exchange=FxTable((YUAN_QUOTE,)))

    early = charge_of(price_list, occurred_at=day("2026-02-28"))
    late = charge_of(price_list, occurred_at=day("2026-04-15"))

    assert (early.list_nanos, early.flags) == (None, ("currency_CNY",))
    assert (late.list_nanos, late.flags) == (None, ("currency_CNY",))
    assert charge_of(price_list, occurred_at=day("2026-04-14")).list_nanos == 125_000_000


def test_the_cache_of_conversions_is_bounded_and_forgetting_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(price_lists, "MAX_CACHED_SCHEDULES", 2)
    price_list = agreed(price_list=YUAN_LIST, exchange=FxTable((YUAN_QUOTE,)))
    days = [day(f"2026-03-0{number}") for number in (1, 2, 3, 1)]

    costs = [charge_of(price_list, occurred_at=instant).list_nanos for instant in days]

    assert costs == [125_000_000] * 4


def test_what_was_agreed_changes_what_a_charge_is_known_by() -> None:
    contracts = [percent_off("c", 10), percent_off("c", 20), percent_off("d", 10)]

    plain = charge_of(make_price_list())
    digests = {charge_of(agreed(contract)).price_digest for contract in contracts}
    covered = charge_of(make_price_list(), commitment="ptu").price_digest

    assert plain.price is not None
    assert plain.price_digest == plain.price.price_ref
    assert len({plain.price_digest, covered, *digests}) == 5
    assert charge_of(make_price_list(), model="none").price_digest is None


def test_a_price_list_with_agreements_has_another_version() -> None:
    versions = {make_price_list().version, agreed().version, agreed(exchange=FxTable()).version}

    assert len(versions) == 2


@given(
    quantities=st.dictionaries(
        st.sampled_from(("output_tokens", "reasoning_tokens", "web_searches")),
        st.integers(0, 10**6),
    ),
    contracts=st.lists(
        st.builds(
            Contract,
            id=st.sampled_from("abc"),
            provider=st.sampled_from((None, "acme", "other")),
            account=st.sampled_from((None, "o")),
            times=st.fractions(0, 2, max_denominator=97),
            stacks=st.booleans(),
            rates=st.dictionaries(
                st.sampled_from(("input_tokens", "reasoning_tokens", "requests")),
                st.fractions(0, 10**7, max_denominator=12),
            ),
        ),
        max_size=4,
    ),
)
def test_contracts_never_change_the_list_cost(
    quantities: dict[str, int], contracts: list[Contract]
) -> None:
    events = {"input_tokens": 10**6, **quantities}

    plain = charge_of(make_price_list(), events, account="o")
    under_contract = charge_of(agreed(*contracts), events, account="o")

    assert under_contract.list_nanos == plain.list_nanos
    assert under_contract.basis == plain.basis

"""Contracts, conversions and commitments cost the same in a table as one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from random import Random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.exchange import FxTable, Quote
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import MAX_QUANTITY, UNITS
from tokenbudget.formats.agreements import load_agreements
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.frames.rating import CHARGE_COLUMNS, rate_frame
from tokenbudget.settings import packaged_path

Event = tuple[RatingFacts, Mapping[str, int]]

SEED = 20261122
EVENTS = 3_000
CONTRACTS = (
    Contract("everything", times=Fraction(7, 8)),
    Contract("own-rates", account="org-1", rates={"input_tokens": Fraction(1_000, 3)}),
    Contract("cached", tier="batch", times=Fraction(1, 3), applies=frozenset(["images"])),
    Contract("on-top", provider="acme", times=Fraction(9, 10), stacks=True),
    Contract("spring", model="m*", times=Fraction(1, 2), valid_from=day("2026-04-01")),
    Contract("gift", model="free", times=Fraction(0)),
)
QUOTES = FxTable(
    (
        Quote(date(2026, 2, 1), "EUR", {"USD": Fraction(11, 10), "CNY": Fraction(78, 10)}),
        Quote(date(2026, 3, 1), "EUR", {"USD": Fraction(12, 10), "CNY": Fraction(81, 10)}),
    )
)


def agreed_price_list() -> PriceList:
    """Give a list with steps, a foreign model and everything that can be agreed."""
    published = make_price_list(
        make_model(
            make_price({"input_tokens": 333, "output_tokens": 1_501}),
            make_price({"input_tokens": 501, "output_tokens": 1_000}, above=100),
            make_price({"input_tokens": 250, "output_tokens": 500}, tier="batch"),
        ),
        make_model(make_price(currency="CNY"), model="foreign"),
        make_model(make_price({"audio_seconds": 100_000_001}, divisor=9), model="spoken"),
        make_model(make_price(), model="free"),
    )
    return published.with_agreements(Agreements(CONTRACTS, exchange=QUOTES, version="1"))


def as_frame(events: Sequence[Event]) -> pl.DataFrame:
    """Give the events as a table with a column for every fact and unit."""
    names = ("provider", "model", "service_tier", "region", "account", "commitment")
    rows = [
        {
            **{name: getattr(facts, name) for name in (*names, "occurred_at")},
            **{unit: quantities.get(unit) for unit in UNITS},
        }
        for facts, quantities in events
    ]
    times = {"occurred_at": pl.Datetime("us", "UTC")}
    texts = dict.fromkeys(names, pl.String)
    return pl.DataFrame(rows, schema={**texts, **times, **dict.fromkeys(UNITS, pl.Int64)})


def assert_twins_agree(events: Sequence[Event], price_list: PriceList) -> None:
    """Compare every column of every charge with the domain's."""
    table = rate_frame(as_frame(events), price_list).select(CHARGE_COLUMNS.keys())
    for (facts, quantities), row in zip(events, table.iter_rows(named=True), strict=True):
        charge = rate(quantities, facts, price_list)
        assert row == {
            "price_ref": charge.price.price_ref if charge.price else None,
            "price_digest": charge.price_digest,
            "list_nanos": charge.list_nanos,
            "contracted_nanos": charge.contracted_nanos,
            "effective_nanos": charge.effective_nanos,
            "basis": charge.basis.value,
            "flags": list(charge.flags),
        }, (facts, quantities)


@given(
    st.lists(
        st.tuples(
            st.builds(
                RatingFacts,
                provider=st.sampled_from(("acme", "acme-ai", "nobody")),
                model=st.sampled_from(("m", "foreign", "spoken", "free", "none")),
                occurred_at=st.integers(0, 200 * 24).map(
                    lambda hours: day("2026-01-01") + timedelta(hours=hours)
                ),
                service_tier=st.sampled_from((None, "batch", "flex")),
                account=st.sampled_from((None, "org-1", "org-2")),
                commitment=st.sampled_from((None, None, "ptu")),
            ),
            st.dictionaries(
                st.sampled_from(
                    ("input_tokens", "output_tokens", "cached_input_tokens", "audio_seconds")
                ),
                st.sampled_from((0, 1, 2, 3, 50, 100, 101, MAX_QUANTITY)),
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_kind_of_agreement_costs_the_same(events: list[Event]) -> None:
    assert_twins_agree(events, agreed_price_list())


def test_the_shipped_book_in_euro_under_contract_costs_the_same() -> None:
    pricing = packaged_path("pricing")
    published = load_price_book(pricing, currency="EUR")
    shipped = load_agreements(pricing, None, published)
    price_list = published.with_agreements(
        Agreements(CONTRACTS, exchange=shipped.exchange, version=shipped.version)
    )
    random = Random(SEED)
    names = [(part.provider, model.model) for part in published.providers for model in part.models]
    events: list[Event] = [
        (
            RatingFacts(
                *random.choice(names),
                occurred_at=day("2026-01-01") + timedelta(seconds=random.randrange(330 * 86_400)),
                service_tier=random.choice((None, "batch")),
                account=random.choice((None, "org-1")),
            ),
            {
                "input_tokens": random.randrange(300_000),
                "cached_input_tokens": random.randrange(2_000),
                "output_tokens": random.choice((0, 17, 4_001, MAX_QUANTITY)),
            },
        )
        for _ in range(EVENTS)
    ]

    assert_twins_agree(events, price_list)
    charges = [rate(quantities, facts, price_list) for facts, quantities in events]
    converted = [charge for charge in charges if any("fx:USD@" in flag for flag in charge.flags)]
    assert len(converted) > EVENTS // 2


def test_accounts_that_no_contract_names_do_not_multiply_the_keys() -> None:
    events = [
        (RatingFacts("acme", "m", NOON, account=f"org-{number}"), {"input_tokens": 3_000})
        for number in range(50)
    ]
    price_list = agreed_price_list()

    table = rate_frame(as_frame(events), price_list)

    # org-1 has rates of its own, 1,000/3 picos a token; the others pay 7/8 of 501, all 9/10 on top.
    assert table["contracted_nanos"].to_list() == [1_184, 900, *[1_184] * 48]


def test_a_table_without_accounts_knows_no_contract_of_one() -> None:
    frame = pl.DataFrame(
        {
            "provider": ["acme"],
            "model": ["m"],
            "occurred_at": [datetime.fromisoformat("2026-03-02T12:00:00Z")],
            "input_tokens": [3_000],
        }
    )

    assert rate_frame(frame, agreed_price_list())["contracted_nanos"].to_list() == [1_184]

"""Every price of the book changes at its instant, and hourly prices keep weekday and zone.

The cases are made from the price files themselves, by the rules of ``dated_rows.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache

import pytest

from tests.pricing.dated_rows import WrittenModel, usage_for, written_models
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import Charge, RatingFacts, rate
from tokenbudget.formats.price_book import build_price_list, load_price_book
from tokenbudget.settings import packaged_path

NANO = 10**9
HALF_A_NANO = Fraction(1, 2 * NANO)
MOMENT = timedelta(microseconds=1)
SIDES = (-MOMENT, timedelta(0), MOMENT)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ONE_WEEK = timedelta(weeks=1)
HOURS_A_WEEK = 7 * 24
ZONED_BOOK = """
schema = 1
provider = "acme"
[model.m]
price = [
  { input = 1 },
  { hours = ["09:00-12:00"], days = "mon-fri", tz = "Asia/Shanghai", input = 2 },
]
[model.night]
price = [
  { input = 4 },
  { hours = ["22:00-06:00"], days = "sat-sun", tz = "America/New_York", input = 3 },
]
"""


@cache
def published() -> PriceList:
    """Give the price book that ships."""
    return load_price_book(packaged_path("pricing"))


def differences(model: WrittenModel, instants: Iterable[datetime]) -> Iterator[str | None]:
    """Give, for every instant and row in force, how the charge differs from the row, or None."""
    for instant in instants:
        for place in model.places:
            row = model.row_at(place, instant)
            if row is None:
                continue
            quantities, expected = usage_for(row)
            region = place.region or None
            facts = RatingFacts(model.provider, model.model, instant, place.tier, region)
            charge = rate(quantities, facts, published())
            yield difference(charge, expected, f"{model.provider} {model.model} {place} {instant}")


def difference(charge: Charge, expected: Fraction, where: str) -> str | None:
    """Give None when the charge is the exact cost to within half a nano, else a sentence."""
    nanos = charge.list_nanos
    if nanos is not None and abs(Fraction(nanos, NANO) - expected) <= HALF_A_NANO:
        return None
    return f"{where}: {nanos} is not {expected}, {charge.flags}"


def hour_edges(model: WrittenModel) -> Iterator[datetime]:
    """Give the edges of every hour of two weeks around each change of the model, and of now."""
    for change in [*model.changes, NOW]:
        start = change.replace(minute=0, second=0, microsecond=0) - ONE_WEEK
        hours = (start + timedelta(hours=number) for number in range(2 * HOURS_A_WEEK))
        for hour in hours:
            yield from (hour + side for side in SIDES)


def test_every_change_of_price_happens_at_its_instant() -> None:
    changing = [model for model in written_models() if model.changes and not model.has_daily_hours]

    outcomes = [
        outcome
        for model in changing
        for outcome in differences(
            model, (change + side for change in model.changes for side in SIDES)
        )
    ]

    assert len(changing) >= 150
    assert len({model.provider for model in changing}) >= 15
    assert len(outcomes) >= 1_000
    assert list(filter(None, outcomes)) == []


def test_prices_by_the_hour_hold_in_every_hour_around_every_change() -> None:
    hourly = [model for model in written_models() if model.has_daily_hours]

    outcomes = [outcome for model in hourly for outcome in differences(model, hour_edges(model))]

    assert {model.provider for model in hourly} >= {"deepseek"}
    assert len(outcomes) >= 5_000
    assert list(filter(None, outcomes)) == []


@pytest.mark.parametrize(
    ("model", "instant", "dollars"),
    [
        # Shanghai is eight hours ahead: 09:00 to 12:00 is 01:00 to 04:00 UTC.
        ("m", "2026-11-13T00:59:59.999999+00:00", 1),
        ("m", "2026-11-13T01:00:00+00:00", 2),
        ("m", "2026-11-13T03:59:59.999999+00:00", 2),
        ("m", "2026-11-13T04:00:00+00:00", 1),
        # It is Saturday there, and Monday.
        ("m", "2026-11-14T01:00:00+00:00", 1),
        ("m", "2026-11-16T01:00:00+00:00", 2),
        # 22:00 of a Saturday in New York is 02:00 UTC in summer and 03:00 UTC in winter.
        ("night", "2026-10-25T01:59:59.999999+00:00", 4),
        ("night", "2026-10-25T02:00:00+00:00", 3),
        ("night", "2026-11-08T02:59:59.999999+00:00", 4),
        ("night", "2026-11-08T03:00:00+00:00", 3),
        # On the night the clocks go back, 01:30 comes twice, and both are night.
        ("night", "2026-11-01T05:30:00+00:00", 3),
        ("night", "2026-11-01T06:30:00+00:00", 3),
        # Sunday's night ends at midnight, when Monday begins.
        ("night", "2026-11-09T04:59:59.999999+00:00", 3),
        ("night", "2026-11-09T05:00:00+00:00", 4),
    ],
)
def test_hours_and_weekdays_are_those_of_the_rows_zone(
    model: str, instant: str, dollars: int
) -> None:
    price_list = build_price_list({"acme.toml": ZONED_BOOK})
    facts = RatingFacts("acme", model, datetime.fromisoformat(instant))

    charge = rate({"input_tokens": 1_000_000}, facts, price_list)

    assert charge.list_nanos == dollars * NANO
    assert charge.flags == ()

"""A quote of a day converts until the next one, or until it is too old to be believed."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from fractions import Fraction

from tests.price_builders import day
from tokenbudget.domain.exchange import MAX_AGE, FxTable, Quote

MONDAY = Quote(date(2026, 11, 2), "EUR", {"USD": Fraction(5, 4), "CNY": Fraction(8)}, "bank")
TUESDAY = Quote(date(2026, 11, 3), "EUR", {"USD": Fraction(6, 5)}, "bank")
TABLE = FxTable((MONDAY, TUESDAY))
INSTANT = timedelta.resolution


def ratio_at(
    currency: str, into: str, instant: datetime, table: FxTable = TABLE
) -> Fraction | None:
    """Give what one unit of a currency is worth."""
    conversion = table.conversion_at(currency, into, instant)
    return conversion.ratio if conversion else None


def test_a_quote_converts_to_its_base_from_it_and_across_it() -> None:
    noon = datetime.fromisoformat("2026-11-02T12:00:00Z")

    assert ratio_at("EUR", "USD", noon) == Fraction(5, 4)
    assert ratio_at("USD", "EUR", noon) == Fraction(4, 5)
    assert ratio_at("CNY", "USD", noon) == Fraction(5, 32)


def test_a_quote_holds_from_midnight_utc_of_its_day_until_the_next_of_the_pair() -> None:
    assert ratio_at("EUR", "USD", day("2026-11-02") - INSTANT) is None
    assert ratio_at("EUR", "USD", day("2026-11-02")) == Fraction(5, 4)
    assert ratio_at("EUR", "USD", day("2026-11-03") - INSTANT) == Fraction(5, 4)
    assert ratio_at("EUR", "USD", day("2026-11-03")) == Fraction(6, 5)
    assert ratio_at("EUR", "CNY", day("2026-11-03")) == Fraction(8)


def test_a_quote_that_is_too_old_converts_nothing() -> None:
    last = day("2026-11-02") + MAX_AGE

    assert ratio_at("EUR", "CNY", last - INSTANT) == Fraction(8)
    assert ratio_at("EUR", "CNY", last) is None


def test_a_currency_that_no_quote_names_is_not_converted() -> None:
    assert ratio_at("JPY", "USD", day("2026-11-03")) is None
    assert ratio_at("CNY", "USD", day("2026-11-03"), FxTable()) is None


def test_of_two_quotes_of_a_day_the_later_in_the_table_wins() -> None:
    own = Quote(date(2026, 11, 3), "USD", {"CNY": Fraction(7)}, "treasury")

    conversion = FxTable((MONDAY, TUESDAY, own)).conversion_at("CNY", "USD", day("2026-11-04"))

    assert conversion is not None
    assert (conversion.ratio, conversion.source) == (Fraction(1, 7), "treasury")
    assert conversion.flag == "fx:CNY@2026-11-03"

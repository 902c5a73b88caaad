"""Foreign exchange: which dated rate converts one currency into another at an instant.

It owns the table of quotes and how old one may be; it refuses to fetch a quote and to round an
amount. A conversion is an exact fraction, so a charge in a foreign currency is still rounded once.
A quote holds from midnight UTC of its day until the next one of the pair, at most until it is too
old; then there is no conversion, and what it would have priced is unpriced.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Final

MAX_AGE: Final = timedelta(days=45)
"""How long a quote may serve when the next one is missing."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What one unit of ``base`` was worth in other currencies on a day, and who said so."""

    day: date
    base: str
    values: Mapping[str, Fraction]
    source: str = ""

    @property
    def starts_at(self) -> datetime:
        """Give the instant from which the quote holds."""
        return datetime.combine(self.day, time(), tzinfo=UTC)

    def ratio(self, currency: str, into: str) -> Fraction | None:
        """Give the worth of one unit of ``currency``, None when the quote does not name both."""
        worth, other = self._value(into), self._value(currency)
        return None if worth is None or other is None else worth / other

    def _value(self, currency: str) -> Fraction | None:
        return Fraction(1) if currency == self.base else self.values.get(currency)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One unit of ``currency`` is worth ``ratio`` units of ``into`` by the quote of a day."""

    currency: str
    into: str
    ratio: Fraction
    day: date
    source: str

    @property
    def flag(self) -> str:
        """Give what a charge says of its conversion, such as ``fx:CNY@2026-11-02``."""
        return f"fx:{self.currency}@{self.day.isoformat()}"


@dataclass(frozen=True, slots=True)
class FxTable:
    """Quotes in order of day; of two quotes of one day the later in the table wins."""

    quotes: tuple[Quote, ...] = ()
    max_age: timedelta = MAX_AGE

    def conversion_at(self, currency: str, into: str, instant: datetime) -> Conversion | None:
        """Give the conversion in force, None when no quote of the pair is recent enough."""
        known = bisect_right(self.quotes, instant.astimezone(UTC).date(), key=lambda it: it.day)
        for quote in reversed(self.quotes[:known]):
            if instant - quote.starts_at >= self.max_age:
                return None
            ratio = quote.ratio(currency, into)
            if ratio is not None:
                return Conversion(currency, into, ratio, quote.day, quote.source)
        return None


NO_EXCHANGE: Final = FxTable()

"""What belongs to an invoice's month: it owns the zones that months are cut in, and conversion.

It refuses matching. Months are numbers, year * 100 + month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from typing import Final

from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.exchange import Conversion, FxTable
from tokenbudget.domain.money import DECIMAL_PRECISION, divide_half_even
from tokenbudget.domain.months import month_period
from tokenbudget.domain.periods import Period, Window, window_at

INVOICE_ZONES: Final = {"google": "America/Los_Angeles"}
"""The zones of providers whose invoices are not cut in UTC, by their name in the price book."""

CONVERTED_DIGITS: Final = 18
CONVERTED_UNITS: Final = 10**CONVERTED_DIGITS
_EXACT: Final = Context(prec=DECIMAL_PRECISION, traps=[Inexact, InvalidOperation, Overflow])

CanonicalProvider = Callable[[str], str]
"""Gives the price book's name of a provider, the word itself when the book has none."""


@dataclass(frozen=True, slots=True)
class ConvertedLines:
    """Lines in one currency, by which quotes they came there, and those that no quote converts."""

    lines: tuple[BilledCost, ...]
    conversions: tuple[Conversion, ...]
    unconverted: tuple[BilledCost, ...]


def invoice_period(provider: str, month: int) -> Period:
    """Give the time whose usage the provider's invoice of the month is for.

    ``provider`` is the price book's name.
    """
    period = month_period(month)
    zone_name = INVOICE_ZONES.get(provider)
    if zone_name is None:
        return period
    return window_at(Window.MONTH, period.start + (period.end - period.start) / 2, zone_name)


def convert_lines(lines: Iterable[BilledCost], currency: str, table: FxTable) -> ConvertedLines:
    """Give the lines in the currency, each by the quote in force when its time begins.

    What is converted is rounded half to even to 18 decimals. The order stays.
    """
    kept: list[BilledCost] = []
    unconverted: list[BilledCost] = []
    used: dict[str, Conversion] = {}
    for line in lines:
        if line.currency == currency:
            kept.append(line)
            continue
        conversion = table.conversion_at(line.currency, currency, line.period.start)
        if conversion is None:
            unconverted.append(line)
            continue
        used[conversion.flag] = conversion
        amount = convert_amount(line.amount, conversion.ratio)
        kept.append(replace(line, amount=amount, currency=currency))
    conversions = tuple(used[flag] for flag in sorted(used))
    return ConvertedLines(tuple(kept), conversions, tuple(unconverted))


def convert_amount(amount: Decimal, ratio: Fraction) -> Decimal:
    """Give the amount times the ratio, rounded half to even to 18 decimals."""
    exact = Fraction(amount) * ratio * CONVERTED_UNITS
    units = divide_half_even(exact.numerator, exact.denominator)
    return _EXACT.scaleb(Decimal(units), Decimal(-CONVERTED_DIGITS))


def spell_like_bills(
    provider: str, billed: Iterable[str], canonical_provider: CanonicalProvider
) -> str:
    """Give the name that bills have for a provider of usage, its own when they have none.

    Where the book takes a cloud's name for its service of models, the longer name is meant: what a
    cloud bills under its own name is something else.
    """
    book_name = canonical_provider(provider)
    alike = [name for name in billed if canonical_provider(name) == book_name]
    if not alike:
        return provider
    # Services have names with a dot, clouds have not.
    services = [name for name in alike if "." in name] or alike
    return provider if provider in services else max(services, key=lambda name: (len(name), name))

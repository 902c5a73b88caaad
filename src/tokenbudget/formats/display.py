"""Figures as people read them.

It owns the wording of money, counts, shares, changes and times on pages and in reports.

It refuses to round what must add up: amounts arrive with the cents they are shown with.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

from tokenbudget.domain.breakdowns import Amount, rounded_amount
from tokenbudget.domain.money import divide_half_even
from tokenbudget.domain.periods import Period, zone

SYMBOLS: Final = {"USD": "$", "EUR": "€", "GBP": "£"}
MINUS: Final = "\N{MINUS SIGN}"
DASH: Final = "\N{EN DASH}"
CENTS_PER_UNIT: Final = 100
TENTHS: Final = 10
MAX_CHANGE_TENTHS: Final = 9_999
COUNT_SCALES: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"))
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOMENT: Final = timedelta(microseconds=1)


def money_text(amount: Amount, currency: str) -> str:
    """Give ``$12,345.67``; an amount that is something but shows no cent is ``<$0.01``."""
    if amount.cents == 0 and amount.nanos != 0:
        return f"{_sign(amount.nanos)}<{cents_text(1, currency)}"
    return cents_text(amount.cents, currency)


def nanos_text(nanos: int, currency: str) -> str:
    """Give an amount that stands alone, rounded half to even to cents: ``$12,345.67``."""
    return money_text(rounded_amount(nanos), currency)


def change_text(change: Amount, currency: str) -> str:
    """Give the signed amount, such as ``+$12.00``; no change is ``$0.00``."""
    sign = "+" if (change.cents or change.nanos) > 0 else ""
    return f"{sign}{money_text(change, currency)}"


def cents_text(cents: int, currency: str) -> str:
    """Give ``$12,345.67``, or ``CHF 12,345.67`` where the currency has no sign of its own here."""
    units, hundredths = divmod(abs(cents), CENTS_PER_UNIT)
    symbol = SYMBOLS.get(currency, f"{currency}\N{NO-BREAK SPACE}")
    return f"{_sign(cents)}{symbol}{units:,}.{hundredths:02d}"


def tick_text(cents: int, currency: str) -> str:
    """Give a round amount for an axis: without cents that say nothing, and from a million short."""
    for scale, letter in COUNT_SCALES:
        if abs(cents) >= scale * CENTS_PER_UNIT:
            tenths = divide_half_even(abs(cents) * TENTHS, scale * CENTS_PER_UNIT)
            short = cents_text(tenths * CENTS_PER_UNIT // TENTHS, currency)
            return f"{_sign(cents)}{short.removesuffix('0').removesuffix('.0')}{letter}"
    return cents_text(cents, currency).removesuffix(".00")


def count_text(count: int) -> str:
    """Give ``1,234,567``."""
    return f"{_sign(count)}{abs(count):,}"


def short_count_text(count: int) -> str:
    """Give the count with one decimal from a million on, such as ``12.3M``; else in full."""
    for scale, letter in COUNT_SCALES:
        if abs(count) >= scale:
            tenths = divide_half_even(abs(count) * TENTHS, scale)
            return f"{_sign(count)}{tenths // TENTHS:,}.{tenths % TENTHS}{letter}"
    return count_text(count)


def tenths_text(tenths: int) -> str:
    """Give ``12.3%`` for 123 tenths of a percent."""
    return f"{_sign(tenths)}{abs(tenths) // TENTHS:,}.{abs(tenths) % TENTHS}%"


def share_text(part: int, whole: int) -> str:
    """Give the part as a percentage of the whole, or a dash when there is no whole."""
    return tenths_text(divide_half_even(part * 100 * TENTHS, whole)) if whole > 0 else DASH


def change_share_text(now: int, before: int) -> str:
    """Give the relative change, such as ``+12.3%``.

    What was nothing before is ``new``; nothing twice, or a former figure below zero, is a dash;
    more than a thousandfold percent is ``>999.9%``.
    """
    if before == 0 and now > 0:
        return "new"
    if before <= 0:
        return DASH
    tenths = divide_half_even((now - before) * 100 * TENTHS, before)
    if tenths > MAX_CHANGE_TENTHS:
        return f">{tenths_text(MAX_CHANGE_TENTHS)}"
    return f"{'+' if tenths > 0 else ''}{tenths_text(tenths)}"


def quantity_text(quantity: int, unit: str, currency: str) -> str:
    """Give what a budget counts in its unit: money, tokens or requests."""
    if unit == "money":
        return nanos_text(quantity, currency)
    return f"{short_count_text(quantity)} {unit}"


def threshold_text(share: str) -> str:
    """Give ``80%`` for the share ``0.8`` of a limit."""
    return f"{(Decimal(share) * 100).normalize():f}%"


def counted_text(count: int, singular: str, plural: str | None = None) -> str:
    """Give the count with its noun, such as ``1 request`` or ``2 requests``."""
    noun = singular if count == 1 else plural or f"{singular}s"
    return f"{count_text(count)} {noun}"


def day_text(instant: datetime, timezone: str) -> str:
    """Give ``Mon 9 Nov`` in the zone."""
    day = instant.astimezone(zone(timezone)).date()
    return f"{WEEKDAYS[day.weekday()]} {_day_and_month(day)}"


def short_day_text(instant: datetime, timezone: str) -> str:
    """Give ``9 Nov`` in the zone."""
    return _day_and_month(instant.astimezone(zone(timezone)).date())


def moment_text(instant: datetime, timezone: str) -> str:
    """Give ``21 Nov 2026, 07:51`` in the zone."""
    local = instant.astimezone(zone(timezone))
    return f"{_day_and_month(local.date())} {local.year}, {local:%H:%M}"


def period_text(period: Period, timezone: str) -> str:
    """Give the first and last day of the period in the zone, such as ``9–15 November 2026``."""
    tz = zone(timezone)
    first = period.start.astimezone(tz).date()
    last = (period.end - MOMENT).astimezone(tz).date()
    if (first.year, first.month) == (last.year, last.month):
        days = str(first.day) if first == last else f"{first.day}{DASH}{last.day}"
        return f"{days} {MONTHS[last.month - 1]} {last.year}"
    start = f"{first.day} {MONTHS[first.month - 1]}"
    start = start if first.year == last.year else f"{start} {first.year}"
    return f"{start} {DASH} {last.day} {MONTHS[last.month - 1]} {last.year}"


def month_text(instant: datetime, timezone: str) -> str:
    """Give ``November 2026`` in the zone."""
    local = instant.astimezone(zone(timezone))
    return f"{MONTHS[local.month - 1]} {local.year}"


def _day_and_month(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1][:3]}"


def _sign(number: int) -> str:
    return MINUS if number < 0 else ""

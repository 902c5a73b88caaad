"""Calendar months as numbers, year * 100 + month: it owns their order and text.

Months of bills, charges and statements are UTC. It refuses other windows (``periods.py``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import MONTHS_PER_YEAR, Period

MONTH: Final = re.compile(r"(20\d\d|19[7-9]\d|21\d\d)-(0[1-9]|1[0-2])", re.ASCII)


def parse_month(text: str, *, field: str = "period") -> int:
    """Give the month of ``2026-09``; raises InvalidInput, naming the field, for any other text."""
    match = MONTH.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{field} {text!r} is not a month such as 2026-09", field=field)
    return int(match[1]) * 100 + int(match[2])


def format_month(month: int) -> str:
    """Give ``2026-09``."""
    return f"{month // 100:04d}-{month % 100:02d}"


def month_at(instant: datetime) -> int:
    """Give the UTC month that holds the instant."""
    moment = instant.astimezone(UTC)
    return moment.year * 100 + moment.month


def shift_month(month: int, count: int) -> int:
    """Give the month that comes ``count`` months later, or earlier when it is negative."""
    years, place = divmod(month // 100 * MONTHS_PER_YEAR + month % 100 - 1 + count, MONTHS_PER_YEAR)
    return years * 100 + place + 1


def month_period(month: int) -> Period:
    """Give the month from its first instant until the first of the next, in UTC."""
    return Period(_start_of(month), _start_of(shift_month(month, 1)))


def _start_of(month: int) -> datetime:
    return datetime(month // 100, month % 100, 1, tzinfo=UTC)

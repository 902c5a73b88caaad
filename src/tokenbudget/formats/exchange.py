"""Exchange rates as files write them: one base currency, one source, one quote a day.

It refuses to choose a quote (``domain/exchange.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.exchange import Quote
from tokenbudget.formats.agreement_tables import Currency, Word, convert, exact_number, naming

CURRENCY: Final = re.compile("[A-Z]{3}")


class _FxShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    base: Currency
    source: Word
    quotes: list[dict[str, Any]]


def parse_quotes(table: object, *, where: str) -> Iterator[Quote]:
    """Give the quotes of an ``[fx]`` table in its order; raises BadFile naming the quote."""
    with naming(where):
        shape = convert(table, _FxShape)
    for number, entry in enumerate(shape.quotes, start=1):
        with naming(f"{where}: quote {number}"):
            quote = _quote(entry, shape)
        yield quote


def _quote(entry: Mapping[str, Any], shape: _FxShape) -> Quote:
    day = entry.get("day")
    if not isinstance(day, date) or isinstance(day, datetime):
        raise InvalidInput("day must be a date")
    values = {
        currency: exact_number(convert(value, Decimal), currency)
        for currency, value in entry.items()
        if currency != "day"
    }
    for currency, value in values.items():
        if not CURRENCY.fullmatch(currency) or value == 0:
            raise InvalidInput(f"{currency} must be a currency code with a rate above zero")
    return Quote(day, shape.base, values, shape.source)

"""Price rows as the ledger keeps them.

The published row and the multiplier a charge was rated with, known by digest.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from tokenbudget.domain.price_lists import PriceMatch


def price_digest(match: PriceMatch) -> str:
    """Give what identifies the row and multiplier of a match in every process."""
    if match.numerator == match.denominator:
        return match.price.price_ref
    return f"{match.price.price_ref}*{match.numerator}/{match.denominator}"


def price_row_of(match: PriceMatch, now: datetime) -> dict[str, Any]:
    """Give the row to store for a match."""
    price = match.price
    selector: dict[str, Any] = {
        name: value for name, value in asdict(price.selector).items() if value is not None
    }
    if match.numerator != match.denominator:
        selector["times"] = f"{match.numerator}/{match.denominator}"
    if price.divisor != 1:
        selector["divisor"] = price.divisor
    return {
        "digest": price_digest(match),
        "provider": price.provider,
        "model": price.model,
        "currency": price.currency,
        "selector": selector,
        "rates": dict(price.rates),
        "origin": price.source or None,
        "valid_from": price.valid_from,
        "valid_to": price.valid_to,
        "recorded_at": now,
    }

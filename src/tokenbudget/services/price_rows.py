"""Price rows as the ledger keeps them: all that a charge of them can be worked out from again.

The published row and its multiplier, and what was agreed about it: the quote that converted it, the
rates under contract and the commitment that covered the usage. Known by digest.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from tokenbudget.domain.rating import price_digest
from tokenbudget.domain.schedules import PriceMatch


def price_row_of(
    match: PriceMatch, now: datetime, *, commitment: str | None = None
) -> dict[str, Any]:
    """Give the row to store for a match and the commitment that covers its usage."""
    price = match.price
    selector: dict[str, Any] = {
        name: value for name, value in asdict(price.selector).items() if value is not None
    }
    if match.numerator != match.denominator:
        selector["times"] = f"{match.numerator}/{match.denominator}"
    if price.divisor != 1:
        selector["divisor"] = price.divisor
    return {
        "digest": price_digest(match, commitment),
        "provider": price.provider,
        "model": price.model,
        "currency": price.currency,
        "selector": selector,
        "rates": dict(price.rates),
        "agreed": _agreed(match) or None,
        "commitment": commitment,
        "origin": price.source or None,
        "valid_from": price.valid_from,
        "valid_to": price.valid_to,
        "recorded_at": now,
    }


def _agreed(match: PriceMatch) -> dict[str, Any]:
    """Give what the contracted cost and the ledger currency follow from, numbers as text."""
    agreed: dict[str, Any] = {}
    if match.conversion is not None:
        agreed["exchange"] = {
            "into": match.conversion.into,
            "rate": str(match.conversion.ratio),
            "day": match.conversion.day.isoformat(),
            "source": match.conversion.source,
        }
    if match.contracts:
        contracted = match.contracted
        agreed["contracts"] = [contract.id for contract in match.contracts]
        agreed["rates"] = {unit: str(rate) for unit, rate in contracted.rates.items()}
        agreed["times"] = f"{contracted.numerator}/{contracted.denominator}"
    return agreed

"""Prices as a FOCUS export tells them, from price rows as the ledger keeps them.

It is the way back from ``price_rows.py``; it refuses to choose a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from tokenbudget.domain.focus import PriceTerms, unit_prices
from tokenbudget.domain.prices import STANDARD_TIER, inherit_rates
from tokenbudget.domain.schedules import TOKEN_UNIT_SET

WRITTEN: Final = "cache_write_tokens"
WRITTEN_FOR_MINUTES: Final = "cache_write_5m_tokens"


def terms_of(row: Mapping[str, Any]) -> PriceTerms:
    """Give the published and contracted prices of a stored row, in the ledger currency.

    Rollups do not tell how long a cache keeps what was written to it: such tokens have the usual,
    shorter time's price, and what the longer one costs more is left to be explained apart.
    """
    agreed = row["agreed"] or {}
    if "shares_of" in agreed:
        return PriceTerms(commitment=agreed["shares_of"], is_share=True)
    selector = row["selector"]
    listed = _published(row)
    contracted = listed
    if "rates" in agreed:
        ratio = Fraction(agreed["times"])
        contracted = {unit: Fraction(rate) * ratio for unit, rate in agreed["rates"].items()}
    if WRITTEN not in row["rates"] and WRITTEN_FOR_MINUTES in row["rates"]:
        for rates in (listed, contracted):
            rates[WRITTEN] = rates[WRITTEN_FOR_MINUTES]
    return PriceTerms(
        listed=unit_prices(listed, tokens=TOKEN_UNIT_SET),
        contracted=unit_prices(contracted, tokens=TOKEN_UNIT_SET),
        tier=selector.get("tier") or STANDARD_TIER,
        region=selector.get("region"),
        above=selector.get("above"),
        commitment=row["commitment"],
    )


def _published(row: Mapping[str, Any]) -> dict[str, Fraction]:
    """Give what units cost in exact picos, those without a rate taking their parent's."""
    selector, exchange = row["selector"], (row["agreed"] or {}).get("exchange")
    quote = Fraction(exchange["rate"]) if exchange else Fraction(1)
    of_tokens = Fraction(selector.get("times", 1)) * quote
    of_others = Fraction(1, selector.get("divisor", 1)) * quote
    return inherit_rates(
        {
            unit: rate * (of_tokens if unit in TOKEN_UNIT_SET else of_others)
            for unit, rate in row["rates"].items()
        }
    )

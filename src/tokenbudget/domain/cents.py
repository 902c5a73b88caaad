"""Shares of either sign, and the last rounding to what a currency pays in.

It owns minor units and how parts become whole cents that add up; it refuses to know what is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from tokenbudget.domain.money import DECIMAL_PRECISION, NANO_DIGITS

USUAL_DIGITS: Final = 2
MINOR_DIGITS: Final = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"), 0),
    **dict.fromkeys(("PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""Currencies of ISO 4217 whose minor unit is not a hundredth."""

_ROUNDING: Final = Context(prec=DECIMAL_PRECISION, rounding=ROUND_HALF_EVEN)


def cent_nanos(currency: str) -> int:
    """Give the nanos of the currency's minor unit: 10**7 for a cent, 10**9 for a yen."""
    return int(10 ** (NANO_DIGITS - MINOR_DIGITS.get(currency, USUAL_DIGITS)))


def round_to_cents(amount: Decimal, currency: str) -> int:
    """Give the exact amount in nanos, rounded half to even to the currency's minor unit."""
    digits = MINOR_DIGITS.get(currency, USUAL_DIGITS)
    whole: Decimal = _ROUNDING.quantize(amount, Decimal(1).scaleb(-digits))
    return int(whole.scaleb(NANO_DIGITS, _ROUNDING))


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Give integer parts of ``total`` in proportion to ``weights``, by largest remainder.

    The parts sum to ``total``. Total and weights may be negative: the magnitude of the total is
    shared, a negative weight takes a part of the other sign. Ties go to the earlier weight, and
    weights that sum to zero share evenly. An empty sequence is a ValueError.
    """
    if not weights:
        raise ValueError("nobody to share with")
    weight_sum = sum(weights)
    if weight_sum == 0:
        weights, weight_sum = [1] * len(weights), len(weights)
    if weight_sum < 0:
        weights, weight_sum = [-weight for weight in weights], -weight_sum
    shares = [divmod(abs(total) * weight, weight_sum) for weight in weights]
    parts = [quotient for quotient, _ in shares]
    by_remainder = sorted(range(len(parts)), key=lambda index: (-shares[index][1], index))
    for index in by_remainder[: abs(total) - sum(parts)]:
        parts[index] += 1
    return [-part for part in parts] if total < 0 else parts


def in_cents(parts: Sequence[int], total: int, cent: int) -> list[int]:
    """Give the parts, in nanos, as whole cents that sum to ``total``, itself whole cents.

    Each is rounded down, and what is missing goes one cent each to the largest remainders, ties to
    the earlier part. No part moves by a cent or more unless ``total`` is further from the sum of
    the parts than there are parts. An empty sequence is a ValueError.
    """
    if not parts:
        raise ValueError("nobody to bear the cents")
    floors = [divmod(part, cent) for part in parts]
    each, extra = divmod(total // cent - sum(quotient for quotient, _ in floors), len(parts))
    cents = [quotient + each for quotient, _ in floors]
    by_remainder = sorted(range(len(parts)), key=lambda index: (-floors[index][1], index))
    for index in by_remainder[:extra]:
        cents[index] += 1
    return [count * cent for count in cents]

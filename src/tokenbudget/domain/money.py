"""Exact money. It owns the scales, rounding and splitting; it refuses floats and mixed currencies.

Ledger scale: integer nanos, 10**-9 of a currency unit. Rate scale: integer picos, 10**-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import MAX_PREC, Context, Decimal, FloatOperation, InvalidOperation, localcontext

from tokenbudget.domain.errors import InvalidInput

NANOS_PER_UNIT = 10**9
PICOS_PER_NANO = 10**3
PICOS_PER_UNIT = 10**12
NANO_DIGITS = 9
MAX_NANOS = 2**63 - 1
DECIMAL_PRECISION = 60
EXACT = Context(prec=MAX_PREC, traps=[InvalidOperation, FloatOperation])


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An exact amount of one currency; ``nanos`` may be negative."""

    nanos: int
    currency: str

    def __add__(self, other: Money) -> Money:
        """Give the sum; raises ValueError when the currencies differ."""
        self._require_same_currency(other)
        return Money(self.nanos + other.nanos, self.currency)

    def __sub__(self, other: Money) -> Money:
        """Give the difference; raises ValueError when the currencies differ."""
        self._require_same_currency(other)
        return Money(self.nanos - other.nanos, self.currency)

    def __neg__(self) -> Money:
        """Give the amount with its sign turned."""
        return Money(-self.nanos, self.currency)

    def __str__(self) -> str:
        """Give ``1.500000000 USD``."""
        return f"{format_nanos(self.nanos)} {self.currency}"

    def _require_same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise ValueError(f"currencies never add: {self.currency} and {other.currency}")


def divide_half_even(numerator: int, denominator: int) -> int:
    """Give numerator / denominator rounded half to even; the denominator must be positive."""
    quotient, remainder = divmod(numerator, denominator)
    doubled = remainder * 2
    if doubled > denominator or (doubled == denominator and quotient & 1):
        return quotient + 1
    return quotient


def parse_decimal(text: str | int | Decimal, *, field: str = "amount") -> Decimal:
    """Give the exact decimal; raises InvalidInput for what is not a finite decimal number."""
    try:
        value = EXACT.create_decimal(text)
    except (InvalidOperation, ValueError, TypeError):
        raise InvalidInput(f"{field} {text!r} is not a decimal number", field=field) from None
    if not value.is_finite():
        raise InvalidInput(f"{field} {text!r} is not a finite decimal number", field=field)
    return value


def decimal_to_nanos(value: Decimal) -> int:
    """Give nanos, rounded half to even (amounts on foreign bills have up to 30 digits)."""
    with localcontext() as context:
        context.prec = DECIMAL_PRECISION
        return int((value * NANOS_PER_UNIT).to_integral_value(rounding="ROUND_HALF_EVEN"))


def parse_nanos(text: str | int | Decimal, *, field: str = "amount") -> int:
    """Give nanos for a decimal string such as ``"0.0012345"``.

    Raises InvalidInput when the text is no finite decimal, has more than nine decimals that matter,
    or does not fit into 64 bits.
    """
    value = parse_decimal(text, field=field)
    nanos = decimal_to_nanos(value) if abs(value.adjusted()) < DECIMAL_PRECISION // 2 else None
    if nanos is None and value == 0:
        return 0
    if nanos is None or abs(nanos) > MAX_NANOS:
        raise InvalidInput(f"{field} {text!r} is out of range", field=field)
    if Decimal(nanos).scaleb(-NANO_DIGITS) != value:
        raise InvalidInput(f"{field} {text!r} has more than {NANO_DIGITS} decimals", field=field)
    return nanos


def format_nanos(nanos: int) -> str:
    """Give the wire form: a decimal string with exactly nine decimals, ``"0.001234500"``."""
    sign = "-" if nanos < 0 else ""
    units, fraction = divmod(abs(nanos), NANOS_PER_UNIT)
    return f"{sign}{units}.{fraction:09d}"


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Give integer parts of ``total`` in proportion to ``weights``, by largest remainder.

    The parts sum to ``total``. Ties go to the earlier weight. Weights are at least zero; all-zero
    weights share evenly. An empty sequence is a ValueError, since nobody would bear the total.
    """
    if not weights:
        raise ValueError("nothing to split over")
    if min(weights) < 0:
        raise ValueError("weights must not be negative")
    weight_sum = sum(weights)
    if weight_sum == 0:
        weights, weight_sum = [1] * len(weights), len(weights)
    magnitude = abs(total)
    shares = [divmod(magnitude * weight, weight_sum) for weight in weights]
    parts = [quotient for quotient, _ in shares]
    missing = magnitude - sum(parts)
    by_remainder = sorted(range(len(parts)), key=lambda index: (-shares[index][1], index))
    for index in by_remainder[:missing]:
        parts[index] += 1
    return [-part for part in parts] if total < 0 else parts

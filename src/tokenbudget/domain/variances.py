"""What a variance means: it owns verdicts, tolerance and the exact arithmetic of bills.

It refuses matching (``matching.py``). Amounts are exact decimals, since bills carry more decimals
than the ledger's nanos; no sum is ever rounded.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from typing import Final

from tokenbudget.domain.money import DECIMAL_PRECISION, NANO_DIGITS

TOLERANCE_BASIS_POINTS: Final = 200
BASIS_POINTS: Final = 10_000

ZERO: Final = Decimal(0)
# An amount that does not fit raises instead of losing a digit; nobody else's decimals are touched.
_EXACT: Final = Context(prec=DECIMAL_PRECISION, traps=[Inexact, InvalidOperation, Overflow])


class Verdict(StrEnum):
    """What a variance means.

    MATCHED: within tolerance. DISCOUNT: money taken off that no usage stands for (a credit).
    UNTRACKED: invoiced and not metered, wholly or in part. OVER_COUNTED: metered above what was
    invoiced. MISSING_BILL: metered, and no line invoices it. OPEN: its time is not over yet, so
    nothing is judged.
    """

    MATCHED = "matched"
    DISCOUNT = "discount"
    UNTRACKED = "untracked"
    OVER_COUNTED = "over_counted"
    MISSING_BILL = "missing_bill"
    OPEN = "open"


def judge(
    *,
    metered: Decimal | None,
    invoiced: Decimal | None,
    is_unpriced: bool,
    tolerance_basis_points: int,
) -> Verdict:
    """Give the verdict on what is over; None means that side has nothing.

    The tolerance is a share of what was invoiced. Usage without a price is never judged free: when
    no line invoices it, the bill is missing.
    """
    if invoiced is None:
        is_free = not metered and not is_unpriced
        return Verdict.MATCHED if is_free else Verdict.MISSING_BILL
    if not metered and invoiced < ZERO:
        return Verdict.DISCOUNT
    variance = subtract_exactly(invoiced, metered or ZERO)
    scaled_variance = _EXACT.multiply(variance.copy_abs(), Decimal(BASIS_POINTS))
    if scaled_variance <= _EXACT.multiply(invoiced.copy_abs(), Decimal(tolerance_basis_points)):
        return Verdict.MATCHED
    return Verdict.UNTRACKED if variance > ZERO else Verdict.OVER_COUNTED


def add_exactly(first: Decimal, second: Decimal) -> Decimal:
    """Give the sum with every digit; raises decimal.Inexact rather than round it."""
    return _EXACT.add(first, second)


def subtract_exactly(first: Decimal, second: Decimal) -> Decimal:
    """Give the difference with every digit; raises decimal.Inexact rather than round it."""
    return _EXACT.subtract(first, second)


def exact_amount(nanos: int) -> Decimal:
    """Give the amount that a count of nanos is."""
    return _EXACT.scaleb(Decimal(nanos), Decimal(-NANO_DIGITS))


def format_amount(amount: Decimal) -> str:
    """Give every decimal that matters and at least nine, such as ``0.161703500``."""
    whole, _, fraction = format(amount, "f").partition(".")
    text = f"{whole}.{fraction.rstrip('0').ljust(NANO_DIGITS, '0')}"
    return text.removeprefix("-") if amount.is_zero() else text

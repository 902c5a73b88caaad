"""What providers bill and what they say was used, as the ledger keeps it.

It owns the words of a billed line; it refuses files, SQL and comparison with what was metered.
Amounts are exact decimals of their own currency, which are never added across currencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from tokenbudget.domain.periods import Period


class ChargeCategory(StrEnum):
    """What kind of charge a bill line is, in FOCUS's words."""

    USAGE = "usage"
    PURCHASE = "purchase"
    TAX = "tax"
    CREDIT = "credit"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class BilledCost:
    """One billed line in force, as reconciling and allocating read it; the amount may be negative.

    ``period`` is what it is billed for, be it an hour or a month; ``billing_month`` (year * 100 +
    month) is the invoice that carries it. ``account`` is empty when the bill does not name it;
    ``project`` and ``api_key`` are the provider's ids, None when unknown. ``usage_type`` is a unit
    of the ledger where the line names one, else the provider's word. ``model`` counts for usage
    only: tax, credits and purchases stand for no usage, whatever they name. ``is_correction`` tells
    a line that amends an earlier invoice.
    """

    provider: str
    period: Period
    category: ChargeCategory
    amount: Decimal
    currency: str
    billing_month: int
    account: str = ""
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    usage_type: str | None = None
    description: str | None = None
    invoice_ref: str | None = None
    is_correction: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    line_id: int = 0

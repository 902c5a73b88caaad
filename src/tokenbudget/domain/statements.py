"""A month's statement: who bears what of which invoice, and why.

It owns the words of a statement and their order; it refuses to decide who bears a cost. Amounts
are integer nanos of the ledger currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED

UNTRACKED_OWNER: Final = "Untracked"


class Origin(StrEnum):
    """Where a stated amount comes from.

    USAGE was metered, UNTRACKED was invoiced and not metered, TAX, CREDIT, PURCHASE (fees,
    subscriptions, commitments) and ADJUSTMENT are lines that no usage stands for, UNUSED is the
    part of a commitment nobody used, UNBILLED is metered usage that no invoice ever carries
    (models one hosts oneself).
    """

    USAGE = "usage"
    UNTRACKED = "untracked"
    TAX = "tax"
    CREDIT = "credit"
    PURCHASE = "purchase"
    ADJUSTMENT = "adjustment"
    UNUSED = "unused"
    UNBILLED = "unbilled"


class Method(StrEnum):
    """How an amount came to its bearer.

    DIRECT is what was metered, as metered. SPREAD is what was metered, scaled to the invoice within
    tolerance; ACCEPTED the same where somebody accepted that more was metered than invoiced. MAPPED
    followed the provider's key or project to an owner. RESIDUAL fell to the owner *Untracked*. The
    others say by what a pool was shared.
    """

    DIRECT = "direct"
    SPREAD = "spread"
    ACCEPTED = "accepted"
    MAPPED = "mapped"
    RESIDUAL = "residual"
    BY_DIRECT_COST = "by_direct_cost"
    BY_TOKENS = "by_tokens"
    BY_REQUESTS = "by_requests"
    BY_METRIC = "by_metric"
    EVENLY = "evenly"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who bears a cost. The team ``unallocated`` is a bearer like any other."""

    team: str
    feature: str | None = None
    tenant: str | None = None

    @property
    def order(self) -> tuple[str, str, str]:
        """Give the sort key."""
        return self.team, self.feature or "", self.tenant or ""


NOBODY: Final = Bearer(UNALLOCATED)


@dataclass(frozen=True, slots=True)
class AllocatedCost:
    """What a bearer bears of the invoice of a provider's account, for one reason.

    ``rule`` is the name of the pool or acceptance behind it. ``metered_nanos`` is what the ledger
    had rated, None where no usage stands behind the amount.
    """

    bearer: Bearer
    provider: str
    account: str
    model: str | None
    origin: Origin
    method: Method
    amount_nanos: int
    rule: str | None = None
    metered_nanos: int | None = None
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Invoice:
    """What an account of a provider was invoiced for a month, in whole cents of the ledger.

    ``is_billed`` is False for what no invoice ever carries (``Origin.UNBILLED``).
    """

    provider: str
    account: str
    amount_nanos: int
    is_billed: bool = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a month cannot be closed: a code, what it is about, and by how much."""

    code: str
    detail: str
    amount_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class MonthAllocation:
    """All that was invoiced for a month, divided: by account, the costs add up to the invoices.

    ``month`` is year * 100 + month. With ``refusals`` the costs are a draft and may not be closed.
    """

    month: int
    currency: str
    rules_version: int
    costs: tuple[AllocatedCost, ...]
    invoices: tuple[Invoice, ...]
    refusals: tuple[Refusal, ...] = ()

"""A divided month as the API and the command line show it before anything is closed.

It owns the sums by team and by pool; it refuses to divide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month
from tokenbudget.domain.statements import (
    AllocatedCost,
    Invoice,
    Method,
    MonthAllocation,
    Origin,
    Refusal,
)

OWN_METHODS: Final = frozenset(
    {Method.DIRECT, Method.SPREAD, Method.ACCEPTED, Method.MAPPED, Method.RESIDUAL}
)
"""How an amount comes to a bearer who caused it; all others are of pools."""


@dataclass(slots=True)
class _TeamSums:
    """What a team bears, in nanos."""

    usage: int = 0
    untracked: int = 0
    shared: int = 0
    metered: int = 0
    requests: int = 0
    tokens: int = 0

    def add(self, cost: AllocatedCost) -> None:
        if cost.method not in OWN_METHODS:
            self.shared += cost.amount_nanos
        elif cost.origin is Origin.UNTRACKED:
            self.untracked += cost.amount_nanos
        else:
            self.usage += cost.amount_nanos
        self.metered += cost.metered_nanos or 0
        self.requests += cost.requests
        self.tokens += cost.tokens


def describe_allocation(allocation: MonthAllocation) -> dict[str, Any]:
    """Give the wire form of a divided month: invoices, teams, pools, and what stops a close.

    Teams and pools each add up to the total: a team's ``amount`` is ``usage``, ``untracked`` and
    ``shared``, and ``pools`` are what is ``shared``.
    """
    total = sum(invoice.amount_nanos for invoice in allocation.invoices)
    return {
        "period": format_month(allocation.month),
        "currency": allocation.currency,
        "version": allocation.rules_version,
        "total": format_nanos(total),
        "can_close": not allocation.refusals,
        "refusals": [describe_refusal(refusal) for refusal in allocation.refusals],
        "invoices": [_describe_invoice(invoice) for invoice in allocation.invoices],
        "teams": list_teams(allocation),
        "pools": list_pools(allocation.costs),
    }


def describe_refusal(refusal: Refusal) -> dict[str, Any]:
    """Give the wire form of what stops a close; ``amount`` is None where none is known."""
    nanos = refusal.amount_nanos
    amount = None if nanos is None else format_nanos(nanos)
    return {"code": refusal.code, "detail": refusal.detail, "amount": amount}


def list_teams(allocation: MonthAllocation) -> list[dict[str, Any]]:
    """Give what each team bears and by what, in order of teams."""
    teams: dict[str, _TeamSums] = defaultdict(_TeamSums)
    for cost in allocation.costs:
        teams[cost.bearer.team].add(cost)
    return [
        {
            "team": team,
            "amount": format_nanos(sums.usage + sums.untracked + sums.shared),
            "usage": format_nanos(sums.usage),
            "untracked": format_nanos(sums.untracked),
            "shared": format_nanos(sums.shared),
            "metered": format_nanos(sums.metered),
            "requests": sums.requests,
            "tokens": sums.tokens,
        }
        for team, sums in sorted(teams.items())
    ]


def list_pools(costs: Iterable[AllocatedCost]) -> list[dict[str, Any]]:
    """Give what was shared, by rule, origin, method and invoice, and by how many it is borne."""
    pools: dict[tuple[str, str, str, str, str], list[AllocatedCost]] = defaultdict(list)
    for cost in costs:
        if cost.method not in OWN_METHODS:
            key = (cost.rule or "", cost.origin.value, cost.method.value)
            pools[(*key, cost.provider, cost.account)].append(cost)
    return [
        {
            "rule": rule or None,
            "origin": origin,
            "method": method,
            "provider": provider,
            "account": account,
            "bearers": len({cost.bearer for cost in shares}),
            "amount": format_nanos(sum(cost.amount_nanos for cost in shares)),
        }
        for (rule, origin, method, provider, account), shares in sorted(pools.items())
    ]


def _describe_invoice(invoice: Invoice) -> dict[str, Any]:
    return {
        "provider": invoice.provider,
        "account": invoice.account,
        "amount": format_nanos(invoice.amount_nanos),
        "is_billed": invoice.is_billed,
    }

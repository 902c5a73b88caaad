"""The definition of dividing a month's invoices: who bears what, to the cent.

It owns the order of steps and the cents: usage of each compared row first, then pools, then whole
cents for each invoice. It refuses to know where rules and bills come from. ``frames/`` does the
same with whole tables and must give the same answer; what both share is planned in
``allocation_plans.py`` and ``cost_pools.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tokenbudget.domain.allocation_plans import (
    AccountKey,
    AllocationTerms,
    BilledMonth,
    RowPlans,
    RowShare,
    invoiced_accounts,
    metered_refs,
    plan_rows,
)
from tokenbudget.domain.allocation_rules import bearer_order
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.cents import cent_nanos, in_cents, round_to_cents, share
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.cost_pools import (
    CostPool,
    PoolBook,
    PoolShares,
    Weigher,
    measure_direct,
)
from tokenbudget.domain.statements import (
    AllocatedCost,
    Bearer,
    Invoice,
    MonthAllocation,
    Origin,
)
from tokenbudget.domain.variances import exact_amount


@dataclass(slots=True)
class _Metered:
    """What was metered of one bearer and model in one row."""

    nanos: int = 0
    requests: int = 0
    tokens: int = 0


def allocate_invoices(month: BilledMonth, terms: AllocationTerms) -> MonthAllocation:
    """Give all that was invoiced for a month, divided; no order of input changes anything.

    For every invoice the costs add up to it, whatever the rules say. With refusals it is a draft:
    what was metered too high is then scaled, with no rule to its name.
    """
    plans = plan_rows(month, metered_refs(month), terms)
    direct = sum_costs([*_spread(month, plans.shares), *plans.untracked])
    book = PoolBook(terms, month=month.month)
    kept = [book.take(cost) for cost in direct]
    for line in pool_lines(month, plans):
        book.add_line(line)
    weigher = Weigher(measure_direct(direct), book)
    shared = [cost for pool in book.pools() for cost in _share_pool(pool, weigher.shares_of(pool))]
    borne: dict[AccountKey, int] = defaultdict(int)
    for cost in direct:
        borne[cost.provider, cost.account] += cost.amount_nanos
    invoices = total_invoices(month, borne)
    costs = _to_cents([*kept, *shared], invoices, month.currency)
    return MonthAllocation(
        month=month.month,
        currency=month.currency,
        rules_version=terms.version,
        costs=tuple(sorted(filter(tells_anything, costs), key=cost_order)),
        invoices=tuple(invoices.values()),
        refusals=tuple(plans.refusals),
    )


def pool_lines(month: BilledMonth, plans: RowPlans) -> list[BilledCost]:
    """Give the lines that no usage stands for."""
    unmatched = zip(month.lines, month.line_rows, strict=True)
    return [*(line for line, row in unmatched if row is None), *plans.credits]


def total_invoices(
    month: BilledMonth, borne: Mapping[AccountKey, int]
) -> dict[AccountKey, Invoice]:
    """Give the invoice of each account in whole cents, in order of provider and account.

    ``borne`` are the nanos of direct costs. An account that only they name was invoiced nothing,
    but for what is never billed: that is what was metered.
    """
    billed = invoiced_accounts(month.lines)
    unbilled = {key: exact_amount(nanos) for key, nanos in borne.items() if key not in billed}
    amounts = {**unbilled, **billed}
    return {
        key: Invoice(*key, round_to_cents(amounts[key], month.currency), key in billed)
        for key in sorted(amounts)
    }


def sum_costs(costs: Iterable[AllocatedCost]) -> list[AllocatedCost]:
    """Give one cost for each key (``cost_order``), in that order, amounts and usage added up."""
    by_key: dict[tuple[object, ...], AllocatedCost] = {}
    for cost in costs:
        key = cost_order(cost)
        by_key[key] = cost if key not in by_key else _added(by_key[key], cost)
    return [by_key[key] for key in sorted(by_key)]


def cost_order(cost: AllocatedCost) -> tuple[object, ...]:
    """Give the sort key of a cost, which no two costs of a month share."""
    return (
        cost.provider,
        cost.account,
        *bearer_order(cost.bearer),
        (cost.model is not None, cost.model or ""),
        cost.origin.value,
        cost.method.value,
        (cost.rule is not None, cost.rule or ""),
    )


def origin_of(share_of: RowShare, model: str) -> Origin:
    """Give the origin of what metered usage bears: what nobody used is told apart."""
    return Origin.UNUSED if model == UNUSED else share_of.origin


def tells_anything(cost: AllocatedCost) -> bool:
    """Tell whether there is any amount or usage in a cost."""
    return bool(cost.amount_nanos or cost.metered_nanos or cost.requests or cost.tokens)


def _spread(month: BilledMonth, shares: Sequence[RowShare]) -> list[AllocatedCost]:
    """Give what every bearer bears of each row's shares."""
    metered = _metered_by_row(month)
    by_row: dict[int, list[RowShare]] = defaultdict(list)
    for share_of in shares:
        by_row[share_of.row].append(share_of)
    return [
        cost
        for row, shares_of_row in by_row.items()
        for cost in _spread_row(shares_of_row, metered[row])
    ]


def _metered_by_row(month: BilledMonth) -> dict[int, dict[tuple[Bearer, str], _Metered]]:
    rows: dict[int, dict[tuple[Bearer, str], _Metered]] = defaultdict(lambda: defaultdict(_Metered))
    for cost, row in zip(month.metered, month.metered_rows, strict=True):
        metered = rows[row][cost.bearer, month.rows[row].model or cost.model]
        metered.nanos += cost.effective_nanos
        metered.requests += cost.requests
        metered.tokens += cost.tokens
    return rows


def _spread_row(
    shares: Sequence[RowShare], metered: Mapping[tuple[Bearer, str], _Metered]
) -> Iterable[AllocatedCost]:
    """Give what each bearer bears of a row, its usage attributed by what accounts invoiced."""
    keys = sorted(metered, key=lambda key: (bearer_order(key[0]), key[1]))
    weights = [metered[key].nanos for key in keys]
    parts = [share(each.nanos, weights) for each in shares]
    invoiced = [max(0, each.nanos) for each in shares]
    for place, (bearer, model) in enumerate(keys):
        usage = metered[bearer, model]
        attributed = zip(
            *(share(total, invoiced) for total in (usage.nanos, usage.requests, usage.tokens)),
            strict=True,
        )
        for each, amounts, (nanos, requests, tokens) in zip(shares, parts, attributed, strict=True):
            yield AllocatedCost(
                bearer=bearer,
                provider=each.provider,
                account=each.account,
                model=model,
                origin=origin_of(each, model),
                method=each.method,
                amount_nanos=amounts[place],
                rule=each.rule,
                metered_nanos=nanos,
                requests=requests,
                tokens=tokens,
            )


def _share_pool(pool: CostPool, shares: PoolShares) -> Iterable[AllocatedCost]:
    parts = share(pool.nanos, shares.weights)
    for bearer, nanos in zip(shares.bearers, parts, strict=True):
        yield AllocatedCost(
            bearer=bearer,
            provider=pool.provider,
            account=pool.account,
            model=pool.model,
            origin=pool.origin,
            method=shares.method,
            amount_nanos=nanos,
            rule=None if pool.rule is None else pool.rule.name,
        )


def _to_cents(
    costs: Iterable[AllocatedCost], invoices: Mapping[AccountKey, Invoice], currency: str
) -> list[AllocatedCost]:
    """Give the costs in whole cents that add up to each invoice."""
    by_invoice: dict[AccountKey, list[AllocatedCost]] = defaultdict(list)
    for cost in sorted(costs, key=cost_order):
        by_invoice[cost.provider, cost.account].append(cost)
    cent = cent_nanos(currency)
    rounded: list[AllocatedCost] = []
    for key, parts in by_invoice.items():
        nanos = [cost.amount_nanos for cost in parts]
        cents = in_cents(nanos, invoices[key].amount_nanos, cent)
        rounded.extend(
            replace(cost, amount_nanos=amount) for cost, amount in zip(parts, cents, strict=True)
        )
    return rounded


def _added(first: AllocatedCost, second: AllocatedCost) -> AllocatedCost:
    metered = [each for each in (first.metered_nanos, second.metered_nanos) if each is not None]
    return replace(
        first,
        amount_nanos=first.amount_nanos + second.amount_nanos,
        metered_nanos=sum(metered) if metered else None,
        requests=first.requests + second.requests,
        tokens=first.tokens + second.tokens,
    )

"""Dividing a month's invoices by the rules in force: read in one snapshot, never written.

It owns what the division is told: both sides of the month, the rules, who owns what nobody
metered, cost centres and imported metrics. It refuses the division itself
(``frames/invoice_allocation.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.allocation import UNALLOCATED, CallFacts, allocate
from tokenbudget.domain.allocation_plans import AllocationTerms, BilledMonth, Whereabouts
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.months import format_month, month_period
from tokenbudget.domain.owners import tree_at
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rollups import cover
from tokenbudget.domain.statements import Bearer, MonthAllocation, Refusal
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.domain.variances import ZERO, add_exactly, format_amount
from tokenbudget.formats.allocation_rules import AllocationRulesDraft
from tokenbudget.frames.invoice_allocation import allocate_invoices
from tokenbudget.services.allocation_rules import RulesInForce, load_allocation_rules
from tokenbudget.services.reconciliation import MonthFacts, book_names, read_month
from tokenbudget.services.rulebook import load_tag_rules
from tokenbudget.store.db import Database
from tokenbudget.store.outcomes import sum_outcomes
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.rollups import find_dimension_sets

UNCONVERTED: Final = "unconverted"


@dataclass(slots=True)
class OwnerFinder:
    """Finds who bears a call made somewhere, by mappings, tag rules and the registry."""

    rules: TagRules
    canonical_provider: Callable[[str], str]
    known: dict[tuple[Whereabouts, int], Bearer | None] = field(default_factory=dict)

    def find(self, where: Whereabouts) -> Bearer | None:
        """Give the bearer by the finest name that has a team, None when nobody is known.

        Rules may name the provider as its bill does or as the price book does.
        """
        epoch = self.rules.epoch_at(where.at)
        key = where._replace(at=self.rules.instant_in(epoch)), epoch
        if key not in self.known:
            self.known[key] = self._resolve(where)
        return self.known[key]

    def _resolve(self, where: Whereabouts) -> Bearer | None:
        spellings = dict.fromkeys((where.provider, self.canonical_provider(where.provider)))
        for ref in where.refs:
            for provider in spellings:
                call = CallFacts(provider, where.model or "", account=ref)
                dimensions = allocate(call, {}, where.at, rules=self.rules)
                if dimensions.team != UNALLOCATED:
                    return Bearer(dimensions.team, dimensions.feature, dimensions.tenant)
        return None


def allocate_month(
    session: Session, *, month: int, currency: str, price_list: PriceList
) -> MonthAllocation:
    """Give all that was invoiced for a month, divided by the rules in force."""
    rules = load_allocation_rules(session)
    return divide_month(session, rules, month=month, currency=currency, price_list=price_list)


def preview_allocation(
    database: Database,
    *,
    month: int,
    currency: str,
    price_list: PriceList,
    draft: AllocationRulesDraft | None = None,
) -> MonthAllocation:
    """Give the month divided by a draft of rules that is not applied, else by those in force."""
    with database.reading() as session:
        rules = load_allocation_rules(session)
        if draft is not None:
            rules = replace(rules, draft=draft)
        return divide_month(session, rules, month=month, currency=currency, price_list=price_list)


def divide_month(
    session: Session, rules: RulesInForce, *, month: int, currency: str, price_list: PriceList
) -> MonthAllocation:
    """Give all that was invoiced for a month, divided by these rules.

    Cost centres that rules ask for are those at the end of the month.
    """
    facts = read_month(
        session,
        month=month,
        currency=currency,
        price_list=price_list,
        tolerance_basis_points=rules.draft.rules.tolerance_basis_points,
        commitments=rules.draft.rules.commitments,
    )
    last_instant = month_period(month).end - timedelta.resolution
    tree = tree_at(list_owner_history(session), last_instant)
    finder = OwnerFinder(load_tag_rules(session), book_names(price_list))
    terms = AllocationTerms(
        rules=rules.draft.rules,
        version=rules.version,
        owner_of=finder.find,
        cost_center_of=tree.cost_center_of,
        outcomes=_outcomes_of(session, month, rules.draft.metrics),
    )
    divided = allocate_invoices(_billed_month(facts, currency), terms)
    refusals = (*divided.refusals, *_unconverted(facts.unconverted, month))
    return replace(divided, refusals=refusals)


def _billed_month(facts: MonthFacts, currency: str) -> BilledMonth:
    compared = facts.reconciliation
    return BilledMonth(
        month=facts.month,
        currency=currency,
        metered=facts.metered,
        lines=facts.lines,
        rows=compared.rows,
        metered_rows=compared.metered_rows,
        line_rows=compared.line_rows,
    )


def _outcomes_of(
    session: Session, month: int, names: Collection[str]
) -> dict[str, dict[Bearer, int]]:
    """Give the outcomes of a UTC month, in billionths by name and bearer."""
    if not names:
        return {}
    sums = list(sum_outcomes(session, cover([month_period(month)]), names))
    sets = find_dimension_sets(session, {each.dimension_set_id for each in sums})
    outcomes: dict[str, dict[Bearer, int]] = {name: defaultdict(int) for name in names}
    for each in sums:
        dimensions = sets[each.dimension_set_id]
        bearer = Bearer(dimensions.team, dimensions.feature, dimensions.tenant)
        outcomes[each.name][bearer] += each.value_nanos
    return outcomes


def _unconverted(lines: Iterable[BilledCost], month: int) -> list[Refusal]:
    """Give one refusal a currency that no quote converts: its lines are in no invoice."""
    sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for line in lines:
        sums[line.currency] = add_exactly(sums[line.currency], line.amount)
    return [
        Refusal(
            UNCONVERTED,
            f"{format_amount(amount)} {currency} invoiced in {format_month(month)} cannot be "
            "converted: there is no quote of that day",
        )
        for currency, amount in sorted(sums.items())
    ]

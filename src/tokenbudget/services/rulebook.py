"""The rules in force.

Price list, budgets, policies and what gives tags, as one worker process knows them.

Every batch asks for the rules' number inside its transaction and reloads when it has risen, so a
worker that keeps them in memory never decides by old ones. What is cached here may be lost at any
time without changing an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlmodel import Session

from tokenbudget.domain.allowances import Raise, Rollover, Terms
from tokenbudget.domain.budgets import Budget, BudgetIndex, Mode, ThresholdOn, Unit
from tokenbudget.domain.owners import Owner
from tokenbudget.domain.policies import PolicyBook
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.formats.budgets import parse_window
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.policies import load_policies
from tokenbudget.store.budgets import list_budgets, list_versions_of, share_rules
from tokenbudget.store.documents import find_document
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.raises import list_raises
from tokenbudget.store.tables import BudgetRaiseEndRow, BudgetRaiseRow, BudgetRow, TagRulesRow


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules with one number; a higher number replaces the whole of it."""

    number: int
    price_list: PriceList
    index: BudgetIndex
    budgets: Mapping[str, Budget]
    tag_rules: TagRules
    policies: PolicyBook = field(default_factory=PolicyBook)


@dataclass(slots=True)
class RulebookShelf:
    """Keeps the rulebook last loaded by this process."""

    price_list: PriceList
    current: Rulebook | None = field(default=None)

    def consult(self, session: Session) -> Rulebook:
        """Give the rules in force, which then stay in force until this transaction ends."""
        number = share_rules(session)
        if self.current is None or self.current.number != number:
            self.current = _load_rulebook(session, number, self.price_list)
        return self.current


def _load_rulebook(session: Session, number: int, price_list: PriceList) -> Rulebook:
    budgets = load_budgets(session)
    owners = list_owner_history(session)
    return Rulebook(
        number=number,
        price_list=price_list,
        index=BudgetIndex.build(budgets),
        budgets={budget.id: budget for budget in budgets},
        tag_rules=_tag_rules_of(session, owners),
        policies=load_policies(session, owners),
    )


def load_tag_rules(session: Session) -> TagRules:
    """Give the mappings, rules and registered teams in force, of all times of use."""
    return _tag_rules_of(session, list_owner_history(session))


def _tag_rules_of(session: Session, owners: Sequence[Owner]) -> TagRules:
    row = find_document(session, TagRulesRow)
    draft = parse_tag_rules({} if row is None else row.content, where="stored tag rules")
    return TagRules.build(draft.mappings, draft.rules, owners)


def load_budgets(session: Session) -> Sequence[Budget]:
    """Give the version in force of every budget, by id, with its raises and terms."""
    return with_allowances(session, [budget_of(row) for row in list_budgets(session)])


def with_allowances(session: Session, budgets: Sequence[Budget]) -> list[Budget]:
    """Give the budgets with all raises there are of them, and the terms that carries go by."""
    raises: dict[str, list[Raise]] = {}
    for row, end in list_raises(session, budgets[0].id if len(budgets) == 1 else None):
        raises.setdefault(row.budget_id, []).append(raise_of(row, end))
    carrying = {budget.id: budget for budget in budgets if budget.rollover is not None}
    terms: dict[str, list[Terms]] = {}
    for version in list_versions_of(session, carrying):
        if version.counting_version == carrying[version.id].counting_version:
            terms.setdefault(version.id, []).append(terms_of(version))
    return [
        replace(
            budget,
            raises=tuple(raises.get(budget.id, ())),
            terms=tuple(terms.get(budget.id, ())),
        )
        for budget in budgets
    ]


def raise_of(row: BudgetRaiseRow, end: BudgetRaiseEndRow | None) -> Raise:
    """Give the domain's raise; one that was ended before it began is never in force."""
    valid_to = row.valid_to if end is None else min(row.valid_to, end.ended_at)
    return Raise(row.id, row.amount, row.valid_from, valid_to)


def terms_of(row: BudgetRow) -> Terms:
    """Give what a stored version says of its windows."""
    return Terms(row.recorded_at, row.limit_quantity, _rollover_of(row))


def _rollover_of(row: BudgetRow) -> Rollover | None:
    if row.rollover is None:
        return None
    return Rollover(row.rollover["max_carry"], row.rollover["max_debt"] or 0)


def budget_of(row: BudgetRow) -> Budget:
    """Give the domain's budget for a stored version, without raises and terms."""
    return Budget(
        id=row.id,
        version=row.version,
        counting_version=row.counting_version,
        selector={name: frozenset(values) for name, values in row.selector.items()},
        split_by=tuple(row.split_by),
        unit=Unit(row.unit),
        limit=row.limit_quantity,
        window=parse_window(row.window, row.timezone),
        window_text=row.window,
        mode=Mode(row.mode),
        thresholds=tuple(int(threshold) for threshold in row.thresholds),
        threshold_on=ThresholdOn(row.threshold_on),
        overdraft=row.overdraft,
        counts_from_window=row.baseline == "window",
        fails_open=row.fail_mode == "open",
        owner=row.owner,
        channels=tuple(row.channels),
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        rollover=_rollover_of(row),
        after_usage_id=row.after_usage_id,
    )

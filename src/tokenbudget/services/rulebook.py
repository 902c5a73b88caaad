"""The rules in force.

Price list, budgets and what gives tags, as one worker process knows them.

Every batch asks for the rules' number inside its transaction and reloads when it has risen, so a
worker that keeps them in memory never decides by old ones. What is cached here may be lost at any
time without changing an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from tokenbudget.domain.budgets import Budget, BudgetIndex, Mode, ThresholdOn, Unit
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.formats.budgets import parse_window
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.store.budgets import list_budgets, share_rules
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.tables import BudgetRow
from tokenbudget.store.tag_rules import find_tag_rules


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules with one number; a higher number replaces the whole of it."""

    number: int
    price_list: PriceList
    index: BudgetIndex
    budgets: Mapping[str, Budget]
    tag_rules: TagRules


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
    return Rulebook(
        number=number,
        price_list=price_list,
        index=BudgetIndex.build(budgets),
        budgets={budget.id: budget for budget in budgets},
        tag_rules=load_tag_rules(session),
    )


def load_tag_rules(session: Session) -> TagRules:
    """Give the mappings, rules and registered teams in force, of all times of use."""
    row = find_tag_rules(session)
    draft = parse_tag_rules({} if row is None else row.content, where="stored tag rules")
    return TagRules.build(draft.mappings, draft.rules, list_owner_history(session))


def load_budgets(session: Session) -> Sequence[Budget]:
    """Give the version in force of every budget, by id."""
    return [budget_of(row) for row in list_budgets(session)]


def budget_of(row: BudgetRow) -> Budget:
    """Give the domain's budget for a stored version."""
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
    )

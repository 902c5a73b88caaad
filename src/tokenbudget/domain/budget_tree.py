"""Parents and children among budgets, and children that may use more than their parent has.

It owns who is whose child and which children share a parent's limit. It refuses to decide on calls:
a parent's own counter does, whatever its children say.

A child counts a part of what its parent counts: same unit and window, and a selector that says all
that the parent's says, and more. Where the parent has a counter for each value of a dimension, so
must the child, or name one value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tokenbudget.domain.budgets import Budget, Mode


@dataclass(frozen=True, slots=True)
class Overcommitment:
    """Children that together may use ``total``, more than the limit of their parent."""

    parent: Budget
    children: tuple[Budget, ...]
    total: int

    def concerns(self, budget_id: str) -> bool:
        """Tell whether the budget is the parent or one of the children."""
        return any(each.id == budget_id for each in (self.parent, *self.children))


def find_overcommitted(budgets: Sequence[Budget], now: datetime) -> list[Overcommitment]:
    """Give every parent whose children exceed it, with those that exceed it most, by parent id.

    Children are added up that differ in the values of one dimension and have no value of it in
    common, since each may use its limit at the same time. Shadow budgets, and those that are over,
    take no part.
    """
    living = [
        budget
        for budget in budgets
        if budget.mode is not Mode.SHADOW and (budget.valid_to is None or now < budget.valid_to)
    ]
    kindred: Mapping[tuple[object, ...], list[Budget]] = defaultdict(list)
    for budget in living:
        kindred[budget.unit, budget.window].append(budget)
    found = []
    for parent in sorted(living, key=lambda budget: budget.id):
        kin = kindred[parent.unit, parent.window]
        children = [budget for budget in kin if is_child(budget, parent)]
        worst = _worst_of(parent, children)
        if worst is not None and worst.total > parent.limit:
            found.append(worst)
    return found


def is_child(budget: Budget, parent: Budget) -> bool:
    """Tell whether a budget of the same unit and window counts a part of what the parent does."""
    if budget.selector == parent.selector:
        return False
    implied = all(
        name in budget.selector and budget.selector[name] <= accepted
        for name, accepted in parent.selector.items()
    )
    return implied and all(
        name in budget.split_by or len(budget.selector.get(name, ())) == 1
        for name in parent.split_by
    )


def _worst_of(parent: Budget, children: Sequence[Budget]) -> Overcommitment | None:
    """Give the children that may use most of the parent's limit together, None without any."""
    totals = [
        Overcommitment(parent, tuple(group), sum(child.limit for child in group))
        for group in _groups(parent, children)
    ]
    return max(totals, key=lambda each: (each.total, -len(each.children)), default=None)


def _groups(parent: Budget, children: Sequence[Budget]) -> Iterator[list[Budget]]:
    """Give each child alone, and those that differ in the values of one dimension together."""
    siblings: dict[tuple[str, object, frozenset[str]], list[Budget]] = defaultdict(list)
    for child in children:
        yield [child]
        for name in child.selector.keys() - set(parent.split_by):
            others = frozenset(each for each in child.selector.items() if each[0] != name)
            siblings[name, others, frozenset(child.split_by)].append(child)
    for (name, _, _), alike in siblings.items():
        yield _disjoint(name, alike)


def _disjoint(name: str, alike: Sequence[Budget]) -> list[Budget]:
    """Give those, highest limit first, that have no value of the dimension in common."""
    taken: set[str] = set()
    chosen = []
    for budget in sorted(alike, key=lambda each: (-each.limit, each.id)):
        if taken.isdisjoint(budget.selector[name]):
            taken |= budget.selector[name]
            chosen.append(budget)
    return sorted(chosen, key=lambda each: each.id)

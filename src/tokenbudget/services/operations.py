"""Counting by operation where usage is posted in bulk.

It owns which counters of operations a table of movements moves. It refuses to move them. Where no
budget in force gives operations windows of their own, nothing is read and nothing done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenbudget.domain.budgets import Budget, BudgetMatch, Unit
from tokenbudget.services.counting import CounterBook
from tokenbudget.store.budgets import CounterKey


@dataclass(frozen=True, slots=True)
class OperationMove:
    """What one usage, or all usage of an operation, moves in each unit, for some matches."""

    operation_ref: str
    usage_id: int | None
    matches: Sequence[BudgetMatch]
    quantities: Mapping[Unit, int]


def counts_operations(budgets: Iterable[Budget]) -> bool:
    """Tell whether any of the budgets gives each operation a window of its own."""
    return any(budget.window.per_operation for budget in budgets)


def operation_steps(
    book: CounterBook, moves: Iterable[OperationMove]
) -> Iterator[tuple[CounterKey, int]]:
    """Give the counters of operations that the moves reach, asked for, and by how much."""
    counted = (
        (move, match)
        for move in moves
        for match in move.matches
        if match.budget.window.per_operation
    )
    for move, match in counted:
        budget = match.budget
        quantity = move.quantities.get(budget.unit, 0)
        key = book.key_of(match, budget.valid_from, move.operation_ref, move.usage_id)
        if quantity and key is not None:
            yield key, quantity

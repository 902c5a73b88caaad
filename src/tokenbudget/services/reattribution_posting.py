"""Posting what counts elsewhere: pairs of charges, counters, rollups and alerts.

It refuses to decide what moves (``reattribution_scan.py``). The caller's transaction has shut out
the batches, so nothing else counts meanwhile; the order of the steps is that of the locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import polars as pl
from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.budgets import BudgetMatch, Counter, Unit
from tokenbudget.domain.periods import from_micros
from tokenbudget.frames.reattribution import (
    MICROS_PER_SECOND,
    Movement,
    charge_pairs,
    counter_movements,
    rollup_sums,
    usage_movements,
)
from tokenbudget.services.alerts import raise_alerts
from tokenbudget.services.counting import CounterBook, key_text
from tokenbudget.services.operations import OperationMove, counts_operations, operation_steps
from tokenbudget.services.placement import Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.budgets import CounterKey, add_transfers
from tokenbudget.store.ledger import ROLLUP_COLUMNS, add_rollup_sums
from tokenbudget.store.operations import find_operations
from tokenbudget.store.standing_charges import (
    MOVED_COLUMNS,
    StandingTransfer,
    append_moved_charges,
    list_standing_transfers,
)


@dataclass(frozen=True, slots=True)
class Mover:
    """Posts moves in one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime

    def post(
        self, moves: pl.DataFrame, found: Mapping[str, DimensionSet], *, reattribution_id: int
    ) -> None:
        """Write the pairs of these moves and let everything derived follow.

        ``found`` has the dimension sets that the moves go to, by digest.
        """
        target_ids = self._store_targets(moves, found)
        pairs = charge_pairs(moves, target_ids=target_ids, reattribution_id=reattribution_id)
        append_moved_charges(self.session, pairs.select(MOVED_COLUMNS).rows())
        self._move_counters(moves, target_ids)
        rollups = rollup_sums(moves, target_ids=target_ids)
        add_rollup_sums(self.session, rollups.select(ROLLUP_COLUMNS).rows())

    def _store_targets(
        self, moves: pl.DataFrame, found: Mapping[str, DimensionSet]
    ) -> dict[str, int]:
        """Store where the moves go and give the ids by digest; know all that is left, too."""
        left = set(moves["dimension_set_id"].unique())
        self.memory.recall(self.session, left, self.rules)
        placements = {
            digest: Placement(found[digest], self.rules.index.match(found[digest]))
            for digest in sorted(moves["target"].unique())
        }
        self.memory.store_placements(self.session, placements.values())
        for placement in placements.values():
            self.memory.placements_by_id[placement.dimension_set_id] = placement
        return {digest: each.dimension_set_id for digest, each in placements.items()}

    def _move_counters(self, moves: pl.DataFrame, target_ids: Mapping[str, int]) -> None:
        """Move the counters of every unit, and take back what settled where it counts no more."""
        book = CounterBook(self.session, self.rules.budgets, self.memory.counter_ids, now=self.now)
        changes = self._changes(moves, target_ids)
        steps = [
            step
            for movement in counter_movements(moves)
            for step in _steps(book, movement, changes[movement.dimension_set_id, movement.target])
        ]
        steps += operation_steps(book, self._operation_moves(moves, changes))
        transfers = list_standing_transfers(
            self.session, first=moves["usage_id"][0], last=moves["usage_id"][-1]
        )
        for transfer in transfers:
            named = (transfer.from_counter_id, transfer.to_counter_id)
            book.want_ids(counter_id for counter_id in named if counter_id is not None)
        book.lock()
        for key, quantity in steps:
            book.counter(key).settled += quantity
        self._end_transfers(moves, transfers, book, target_ids)
        crossings = book.write()
        raise_alerts(self.session, crossings, currency=self.rules.price_list.currency, now=self.now)

    def _operation_moves(
        self,
        moves: pl.DataFrame,
        changes: Mapping[tuple[int, str], Sequence[tuple[BudgetMatch, int]]],
    ) -> Iterator[OperationMove]:
        """Give what moves of usage that names an operation, if any budget asks for that."""
        if not counts_operations(self.rules.budgets.values()):
            return
        named = find_operations(
            self.session, first=moves["usage_id"][0], last=moves["usage_id"][-1]
        )
        for usage_id, movement in usage_movements(moves):
            operation_ref = named.get(usage_id)
            if operation_ref is None:
                continue
            quantities = _quantities(movement)
            for match, sign in changes[movement.dimension_set_id, movement.target]:
                signed = {unit: sign * quantity for unit, quantity in quantities.items()}
                yield OperationMove(operation_ref, usage_id, (match,), signed)

    def _changes(
        self, moves: pl.DataFrame, target_ids: Mapping[str, int]
    ) -> dict[tuple[int, str], list[tuple[BudgetMatch, int]]]:
        """Give the matches that are lost (-1) and won (1), by dimension set left and target.

        What both have in common counts in the same counters, which therefore need not move.
        """
        placed = self.memory.placements_by_id
        changes = {}
        for left, target in moves.select("dimension_set_id", "target").unique().iter_rows():
            lost, won = (
                {(match.budget.id, match.split): match for match in placed[set_id].matches}
                for set_id in (left, target_ids[target])
            )
            changes[left, target] = [
                *((match, -1) for key, match in lost.items() if key not in won),
                *((match, 1) for key, match in won.items() if key not in lost),
            ]
        return changes

    def _end_transfers(
        self,
        moves: pl.DataFrame,
        transfers: list[StandingTransfer],
        book: CounterBook,
        target_ids: Mapping[str, int],
    ) -> None:
        """Take back what settled in the window of its hold and no longer belongs to that counter.

        What the new dimensions share with the old ones, budget and split, stays where it settled.
        """
        moved = moves.filter(pl.col("usage_id").is_in([each.usage_id for each in transfers]))
        targets = dict(moved.select("usage_id", "target").iter_rows())
        rows = []
        for transfer in transfers:
            target = targets.get(transfer.usage_id)
            counter = book.counters[transfer.to_counter_id]
            split_text = book.split_text(counter)
            if target is None or self._still_counts(target_ids[target], counter, split_text):
                continue
            counter.settled -= transfer.quantity
            if transfer.from_counter_id is not None:
                book.counters[transfer.from_counter_id].settled += transfer.quantity
            rows.append({**asdict(transfer), "quantity": -transfer.quantity})
        add_transfers(self.session, rows)

    def _still_counts(self, dimension_set_id: int, counter: Counter, split_text: str) -> bool:
        matches = self.memory.placements_by_id[dimension_set_id].matches
        return any(_is_of(match, counter, split_text) for match in matches)


def _steps(
    book: CounterBook, movement: Movement, changes: Sequence[tuple[BudgetMatch, int]]
) -> Iterator[tuple[CounterKey, int]]:
    if not changes:
        return
    quantities = _quantities(movement)
    instant = from_micros(movement.second * MICROS_PER_SECOND)
    for match, sign in changes:
        key = book.key_of(match, instant)
        if key is not None:
            yield key, sign * quantities[match.budget.unit]


def _quantities(movement: Movement) -> dict[Unit, int]:
    return {
        Unit.MONEY: movement.nanos,
        Unit.TOKENS: movement.tokens,
        Unit.REQUESTS: movement.requests,
    }


def _is_of(match: BudgetMatch, counter: Counter, split_text: str) -> bool:
    budget = match.budget
    return (budget.id, budget.counting_version, key_text(match.split)) == (
        counter.budget_id,
        counter.counting_version,
        split_text,
    )

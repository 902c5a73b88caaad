"""Posting what moves: pairs of charges, counters, rollups and alerts in the order of their locks.

It refuses to decide what moves (``rerate_scan.py``). The caller's transaction has shut out the
batches, so nothing else counts meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl
from sqlmodel import Session

from tokenbudget.domain.budgets import Counter, Unit
from tokenbudget.domain.periods import from_micros
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import UNITS
from tokenbudget.frames.rerating import (
    MICROS_PER_SECOND,
    charge_pairs,
    effective_moves,
    rollup_sums,
)
from tokenbudget.services.alerts import raise_alerts
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.operations import OperationMove, counts_operations, operation_steps
from tokenbudget.services.placement import Memory
from tokenbudget.services.price_rows import price_row_of
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.budgets import CounterKey, add_transfers
from tokenbudget.store.ledger import ROLLUP_COLUMNS, add_rollup_sums
from tokenbudget.store.operations import find_operations
from tokenbudget.store.rerate_charges import (
    PAIR_COLUMNS,
    Transfer,
    append_charge_pairs,
    list_transfers,
)


@dataclass(frozen=True, slots=True)
class Poster:
    """Posts moves in one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime

    def post(self, moves: pl.DataFrame, *, rerate_id: int) -> None:
        """Write the pairs of these moves and let everything derived follow."""
        new_row_ids = self._store_price_rows(moves)
        price_list = self.rules.price_list
        price_list_id = self.memory.price_list_id(self.session, price_list.version, now=self.now)
        pairs = charge_pairs(
            moves, new_row_ids=new_row_ids, price_list_id=price_list_id, rerate_id=rerate_id
        )
        append_charge_pairs(self.session, pairs.select(PAIR_COLUMNS).rows())
        self._move_counters(moves)
        rollups = rollup_sums(moves, new_row_ids=new_row_ids)
        add_rollup_sums(self.session, rollups.select(ROLLUP_COLUMNS).rows())

    def _store_price_rows(self, moves: pl.DataFrame) -> Mapping[str, int]:
        """Store the rows that the moves name and give their ids by digest."""
        examples = moves.unique("new_price_digest", keep="first", maintain_order=True)
        rows = {
            example["new_price_digest"]: self._price_row(example)
            for example in examples.iter_rows(named=True)
        }
        self.memory.store_price_rows(self.session, rows)
        return {digest: self.memory.price_row_ids[digest] for digest in rows}

    def _price_row(self, move: Mapping[str, Any]) -> dict[str, Any]:
        """Give the row to store for what rates a move: that of the charge worked out on its own."""
        facts = RatingFacts(
            provider=move["provider"],
            model=move["model"],
            occurred_at=move["occurred_at"],
            service_tier=move["service_tier"],
            region=move["region"],
            account=move["account"],
            commitment=move.get("commitment"),
        )
        quantities = {unit: move[unit] for unit in UNITS if move[unit] is not None}
        charge = rate(quantities, facts, self.rules.price_list)
        if charge.match is None or charge.price_digest != move["new_price_digest"]:
            raise AssertionError("rating one by one and by the table give one price row")
        return price_row_of(charge.match, self.now, commitment=charge.commitment)

    def _move_counters(self, moves: pl.DataFrame) -> None:
        """Move the counters of money; what is counted in tokens or requests does not change."""
        book = CounterBook(self.session, self.rules.budgets, self.memory.counter_ids, now=self.now)
        self.memory.recall(self.session, moves["dimension_set_id"].unique().to_list(), self.rules)
        steps = [
            (key, nanos)
            for second, dimension_set_id, nanos in sorted(effective_moves(moves))
            for key in self._keys(book, from_micros(second * MICROS_PER_SECOND), dimension_set_id)
        ]
        steps += operation_steps(book, self._operation_moves(moves))
        transfers = list_transfers(
            self.session, first=moves["usage_id"][0], last=moves["usage_id"][-1]
        )
        for transfer in transfers:
            named = (transfer.from_counter_id, transfer.to_counter_id)
            book.want_ids(counter_id for counter_id in named if counter_id is not None)
        book.lock()
        for key, nanos in steps:
            book.counter(key).settled += nanos
        self._follow_transfers(moves, transfers, book)
        crossings = book.write()
        raise_alerts(self.session, crossings, currency=self.rules.price_list.currency, now=self.now)

    def _operation_moves(self, moves: pl.DataFrame) -> Iterator[OperationMove]:
        """Give what moves of usage that names an operation, if any budget asks for that."""
        if not counts_operations(self.rules.budgets.values()):
            return
        named = find_operations(
            self.session, first=moves["usage_id"][0], last=moves["usage_id"][-1]
        )
        for row in moves.iter_rows(named=True):
            operation_ref = named.get(row["usage_id"])
            if operation_ref is not None:
                nanos = row["new_effective_nanos"] - (row["old_effective_nanos"] or 0)
                matches = self.memory.placements_by_id[row["dimension_set_id"]].matches
                yield OperationMove(operation_ref, row["usage_id"], matches, {Unit.MONEY: nanos})

    def _keys(
        self, book: CounterBook, instant: datetime, dimension_set_id: int
    ) -> Iterator[CounterKey]:
        for match in self.memory.placements_by_id[dimension_set_id].matches:
            key = book.key_of(match, instant) if match.budget.unit is Unit.MONEY else None
            if key is not None:
                yield key

    def _follow_transfers(
        self, moves: pl.DataFrame, transfers: Sequence[Transfer], book: CounterBook
    ) -> None:
        """Move on what settled in the window of its hold instead of its own."""
        moved = moves.filter(pl.col("usage_id").is_in([each.usage_id for each in transfers]))
        by_usage = {row["usage_id"]: row for row in moved.iter_rows(named=True)}
        rows = []
        for transfer in transfers:
            row = by_usage.get(transfer.usage_id)
            target = book.counters[transfer.to_counter_id]
            if row is None or not self._is_of_money(target):
                continue
            own = self._own_counter(row, target, book)
            if transfer.from_counter_id != (own.id if own else None):
                continue
            nanos = row["new_effective_nanos"] - (row["old_effective_nanos"] or 0)
            target.settled += nanos
            if own is not None:
                own.settled -= nanos
            rows.append({**asdict(transfer), "quantity": nanos})
        add_transfers(self.session, rows)

    def _is_of_money(self, counter: Counter) -> bool:
        budget = self.rules.budgets.get(counter.budget_id)
        return (
            budget is not None
            and budget.unit is Unit.MONEY
            and budget.counting_version == counter.counting_version
        )

    def _own_counter(
        self, row: Mapping[str, Any], target: Counter, book: CounterBook
    ) -> Counter | None:
        """Give the counter of the target's budget that the usage's own time falls in."""
        for key in self._keys(book, row["occurred_at"], row["dimension_set_id"]):
            if (key.budget_id, key.split_key) == (target.budget_id, target.split_key):
                return book.counter(key)
        return None

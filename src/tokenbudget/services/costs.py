"""Answers to questions about money.

It owns ordering and paging of rows; it refuses to read usage or charges.

What an answer costs grows with the days asked for and the combinations of dimensions in use, not
with the events behind them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.cost_folding import Piece, cut_pieces, fold, total
from tokenbudget.domain.costs import (
    ADDITIVE_METRICS,
    CostFilter,
    CostQuery,
    CostRow,
    CostTable,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.outcomes import OutcomeSum
from tokenbudget.domain.owners import Owner, OwnerTree, change_instants, tree_at
from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.rollups import RollupSum, cover
from tokenbudget.formats.cursors import CursorPart, decode_cursor, encode_cursor
from tokenbudget.services.stated_costs import read_stated_costs
from tokenbudget.store.db import Database
from tokenbudget.store.outcomes import sum_outcomes
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.rollups import find_dimension_sets, sum_rollups

__all__ = ["CostFilter", "CostQuery", "CostRow", "CostTable", "query_costs"]

MAX_KNOWN_SETS: Final = 100_000
MAX_SUMS: Final = 2_000_000
NUMBERS_IN_POSITION: Final = 3

# Dimension sets never change once they are committed. Each update publishes a new dictionary, so
# that threads share it.
_known_sets: WeakKeyDictionary[Database, dict[int, DimensionSet]] = WeakKeyDictionary()

Position = tuple[CursorPart, ...]
SumT = TypeVar("SumT", RollupSum, OutcomeSum)


def query_costs(database: Database, query: CostQuery) -> CostTable:
    """Give one row a bucket and group that has usage or outcomes asked for, and all rows' totals.

    Rows come in the order asked for, then by start, effective cost (highest first) and group.
    Owners and cost centres are those in force when the usage happened, to the quarter-hour. What
    was invoiced is answered from closed statements, with the cost centres frozen there. Raises
    InvalidInput naming the field.
    """
    if query.is_stated:
        return _page(read_stated_costs(database, query), query)
    with database.reading() as session:
        history = list_owner_history(session) if query.needs_owners else []
        pieces = cut_pieces(query, cuts=change_instants(history))
        segments = cover(piece.period for piece in pieces)
        sums = _bounded(sum_rollups(session, segments))
        outcomes = (
            _bounded(sum_outcomes(session, segments, query.outcomes)) if query.outcomes else []
        )
        set_ids = {part.dimension_set_id for part in sums}
        set_ids.update(outcome.dimension_set_id for outcome in outcomes)
        dimension_sets = _dimension_sets(database, session, set_ids)
    rows = fold(
        sums,
        query,
        pieces=pieces,
        trees=_trees(history, pieces),
        dimension_sets=dimension_sets,
        outcomes=outcomes,
    )
    return _page(rows, query)


def _bounded(sums: Iterator[SumT]) -> list[SumT]:
    listed = list(islice(sums, MAX_SUMS + 1))
    if len(listed) > MAX_SUMS:
        raise InvalidInput(
            f"the period needs more than {MAX_SUMS} sums; ask for less time or coarser granularity",
            field="granularity",
        )
    return listed


def _dimension_sets(
    database: Database, session: Session, ids: Collection[int]
) -> dict[int, DimensionSet]:
    known = _known_sets.get(database, {})
    missing = set(ids) - known.keys()
    if missing:
        known = {**known, **find_dimension_sets(session, missing)}
        if len(known) <= MAX_KNOWN_SETS:
            _known_sets[database] = known
    return known


def _trees(history: Sequence[Owner], pieces: Sequence[Piece]) -> list[OwnerTree]:
    """Give the owners in force in each piece; pieces between two changes share one tree."""
    instants = change_instants(history)
    places = [bisect_right(instants, piece.period.start) for piece in pieces]
    trees = {
        place: tree_at(history, instants[place - 1]) if place else OwnerTree()
        for place in set(places)
    }
    return [trees[place] for place in places]


def _page(rows: list[CostRow], query: CostQuery) -> CostTable:
    totals = total(rows)
    rows.sort(key=lambda row: _sort_key(_position(row, query)))
    if query.cursor is not None:
        after = _sort_key(_decode_position(query.cursor, query))
        rows = [row for row in rows if _sort_key(_position(row, query)) > after]
    if query.limit is None or len(rows) <= query.limit:
        return CostTable(rows, totals)
    page = rows[: query.limit]
    next_cursor = encode_cursor([_fingerprint(query), *_position(page[-1], query)])
    return CostTable(page, totals, next_cursor)


def _position(row: CostRow, query: CostQuery) -> Position:
    start = 0 if row.start is None else to_micros(row.start)
    name = query.order.removeprefix("-")
    first: int = start if name == "start" else getattr(row, ADDITIVE_METRICS[name])
    return (
        -first if query.order.startswith("-") else first,
        start,
        -row.effective_nanos,
        *row.group,
    )


def _sort_key(position: Position) -> tuple[Any, ...]:
    numbers, group = position[:NUMBERS_IN_POSITION], position[NUMBERS_IN_POSITION:]
    return *numbers, *((value is not None, value or "") for value in group)


def _decode_position(cursor: str, query: CostQuery) -> Position:
    length = 1 + NUMBERS_IN_POSITION + len(query.group_by)
    fingerprint, *position = decode_cursor(cursor, length=length)
    numbers, group = position[:NUMBERS_IN_POSITION], position[NUMBERS_IN_POSITION:]
    is_position = all(isinstance(part, int) for part in numbers) and not any(
        isinstance(part, int) for part in group
    )
    if fingerprint != _fingerprint(query) or not is_position:
        raise InvalidInput("cursor belongs to another question", field="cursor")
    return tuple(position)


def _fingerprint(query: CostQuery) -> str:
    """Give what tells this question from others, whatever page of it is asked for."""
    question = replace(query, limit=None, cursor=None, metrics=())
    told = f"{question!r}{query.is_stated}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]

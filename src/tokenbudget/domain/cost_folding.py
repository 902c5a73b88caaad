"""How sums of rollups become the rows of an answer. It owns buckets, groups and filters.

It refuses SQL and paging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.costs import CostQuery, CostRow, Group
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import OwnerTree
from tokenbudget.domain.periods import Period, Window, windows_between
from tokenbudget.domain.rollups import MEASURES, RollupSum

MAX_PIECES: Final = 5_000
MAX_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time whose usage goes to the rows that begin at ``start``.

    None stands for the rows of the whole period.
    """

    start: datetime | None
    period: Period


def cut_pieces(query: CostQuery, *, cuts: Sequence[datetime] = ()) -> list[Piece]:
    """Give the stretches of the period, in order and without gap or overlap.

    They are its buckets, cut again at each of ``cuts``. A bucket starts where its part of the
    period starts, so never before the period. Raises InvalidInput above ``MAX_PIECES``.
    """
    pieces: list[Piece] = []
    for bucket in _buckets(query):
        inner = [cut for cut in cuts if bucket.start < cut < bucket.end]
        start = None if query.granularity == "none" else bucket.start
        for lower, upper in pairwise([bucket.start, *inner, bucket.end]):
            pieces.append(Piece(start, Period(lower, upper)))
        if len(pieces) > MAX_PIECES:
            raise InvalidInput(
                f"granularity {query.granularity!r} gives more than {MAX_PIECES} parts of time",
                field="granularity",
            )
    return pieces


def group_of(dimensions: DimensionSet, query: CostQuery, tree: OwnerTree) -> Group | None:
    """Give the group of usage with these dimensions; None when a filter leaves it out."""
    for condition in query.filters:
        if not condition.admits(_value_of(dimensions, condition.dimension, tree)):
            return None
    return tuple(_value_of(dimensions, dimension, tree) for dimension in query.group_by)


def fold(
    sums: Iterable[RollupSum],
    query: CostQuery,
    *,
    pieces: Sequence[Piece],
    trees: Sequence[OwnerTree],
    dimension_sets: Mapping[int, DimensionSet],
) -> list[CostRow]:
    """Give one row a start and group, in no order; ``trees`` has the owners of each piece.

    Raises InvalidInput above ``MAX_ROWS``.
    """
    folded: dict[tuple[datetime | None, Group], tuple[int, ...]] = {}
    groups: dict[tuple[int, OwnerTree], Group | None] = {}
    for part in sums:
        tree = trees[part.piece]
        known = (part.dimension_set_id, tree)
        if known not in groups:
            groups[known] = group_of(dimension_sets[part.dimension_set_id], query, tree)
        group = groups[known]
        if group is None:
            continue
        key = (pieces[part.piece].start, group)
        before = folded.get(key)
        folded[key] = part.sums if before is None else _added(before, part.sums)
    if len(folded) > MAX_ROWS:
        raise InvalidInput(
            f"group_by gives more than {MAX_ROWS} rows; ask for less", field="group_by"
        )
    return [_row(group, start, measures) for (start, group), measures in folded.items()]


def total(rows: Iterable[CostRow]) -> CostRow:
    """Give the sum of the rows, without group or start."""
    listed = list(rows)
    return CostRow(**{name: sum(getattr(row, name) for row in listed) for name in MEASURES})


def _row(group: Group, start: datetime | None, measures: tuple[int, ...]) -> CostRow:
    return CostRow(group, start, **dict(zip(MEASURES, measures, strict=True)))


def _added(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, left, right))


def _value_of(dimensions: DimensionSet, name: str, tree: OwnerTree) -> str | None:
    if name == "owner":
        return tree.owner_of(dimensions.team, dimensions.feature)
    if name == "cost_center":
        return tree.cost_center_of(dimensions.team)
    if name == "is_retry":
        return str(dimensions.is_retry).lower()
    return dimensions.value(name)


def _buckets(query: CostQuery) -> Iterable[Period]:
    if query.granularity == "none":
        yield query.period
        return
    # Where the clock is set back by half an hour, two hours of the wall clock share their end: each
    # starts where the one before ended.
    start = query.period.start
    for window in windows_between(Window(query.granularity), query.period, query.timezone):
        end = min(window.end, query.period.end)
        yield Period(start, end)
        start = end

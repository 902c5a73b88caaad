"""How sums of rollups become the rows of an answer. It owns buckets, groups and filters.

It refuses SQL and paging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.costs import CostQuery, CostRow, Group
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.outcomes import OutcomeSum
from tokenbudget.domain.owners import OwnerTree
from tokenbudget.domain.periods import Period, Window, windows_between
from tokenbudget.domain.rollups import MEASURES, RollupSum

MAX_PIECES: Final = 5_000
MAX_ROWS: Final = 200_000
NOTHING: Final = (0,) * len(MEASURES)
SUMMED: Final = (*MEASURES, "billed_nanos", "undivided_tokens")

Key: TypeAlias = tuple[datetime | None, Group]


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
    outcomes: Iterable[OutcomeSum] = (),
) -> list[CostRow]:
    """Give one row a start and group, in no order; ``trees`` has the owners of each piece.

    Raises InvalidInput above ``MAX_ROWS``.
    """
    grouping = _Grouping(query, pieces, trees, dimension_sets)
    folded: dict[Key, tuple[int, ...]] = {}
    reached: dict[Key, dict[str, int]] = {}
    for part in sums:
        key = grouping.key_of(part.piece, part.dimension_set_id)
        if key is not None:
            before = folded.get(key)
            folded[key] = part.sums if before is None else _added(before, part.sums)
    for outcome in outcomes:
        key = grouping.key_of(outcome.piece, outcome.dimension_set_id)
        if key is not None:
            values = reached.setdefault(key, {})
            values[outcome.name] = values.get(outcome.name, 0) + outcome.value_nanos
    keys = folded.keys() | reached.keys()
    if len(keys) > MAX_ROWS:
        raise InvalidInput(
            f"group_by gives more than {MAX_ROWS} rows; ask for less", field="group_by"
        )
    return [
        _row(group, start, folded.get((start, group), NOTHING), reached.get((start, group), {}))
        for start, group in keys
    ]


def total(rows: Iterable[CostRow]) -> CostRow:
    """Give the sum of the rows, without group or start."""
    listed = list(rows)
    names = {name for row in listed for name in row.outcomes}
    return CostRow(
        **{name: sum(getattr(row, name) for row in listed) for name in SUMMED},
        outcomes={name: sum(row.outcomes.get(name, 0) for row in listed) for name in sorted(names)},
    )


class _Grouping:
    """Where sums go, worked out once a dimension set and tree of owners."""

    def __init__(
        self,
        query: CostQuery,
        pieces: Sequence[Piece],
        trees: Sequence[OwnerTree],
        dimension_sets: Mapping[int, DimensionSet],
    ) -> None:
        self.query = query
        self.pieces = pieces
        self.trees = trees
        self.dimension_sets = dimension_sets
        self.groups: dict[tuple[int, OwnerTree], Group | None] = {}

    def key_of(self, piece: int, dimension_set_id: int) -> Key | None:
        """Give the row of a sum; None when a filter leaves it out."""
        tree = self.trees[piece]
        known = (dimension_set_id, tree)
        if known not in self.groups:
            dimensions = self.dimension_sets[dimension_set_id]
            self.groups[known] = group_of(dimensions, self.query, tree)
        group = self.groups[known]
        return None if group is None else (self.pieces[piece].start, group)


def _row(
    group: Group, start: datetime | None, measures: tuple[int, ...], outcomes: Mapping[str, int]
) -> CostRow:
    return CostRow(group, start, **dict(zip(MEASURES, measures, strict=True)), outcomes=outcomes)


def _added(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, left, right))


def _value_of(dimensions: DimensionSet, name: str, tree: OwnerTree) -> str | None:
    if name == "owner":
        return tree.owner_of(dimensions.team, dimensions.feature)
    if name == "cost_center":
        return tree.cost_center_of(dimensions.team)
    if name == "is_retry":
        return str(dimensions.is_retry).lower()
    value = dimensions.value(name)
    # An outcome given by tags belongs to no one call, so that it has no provider and no model.
    return value or None if name in ("provider", "model") else value


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

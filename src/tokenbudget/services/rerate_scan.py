"""Finding what a price list rates differently than it was charged.

It owns the cutting of the ledger into parts of bounded size, each with a digest of what was seen.
It refuses to write.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import polars as pl
from sqlmodel import Session

from tokenbudget.domain.periods import from_micros
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rerating import (
    CostDelta,
    DeltaKey,
    Part,
    Reason,
    RerateScope,
    find_fixed_rows,
    sum_deltas,
)
from tokenbudget.formats.rerating import describe_scope
from tokenbudget.frames.rerating import (
    MICROS_PER_SECOND,
    candidate_frame,
    dimension_frame,
    find_moves,
    quarter_hours,
    seen_bytes,
    sum_moves,
    with_commitments,
    with_dimensions,
)
from tokenbudget.store.rerate_charges import (
    Selection,
    list_candidates,
    list_charged_rows,
    list_dimensions,
)
from tokenbudget.store.rerating import find_closed_before
from tokenbudget.store.rollups import find_dimension_sets

USAGES_PER_PART: Final = 20_000
"""How much is looked at, and later applied in one transaction: about a second of the write lock."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a ledger at one moment: by which prices, of which charges."""

    price_list: PriceList
    selection: Selection
    old_digests: Mapping[int, str]
    fixed_row_ids: frozenset[int]
    closed_before: int | None
    usages_per_part: int = USAGES_PER_PART


@dataclass(frozen=True, slots=True)
class Finding:
    """All that moves: in parts, and by owner, period and reason."""

    parts: tuple[Part, ...]
    deltas: Mapping[DeltaKey, CostDelta]
    digest: str


def pose_question(session: Session, price_list: PriceList, scope: RerateScope) -> Question:
    """Give the question of a scope as the ledger stands in this session."""
    charged = list_charged_rows(session)
    fixed = find_fixed_rows(charged, price_list)
    chosen: set[int] = set(fixed) if Reason.FIXED in scope.reasons else set()
    if Reason.CHANGED in scope.reasons:
        chosen.update(row.row_id for row in charged if row.row_id not in fixed)
    return Question(
        price_list=price_list,
        selection=Selection(scope, chosen, Reason.UNPRICED in scope.reasons),
        old_digests={row.row_id: row.digest for row in charged},
        fixed_row_ids=fixed,
        closed_before=find_closed_before(session),
    )


def scan_ledger(session: Session, question: Question) -> Finding:
    """Give all that moves, part by part in the order of usage ids.

    The digest does not depend on how it was cut into parts.
    """
    parts: list[Part] = []
    deltas: dict[DeltaKey, CostDelta] = defaultdict(CostDelta)
    scope = describe_scope(question.selection.scope)
    seen = hashlib.sha256(msgspec.json.encode((question.price_list.version, scope)))
    for first, last, moves in _stretches(session, question):
        found = sum_moves(moves)
        for key, delta in found.items():
            deltas[key] += delta
        bytes_seen = seen_bytes(moves)
        seen.update(bytes_seen)
        digest = hashlib.sha256(bytes_seen).hexdigest()
        parts.append(Part(first, last, digest, sum_deltas(found.values())))
    return Finding(tuple(parts), deltas, seen.hexdigest())


def digest_moves(moves: pl.DataFrame) -> str:
    """Give the digest of a part that has these moves."""
    return hashlib.sha256(seen_bytes(moves)).hexdigest()


def find_part_moves(session: Session, question: Question, *, first: int, last: int) -> pl.DataFrame:
    """Give the moves of one part as the ledger stands now."""
    rows = list_candidates(
        session, question.selection, after=first - 1, up_to=last, limit=USAGES_PER_PART + 1
    )
    return _moves(session, question, candidate_frame(rows))


def _stretches(session: Session, question: Question) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Give the first and the last usage id looked at, and the moves, wherever there are any."""
    after = question.selection.scope.after_usage_id
    while rows := list_candidates(
        session, question.selection, after=after, up_to=None, limit=question.usages_per_part
    ):
        candidates = candidate_frame(rows)
        first, after = candidates["usage_id"][0], candidates["usage_id"][-1]
        moves = _moves(session, question, candidates)
        if not moves.is_empty():
            yield first, after, moves


def _moves(session: Session, question: Question, candidates: pl.DataFrame) -> pl.DataFrame:
    dimension_set_ids = candidates["dimension_set_id"].unique().to_list()
    dimensions = dimension_frame(list_dimensions(session, dimension_set_ids))
    asked = with_dimensions(candidates, dimensions)
    if question.price_list.agreements.commitments:
        asked = with_commitments(asked, _covering(session, question.price_list, candidates))
    return find_moves(
        asked,
        question.price_list,
        old_digests=question.old_digests,
        fixed_row_ids=question.fixed_row_ids,
        closed_before=question.closed_before,
    )


def _covering(
    session: Session, price_list: PriceList, candidates: pl.DataFrame
) -> dict[tuple[int, int], str]:
    """Give the commitment that covers usage, by quarter-hour in seconds and dimension set.

    Commitments begin and end on quarter-hours.
    """
    dimensions = find_dimension_sets(session, set(candidates["dimension_set_id"]))
    covering = {}
    for second, dimension_set_id in quarter_hours(candidates):
        instant = from_micros(second * MICROS_PER_SECOND)
        commitment = price_list.find_commitment(dimensions[dimension_set_id], instant)
        if commitment is not None:
            covering[second, dimension_set_id] = commitment.id
    return covering

"""Finding usage that the rules of today would count elsewhere than where it counts.

It owns resolving each dimension set once an epoch of the rules, never each usage, and the cutting
of the ledger into parts of bounded size. It refuses to write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import msgspec
import polars as pl
from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet, allocate_again
from tokenbudget.domain.reattribution import OwnerKey, UsePeriod, negated, sum_by_owner
from tokenbudget.domain.rerating import CostDelta, Part, sum_deltas
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.frames.reattribution import (
    find_moves,
    places,
    seen_bytes,
    standing_frame,
    sum_moves,
)
from tokenbudget.store.ledger import digest_of
from tokenbudget.store.rerating import find_closed_before
from tokenbudget.store.standing_charges import (
    find_resolved_sets,
    list_dimension_set_ids,
    list_seen,
    list_standing,
)

USAGES_PER_PART: Final = 20_000
"""How much is looked at, and later applied in one transaction: about a second of the write lock."""

MAX_PLACES_AHEAD: Final = 200_000
"""How many pairs of dimension set and epoch are resolved ahead, to read only usage that moves."""

MAX_SETS_NAMED: Final = 5_000
"""How many dimension sets a query names; if more of them move, all usage is read."""


@dataclass(slots=True)
class Resolver:
    """Where dimension sets would count by some rules, each worked out once an epoch."""

    rules: TagRules
    sets: dict[int, DimensionSet] = field(default_factory=dict)
    targets: dict[tuple[int, int], str] = field(default_factory=dict)
    found: dict[str, DimensionSet] = field(default_factory=dict)

    def resolve(
        self, session: Session, asked: Iterable[tuple[int, int]]
    ) -> Mapping[tuple[int, int], str]:
        """Give the digest of where each (dimension set id, epoch) goes; what stays is left out."""
        pairs = [pair for pair in asked if pair not in self.targets]
        missing = {set_id for set_id, _ in pairs} - self.sets.keys()
        self.sets.update(find_resolved_sets(session, missing))
        for set_id, epoch in pairs:
            present = self.sets[set_id]
            instant = self.rules.instant_in(epoch)
            dimensions = allocate_again(present, instant, rules=self.rules)
            digest = "" if dimensions == present else digest_of(dimensions)
            self.targets[set_id, epoch] = digest
            if digest:
                self.found.setdefault(digest, dimensions)
        return {pair: target for pair in asked if (target := self.targets[pair])}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a ledger at one moment: which usage, by which rules.

    ``under`` are the only dimension sets that anything leaves, None when that is not known ahead.
    """

    period: UsePeriod
    resolver: Resolver
    under: Collection[int] | None
    closed_before: int | None
    usages_per_part: int = USAGES_PER_PART


@dataclass(frozen=True, slots=True)
class Finding:
    """All that moves in parts, and what each owner gains."""

    parts: tuple[Part, ...]
    deltas: Mapping[OwnerKey, CostDelta]
    digest: str


def pose_question(
    session: Session,
    rules: TagRules,
    period: UsePeriod,
    *,
    usages_per_part: int = USAGES_PER_PART,
) -> Question:
    """Give the question of a period as the ledger stands in this session."""
    resolver = Resolver(rules)
    under = _find_leaving(session, resolver, period)
    return Question(period, resolver, under, find_closed_before(session), usages_per_part)


def scan_ledger(session: Session, question: Question) -> Finding:
    """Give all that moves, part by part in the order of usage ids.

    The digest does not depend on how it was cut into parts.
    """
    parts: list[Part] = []
    gains: list[tuple[OwnerKey, CostDelta]] = []
    period = question.period
    seen = hashlib.sha256(msgspec.json.encode((period.start, period.end)))
    for first, last, moves in _stretches(session, question):
        sums = list(sum_moves(moves))
        gains.extend(_gains(question.resolver, sums))
        bytes_seen = seen_bytes(moves)
        seen.update(bytes_seen)
        digest = hashlib.sha256(bytes_seen).hexdigest()
        parts.append(Part(first, last, digest, sum_deltas(delta for *_, delta in sums)))
    return Finding(tuple(parts), sum_by_owner(gains), seen.hexdigest())


def digest_moves(moves: pl.DataFrame) -> str:
    """Give the digest of a part that has these moves."""
    return hashlib.sha256(seen_bytes(moves)).hexdigest()


def find_part_moves(session: Session, question: Question, *, first: int, last: int) -> pl.DataFrame:
    """Give the moves of one part as the ledger stands now."""
    rows = list_standing(
        session,
        question.period,
        under=question.under,
        first=first,
        last=last,
    )
    return _moves(session, question, standing_frame(rows, question.resolver.rules.turns))


def _stretches(session: Session, question: Question) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Give the first and the last usage id looked at, and the moves, wherever there are any."""
    after = 0
    if question.under is not None and not question.under:
        return
    while rows := list_seen(
        session,
        question.period,
        under=question.under,
        after=after,
        limit=question.usages_per_part,
    ):
        standing = standing_frame(rows, question.resolver.rules.turns)
        first, after = standing["usage_id"][0], standing["usage_id"][-1]
        moves = _moves(session, question, standing)
        if not moves.is_empty():
            yield first, after, moves


def _moves(session: Session, question: Question, standing: pl.DataFrame) -> pl.DataFrame:
    targets = question.resolver.resolve(session, places(standing))
    return find_moves(standing, targets, closed_before=question.closed_before)


def _find_leaving(
    session: Session, resolver: Resolver, period: UsePeriod
) -> Collection[int] | None:
    """Give the dimension sets that usage of the period would leave, if they can be told ahead."""
    rules = resolver.rules
    first = rules.epoch_at(period.start) if period.start else 0
    last = rules.epoch_at(period.end - timedelta.resolution) if period.end else len(rules.turns)
    set_ids = list_dimension_set_ids(session)
    epochs = range(first, last + 1)
    if len(set_ids) * len(epochs) > MAX_PLACES_AHEAD:
        return None
    asked = [(set_id, epoch) for set_id in set_ids for epoch in epochs]
    leaving = {set_id for set_id, _ in resolver.resolve(session, asked)}
    return leaving if len(leaving) <= MAX_SETS_NAMED else None


def _gains(
    resolver: Resolver, sums: Iterable[tuple[int, str, int, CostDelta]]
) -> Iterator[tuple[OwnerKey, CostDelta]]:
    """Give what owners gain: what moves, from where it leaves and to where it goes."""
    for left, target, period, delta in sums:
        yield _owner(resolver.sets[left], period), negated(delta)
        yield _owner(resolver.found[target], period), delta


def _owner(dimensions: DimensionSet, period: int) -> OwnerKey:
    return OwnerKey(dimensions.team, dimensions.feature, dimensions.tenant, period)

"""Usage attributed again under the rules of today: what is looked at and what it moves.

It owns the scope and the view of a re-attribution; it refuses to resolve (``allocation.py``). Money
only changes owners: what it takes from some and gives to others sums to zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.rerating import CostDelta, RerateState


@dataclass(frozen=True, slots=True)
class UsePeriod:
    """When usage happened: from ``start``, included, until ``end``, excluded; None is open."""

    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a period that nothing can lie in."""
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise InvalidInput("end must be later than start", field="end")


class OwnerKey(NamedTuple):
    """What a difference is shown by; the period is the one it posts to, as year * 100 + month."""

    team: str
    feature: str | None
    tenant: str | None
    accounting_period: int


@dataclass(frozen=True, slots=True)
class Reattribution:
    """A re-attribution as it stands; its states are those of a re-rating.

    ``proposed`` is all that moves, wherever to, as the dry run showed it; ``applied`` is what has
    been posted of it so far, ``stale`` what was left alone since its usage changed meanwhile.
    ``deltas`` is what each owner gains, negative where it loses. Who asked and who approved are ids
    of API keys, None for commands.
    """

    reattribution_id: int
    state: RerateState
    period: UsePeriod
    digest: str
    created_at: datetime
    created_by: str | None
    approved_at: datetime | None
    approved_by: str | None
    applied_at: datetime | None
    proposed: CostDelta
    applied: CostDelta
    stale: CostDelta
    deltas: Mapping[OwnerKey, CostDelta]


def negated(delta: CostDelta) -> CostDelta:
    """Give what takes a difference back."""
    return CostDelta(
        -delta.usages, -delta.list_nanos, -delta.contracted_nanos, -delta.effective_nanos
    )


def sum_by_owner(moves: Iterable[tuple[OwnerKey, CostDelta]]) -> dict[OwnerKey, CostDelta]:
    """Give what each owner gains in all; owners for whom nothing changes are left out."""
    sums: dict[OwnerKey, CostDelta] = defaultdict(CostDelta)
    for key, delta in moves:
        sums[key] += delta
    return {key: delta for key, delta in sums.items() if delta != CostDelta()}

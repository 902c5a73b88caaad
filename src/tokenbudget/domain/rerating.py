"""What may be rated again after the fact, and where the difference posts.

It owns the reasons, the scope and which price rows a fix replaced. It refuses to rate
(``rating.py``) and to store. A usage is eligible for one of three reasons:

    fixed      the row it was charged by was replaced by a later recorded row of the same selector
               and beginning (``recorded`` in the price file), or a multiplier of its model was
    unpriced   it was charged nothing because there was no price, and now there is one
    changed    its row still stands, and the book now answers with another one: a change of price,
               a tier or an alias that was learned of late

``fixed`` and ``unpriced`` are mistakes and eligible unless the caller says otherwise. ``changed``
rewrites what was believed for good reasons, so it has to be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import IDENTITY_DIGITS
from tokenbudget.domain.schedules import RATIO_MARK


class Reason(StrEnum):
    """Why a usage is rated again."""

    FIXED = "fixed"
    UNPRICED = "unpriced"
    CHANGED = "changed"


USUAL_REASONS: Final = frozenset({Reason.FIXED, Reason.UNPRICED})


class RerateState(StrEnum):
    """How far a re-rating has come; approved means that it is being applied, part by part."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    APPLIED = "applied"


class PartState(StrEnum):
    """What became of a part; a stale one is left alone since its usage changed meanwhile."""

    WAITING = "waiting"
    APPLIED = "applied"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class RerateScope:
    """Which usage to look at: reasons, provider and model as usage names them, time of use.

    None leaves a condition out; ``start`` is included, ``end`` excluded. Only usage with an id
    above ``after_usage_id`` is looked at.
    """

    reasons: frozenset[Reason] = USUAL_REASONS
    provider: str | None = None
    model: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    after_usage_id: int = 0

    def __post_init__(self) -> None:
        """Refuse a scope that nothing can lie in."""
        if not self.reasons:
            raise InvalidInput("reasons must name at least one of fixed, unpriced, changed")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise InvalidInput("end must be later than start", field="end")


@dataclass(frozen=True, slots=True)
class CostDelta:
    """How many usages move, and by how much in nanos; nothing charged counts as zero before."""

    usages: int = 0
    list_nanos: int = 0
    contracted_nanos: int = 0
    effective_nanos: int = 0

    def __add__(self, other: CostDelta) -> CostDelta:
        """Give both together."""
        return CostDelta(
            self.usages + other.usages,
            self.list_nanos + other.list_nanos,
            self.contracted_nanos + other.contracted_nanos,
            self.effective_nanos + other.effective_nanos,
        )


class DeltaKey(NamedTuple):
    """What a difference is shown by; the period is the one it posts to, as year * 100 + month."""

    team: str
    feature: str | None
    tenant: str | None
    accounting_period: int
    reason: Reason


class ChargedRow(NamedTuple):
    """A price row that charges name, as stored."""

    row_id: int
    digest: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Rerate:
    """A re-rating as it stands.

    ``proposed`` is what the dry run showed and ``applied`` what has been posted of it so far.
    ``stale`` is what was left alone since its usage changed while the re-rating was applied.
    """

    rerate_id: int
    state: RerateState
    scope: RerateScope
    is_automatic: bool
    price_list_version: str
    digest: str
    created_at: datetime
    approved_at: datetime | None
    applied_at: datetime | None
    proposed: CostDelta
    applied: CostDelta
    stale: CostDelta
    deltas: Mapping[DeltaKey, CostDelta]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of usage ids, both ends included, with all that is proposed for it."""

    first_usage_id: int
    last_usage_id: int
    digest: str
    delta: CostDelta

    def waiting_row(self) -> dict[str, object]:
        """Give the columns of a part that is not applied yet, without whose part it is."""
        return {
            "first_usage_id": self.first_usage_id,
            "last_usage_id": self.last_usage_id,
            "digest": self.digest,
            **asdict(self.delta),
            "state": PartState.WAITING.value,
        }


class HasDelta(Protocol):
    """Anything stored with the amounts of a delta."""

    usages: int
    list_nanos: int
    contracted_nanos: int
    effective_nanos: int


def delta_of(row: HasDelta) -> CostDelta:
    """Give the delta that is stored with something."""
    return CostDelta(row.usages, row.list_nanos, row.contracted_nanos, row.effective_nanos)


def largest_first(item: tuple[object, CostDelta]) -> tuple[int, str]:
    """Give what deltas are sorted by, each with its key."""
    key, delta = item
    return -abs(delta.effective_nanos), str(key)


def sum_deltas(deltas: Iterable[CostDelta]) -> CostDelta:
    """Give all of them together."""
    return sum(deltas, start=CostDelta())


def find_fixed_rows(rows: Iterable[ChargedRow], price_list: PriceList) -> frozenset[int]:
    """Give the ids of the charged rows that a fix in the price list replaced.

    A charge names its row and the product of the multipliers, not their rows; so when a
    multiplier of a model was fixed, every multiplied row of the model is among them.
    """
    refs: set[str] = set()
    multiplied: set[tuple[str, str]] = set()
    for prices in price_list.providers:
        for row in (row for model in prices.models for row in model.superseded):
            refs.add(row.price_ref)
            if row.times is not None:
                multiplied.add((row.provider, row.model))
    return frozenset(
        row.row_id
        for row in rows
        if row.digest[:IDENTITY_DIGITS] in refs
        or (RATIO_MARK in row.digest and (row.provider, row.model) in multiplied)
    )


def posting_period(accounting_period: int, closed_before: int | None) -> int:
    """Give the period (year * 100 + month) a correction posts to.

    It is the charge's own while that is open, else the first open one; periods before
    ``closed_before`` are closed, None means that none is.
    """
    return accounting_period if closed_before is None else max(accounting_period, closed_before)

"""Moving what was charged to where it belongs: a pair of charges for the same usage.

The old charge is taken back where it stood and posted again under other dimensions, with rollups,
counters and the hold of its call. Amounts stay what they were, unless a commitment covers the usage
under one of the two dimension sets only: then it is rated again.

Only what is not known is filled in: tags that a key pinned or a caller gave stay, what rules gave
is asked for again. So the same tags a second time move nothing.

Closed periods are respected as re-rating does it: a pair whose charge is on the books of a closed
period posts to the first open one, both halves, so that what was closed stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from sqlmodel import Session

from tokenbudget.domain.allocation import (
    CALLER,
    DERIVED_STEPS,
    TAG_DIMENSIONS,
    DimensionSet,
    allocate_again,
)
from tokenbudget.domain.identity import event_key, span_key
from tokenbudget.domain.rating import Charge
from tokenbudget.domain.rerating import posting_period
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.domain.usage import Basis
from tokenbudget.services.placement import Placement
from tokenbudget.services.postings import Posting
from tokenbudget.store.event_keys import find_keys

GivenTags: TypeAlias = Mapping[str, tuple[str, str]]
"""A value and the step that gave it, by the name of the tag."""


class EventTarget(NamedTuple):
    """The event of a source, whatever its revision."""

    source: str
    event_ref: str


class SpanTarget(NamedTuple):
    """The call that a span of a trace was."""

    trace_ref: str
    span_ref: str


Target: TypeAlias = int | EventTarget | SpanTarget
"""Usage by its id, by its event or by its span."""


@dataclass(frozen=True, slots=True)
class TagChange:
    """What was learned of a call afterwards; only tags it does not have yet are taken from it."""

    target: Target
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RetagUsage:
    """Work for the writer: tags of calls that were not known when their usage was recorded.

    Whichever witness is named, what counts for its call is moved.
    """

    changes: Sequence[TagChange]

    @property
    def weight(self) -> int:
        """Give how many items of the queue's bound this takes."""
        return max(1, len(self.changes))


@dataclass(frozen=True, slots=True)
class RetagAnswer:
    """How many of the changes moved a charge, changed nothing, and named unrecorded usage."""

    moved: int
    unchanged: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A charge that stands for a usage, with all that taking it back needs.

    ``placement`` is where it counts; ``charge_set_id`` is what the charge itself says of that;
    ``call_id`` is the usage that its call is known by; ``operation_ref`` is what the usage names.
    """

    usage_id: int
    sequence: int
    placement: Placement
    occurred_at: datetime
    quantities: Mapping[str, int]
    charge: Charge
    price_row_id: int
    price_list_id: int | None
    accounting_period: int
    charge_set_id: int | None
    hold_id: str | None
    call_id: int
    operation_ref: str | None


def stored_charge(row: Any) -> Charge:
    """Give what a stored charge says, without the price row it names."""
    flags = tuple(row.flags.split(",")) if row.flags else ()
    basis = Basis(row.basis)
    return Charge(basis, None, row.list_nanos, row.contracted_nanos, row.effective_nanos, flags)


def taken_back(
    standing: Standing, *, closed_before: int | None, revision_id: int | None = None
) -> Posting:
    """Give the posting that takes the charge back.

    By the revision that replaces its event, else by a further charge of the usage itself.
    """
    own_sequence = standing.sequence + 2 - standing.sequence % 2
    return Posting(
        usage_id=standing.usage_id if revision_id is None else revision_id,
        sequence=own_sequence if revision_id is None else 1,
        sign=-1,
        placement=standing.placement,
        occurred_at=standing.occurred_at,
        quantities=standing.quantities,
        charge=standing.charge,
        price_row_id=standing.price_row_id,
        hold_id=standing.hold_id,
        accounting_period=posting_period(standing.accounting_period, closed_before),
        reverses_usage_id=standing.usage_id,
        charge_set_id=standing.charge_set_id,
        price_list_id=standing.price_list_id,
        call_id=standing.call_id,
        operation_ref=standing.operation_ref,
    )


def moved_pair(
    standing: Standing, target: Placement, *, hold_id: str | None, closed_before: int | None
) -> tuple[Posting, Posting]:
    """Give the pair that moves a charge to where its call belongs, under the hold of the call.

    The target's dimension set is stored already. Where the charge is of a closed period, both post
    to the first open one (``closed_before``, None when no period is closed).
    """
    old = taken_back(standing, closed_before=closed_before)
    new = replace(
        old,
        sequence=old.sequence + 1,
        sign=1,
        placement=target,
        reverses_usage_id=None,
        charge_set_id=target.dimension_set_id,
        hold_id=hold_id,
    )
    return old, new


def asserted_tags(dimensions: DimensionSet) -> GivenTags:
    """Give the tags that a key or a caller gave, without those that rules answered."""
    named = {name: getattr(dimensions, name) for name in TAG_DIMENSIONS}
    steps = dimensions.resolved_by
    return {
        name: (value, steps.get(name, CALLER))
        for name, value in {**named, **dimensions.tags}.items()
        if value is not None and steps.get(name, CALLER) not in DERIVED_STEPS
    }


def learned_tags(tags: Mapping[str, str], unrolled: Collection[str]) -> GivenTags:
    """Give tags that were learned afterwards, without those that are no dimensions."""
    return {name: (value, CALLER) for name, value in tags.items() if name not in unrolled}


def fill_in(
    dimensions: DimensionSet,
    known: GivenTags,
    sources: Iterable[GivenTags],
    rules: TagRules,
    at: datetime,
) -> DimensionSet:
    """Give the dimensions with the tags that nobody gave taken from the first source that has them.

    ``known`` are the tags asserted so far. What rules answered is then asked for again. The very
    same set when there is nothing to add.
    """
    added: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, given in source.items():
            if name not in known:
                added.setdefault(name, given)
    if not added:
        return dimensions
    named: dict[str, Any] = {
        name: value for name, (value, _) in added.items() if name in TAG_DIMENSIONS
    }
    others = {name: value for name, (value, _) in added.items() if name not in named}
    steps = {name: step for name, (_, step) in added.items()}
    filled = replace(
        dimensions,
        **named,
        tags={**dimensions.tags, **others},
        resolved_by={**dimensions.resolved_by, **steps},
    )
    return allocate_again(filled, at, rules=rules)


def find_targets(session: Session, targets: Collection[Target]) -> dict[Target, int]:
    """Give a usage of the call of each target; those that are not recorded are left out."""
    keys = {target: _key_of(target) for target in targets if not isinstance(target, int)}
    holders = find_keys(session, set(keys.values()))
    found: dict[Target, int] = {
        target: holders[key] for target, key in keys.items() if key in holders
    }
    found.update((target, target) for target in targets if isinstance(target, int))
    return found


def _key_of(target: EventTarget | SpanTarget) -> bytes:
    if isinstance(target, SpanTarget):
        return span_key(*target)
    return event_key(*target, 0)

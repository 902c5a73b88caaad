"""A call as its witnesses tell of it: stored usage and candidates side by side.

It owns what belongs to a call and what stands for it. It refuses to decide (``witnesses.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tokenbudget.domain.usage import COMMON_UNITS, ESTIMATED_PREFIX, VOID, Basis, Witness
from tokenbudget.domain.witnesses import EventName, Telling
from tokenbudget.services.postings import Candidate
from tokenbudget.services.retagging import GivenTags
from tokenbudget.store.witnesses import Stored


@dataclass(slots=True)
class Member:
    """One usage of a call, stored or a candidate, with the charges it has had.

    ``read_as`` is the call it was stored as; ``set_id`` is where it was placed first.
    """

    telling: Telling
    occurred_at: datetime
    quantities: Mapping[str, int]
    set_id: int
    response_ref: str | None
    is_cache_hit: bool
    hold_id: str | None
    operation_ref: str | None = None
    candidate: Candidate | None = None
    read_as: int | None = None
    charges: list[Stored] = field(default_factory=list)
    flags: tuple[str, ...] = ()

    @property
    def usage_id(self) -> int:
        """Give the id of the usage."""
        return self.telling.usage_id

    @property
    def last_charge(self) -> Stored | None:
        """Give the last charge that took nothing back, standing or not."""
        given = [row for row in self.charges if row.reverses_usage_id is None]
        return given[-1] if given else None

    @property
    def charged_set_id(self) -> int:
        """Give the dimension set it was last charged under, its own when it never was."""
        charge = self.last_charge
        return (charge.dimension_set_id if charge is not None else None) or self.set_id

    def next_sequence(self) -> int:
        """Give the number of a further charge, 0 or an odd one: taking back has the even ones."""
        given = [row.sequence for row in self.charges if row.sequence != 1]
        return max(given) + 1 if given else 0

    def stands_among(self, stored: Iterable[Member]) -> bool:
        """Tell whether a charge of the usage stands.

        That is its last one, unless that takes the usage back or a later revision has done so.
        """
        own = [row for row in self.charges if row.reverses_usage_id in (None, self.usage_id)]
        if not own or own[-1].reverses_usage_id is not None:
            return False
        return not any(
            row.reverses_usage_id == self.usage_id
            for other in stored
            if other is not self
            for row in other.charges
        )


@dataclass(slots=True)
class Call:
    """All that tells of one call: its members and the tags that were learned of it.

    ``nodes`` are the usages by which it was found.
    """

    members: list[Member]
    nodes: list[int]
    stored_ids: set[int] = field(default_factory=set)
    learned: list[GivenTags] = field(default_factory=list)

    @property
    def first_id(self) -> int:
        """Give the usage that the call is known by."""
        return min(self.stored_ids or {member.usage_id for member in self.members})

    def stored(self) -> list[Member]:
        """Give the members that are in the ledger already."""
        return [member for member in self.members if member.candidate is None]

    def absorb(self, other: Call) -> None:
        """Take over all that tells of another call, which turned out to be this one."""
        self.members += other.members
        self.nodes += other.nodes
        self.stored_ids |= other.stored_ids
        self.learned += other.learned

    def put_first_in_front(self) -> None:
        """Order the members: who told first, then by usage id."""
        first_id = self.first_id
        self.members.sort(key=lambda member: (member.usage_id != first_id, member.usage_id))

    def may_be(self, other: Call) -> bool:
        """Tell whether both may be one call, when all that they share is a span.

        They are not when both were answered and not by the same response, nor when one source tells
        of them as two events: an application may do several calls within one span. Spans themselves
        were compared by whoever read them, and name the span that stands for their call.
        """
        mine, its = self._response_refs(), other._response_refs()
        if mine and its and mine.isdisjoint(its):
            return False
        events, its_events = self._events_by_source(), other._events_by_source()
        shared = events.keys() & its_events.keys()
        return all(events[source] == its_events[source] for source in shared)

    def _response_refs(self) -> set[str]:
        return {ref for member in self.members if (ref := member.response_ref) is not None}

    def _events_by_source(self) -> dict[int, set[EventName]]:
        events: dict[int, set[EventName]] = {}
        for member in self.members:
            event = member.telling.event
            if member.telling.witness != Witness.OTLP:
                events.setdefault(event[0], set()).add(event)
        return events


def hold_of(member: Member, members: Iterable[Member]) -> str | None:
    """Give the hold that a charge of this member settles: its own, else the first one named."""
    if member.hold_id is not None:
        return member.hold_id
    return next((each.hold_id for each in members if each.hold_id is not None), None)


def stored_member(row: Stored, charges: list[Stored]) -> Member:
    """Give a member that is stored, from its row (MEMBER_COLUMNS) and its charges in order."""
    usage_id, call_id, source_id, event_ref, revision, occurred_at, set_id, *others = row
    other_units, witness, response_ref, cache_hit, hold_id, flags, operation_ref, *figures = others
    quantities = {
        unit: figure
        for unit, figure in zip(COMMON_UNITS, figures, strict=True)
        if figure is not None
    }
    if other_units:
        quantities.update(other_units)
    said = flags.split(",") if flags else ()
    telling = Telling(
        usage_id=usage_id,
        event=(source_id, event_ref),
        revision=revision,
        witness=witness,
        units=len(quantities),
        is_void=VOID in said,
        is_known=bool(quantities or cache_hit),
        is_estimated=any(flag.startswith(ESTIMATED_PREFIX) for flag in said),
    )
    return Member(
        telling=telling,
        occurred_at=occurred_at,
        quantities=quantities,
        set_id=set_id,
        response_ref=response_ref,
        is_cache_hit=bool(cache_hit),
        hold_id=hold_id,
        operation_ref=operation_ref,
        read_as=call_id or usage_id,
        charges=charges,
        flags=tuple(said),
    )


def new_member(item: Candidate, source_id: int) -> Member:
    """Give the member that a candidate is."""
    event = item.event
    quantities = event.quantities or {}
    return Member(
        telling=Telling(
            usage_id=item.usage_id,
            event=(source_id, event.event_ref),
            revision=event.revision,
            witness=event.witness,
            units=len(quantities),
            is_void=event.is_void,
            is_known=bool(quantities or event.cache_hit),
            is_estimated=event.basis is Basis.ESTIMATED,
        ),
        occurred_at=event.occurred_at,
        quantities=quantities,
        set_id=item.placement.dimension_set_id,
        response_ref=event.response_ref,
        is_cache_hit=event.cache_hit,
        hold_id=event.hold_id,
        operation_ref=event.operation_ref,
        candidate=item,
    )

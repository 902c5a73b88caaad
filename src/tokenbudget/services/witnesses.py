"""Joining the witnesses of one call, so that one of them counts and all are kept.

It owns what one transaction decides about calls that are told of more than once: by a further
witness, by a revision, by tags that were learned later. It refuses identity (``usage.py``), the
ranking (``domain/witnesses.py``) and what a pair of charges looks like (``retagging.py``).

A call is locked by its first usage, read whole, and then one thing is decided: which telling
counts, under which dimensions, settling which hold. Whatever stands otherwise is taken back. So
what is charged does not depend on the order in which witnesses arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.usage import Basis, UsageEvent
from tokenbudget.domain.witnesses import find_counting, list_in_force
from tokenbudget.services.calls import Call, Member, hold_of, new_member, stored_member
from tokenbudget.services.placement import Memory, Placement
from tokenbudget.services.postings import NOBODYS_WORK, Candidate, Posting
from tokenbudget.services.retagging import (
    GivenTags,
    Standing,
    asserted_tags,
    fill_in,
    learned_tags,
    moved_pair,
    stored_charge,
    taken_back,
)
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.witnesses import (
    Stored,
    find_calls,
    find_resolved_dimension_sets,
    join_calls,
    list_charges,
    list_members,
    lock_calls,
)


@dataclass(slots=True)
class Kin:
    """Usage that tells of the same call as a candidate: surely, or if nothing speaks against it."""

    sure: set[int] = field(default_factory=set)
    by_span: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Move:
    """A charge that belongs elsewhere, or, with ``is_written`` false, only to another hold."""

    standing: Standing
    target: Placement
    hold_id: str | None
    is_written: bool


class CallDesk:
    """Decides about the calls of one transaction that are told of more than once.

    ``due`` are the candidates to charge, ``postings`` what else has to be posted, ``decided`` the
    candidates that were decided about, ``moved`` the calls that are charged otherwise than before.
    """

    def __init__(
        self, session: Session, rules: Rulebook, memory: Memory, closed_before: int | None
    ) -> None:
        self.session = session
        self.rules = rules
        self.memory = memory
        self.closed_before = closed_before
        self.due: list[Candidate] = []
        self.postings: list[Posting] = []
        self.decided: set[int] = set()
        self.moved: set[int] = set()
        self._calls: dict[int, Call] = {}
        self._dimensions: dict[int, DimensionSet] = {}
        self._asserted: dict[int, GivenTags] = {}
        self._filled: dict[tuple[int, frozenset[tuple[str, str]], int], Placement] = {}
        self._moves: list[Move] = []

    def decide(
        self,
        candidates: Sequence[Candidate],
        kin: Mapping[int, Kin],
        learned: Sequence[tuple[int, Mapping[str, str]]] = (),
    ) -> None:
        """Decide about candidates with kin (by usage id), and about usage whose tags were learned.

        Candidates that are a call of their own and of which nothing was learned are left alone.
        """
        own = {item.usage_id: item for item in candidates}
        named = {usage_id for usage_id, _ in learned}
        named = named.union(*(each.sure | each.by_span for each in kin.values()))
        self._read_calls(named - own.keys())
        for usage_id in sorted((named & own.keys()) | kin.keys()):
            source_id = self.memory.source_ids[own[usage_id].event.source]
            self._calls[usage_id] = Call([new_member(own[usage_id], source_id)], [usage_id])
        for usage_id in sorted(kin):
            self._join(usage_id, kin[usage_id])
        for usage_id, tags in learned:
            if usage_id in self._calls:
                given = learned_tags(tags, self.memory.unrolled_tags)
                self._calls[usage_id].learned.append(given)
        calls = list({id(call): call for call in self._calls.values()}.values())
        self._recall_dimensions(calls)
        for call in calls:
            self._name(call)
            self._settle(call)
        self.memory.store_placements(self.session, self._filled.values())
        for move in self._moves:
            self._post(move)

    def has_moved(self, usage_id: int) -> bool | None:
        """Tell whether the call of a usage is charged otherwise now, None when there is none."""
        call = self._calls.get(usage_id)
        return None if call is None else call.first_id in self.moved

    def _read_calls(self, usage_ids: Collection[int]) -> None:
        """Lock and read the calls that stored usage tells of."""
        if not usage_ids:
            return
        known = find_calls(self.session, usage_ids)
        while not lock_calls(self.session, set(known.values())):
            known = find_calls(self.session, usage_ids)
        rows = list_members(self.session, set(known.values()))
        charges: dict[int, list[Stored]] = {row.id: [] for row in rows}
        for charge in list_charges(self.session, charges.keys()):
            charges[charge.usage_id].append(charge)
        for row in rows:
            call_id = row.call_id or row.id
            call = self._calls.setdefault(call_id, Call([], [call_id], {call_id}))
            call.members.append(stored_member(row, charges[row.id]))
            if row.id != call_id:
                call.nodes.append(row.id)
                self._calls[row.id] = call

    def _join(self, usage_id: int, kin: Kin) -> None:
        for other_id in sorted(kin.sure & self._calls.keys()):
            self._merge(self._calls[usage_id], self._calls[other_id])
        for other_id in sorted(kin.by_span & self._calls.keys()):
            call, other = self._calls[usage_id], self._calls[other_id]
            if call.may_be(other):
                self._merge(call, other)

    def _merge(self, call: Call, other: Call) -> None:
        if call is not other:
            call.absorb(other)
            self._calls.update(dict.fromkeys(other.nodes, call))

    def _recall_dimensions(self, calls: Iterable[Call]) -> None:
        """Learn where the members of these calls count."""
        stored_ids: set[int] = set()
        for member in (member for call in calls for member in call.members):
            if member.candidate is None:
                stored_ids |= {member.set_id, member.charged_set_id}
            else:
                self._dimensions[member.set_id] = member.candidate.placement.dimensions
        missing = stored_ids - self._dimensions.keys()
        self._dimensions.update(find_resolved_dimension_sets(self.session, missing))
        self.memory.recall(self.session, stored_ids, self.rules)

    def _name(self, call: Call) -> None:
        """Let every usage of the call name the one that told of it first."""
        others = sorted(call.stored_ids - {call.first_id})
        if others:
            join_calls(self.session, call.first_id, others)
        call.put_first_in_front()
        for member in call.members:
            if member.candidate is not None:
                self.decided.add(member.usage_id)
                is_first = member.usage_id == call.first_id
                member.candidate.call_id = None if is_first else call.first_id

    def _settle(self, call: Call) -> None:
        """Decide what counts for the call and note what has to change for that."""
        stored = call.stored()
        standing = [member for member in stored if member.stands_among(stored)]
        counted = {member.telling.event for member in standing}
        counting = find_counting([member.telling for member in call.members], counted)
        revisions = {
            member.telling.event: member.usage_id
            for member in call.members
            if member.candidate is not None
        }
        for member in standing:
            if counting is None or member.usage_id != counting.usage_id:
                revision_id = revisions.get(member.telling.event)
                self._take_back(call, member, revision_id)
        for member in call.members:
            if counting is not None and member.usage_id == counting.usage_id:
                self._count(call, member, is_standing=member in standing)

    def _take_back(self, call: Call, member: Member, revision_id: int | None) -> None:
        standing = self._standing(call, member)
        self.postings.append(
            taken_back(standing, closed_before=self.closed_before, revision_id=revision_id)
        )
        self.moved.add(call.first_id)

    def _count(self, call: Call, member: Member, *, is_standing: bool) -> None:
        """See to it that this member counts, where its call belongs and under the call's hold."""
        target = self._target(call, member)
        hold_id = hold_of(member, call.members)
        if not is_standing:
            self._charge(call, member, target, hold_id, sequence=member.next_sequence())
            self.moved.add(call.first_id)
            return
        is_at_home = target is self.memory.placements_by_id[member.charged_set_id]
        if is_at_home and (hold_id is None or _hold_settled(call, member) is not None):
            return
        standing = self._standing(call, member)
        if self._is_covered_otherwise(standing, target):
            back = taken_back(standing, closed_before=self.closed_before)
            self.postings.append(back)
            self._charge(call, member, target, hold_id, sequence=back.sequence + 1)
            self.moved.add(call.first_id)
        else:
            # Where nothing was charged wrongly, only the hold has to learn what was spent.
            self._moves.append(Move(standing, target, hold_id, is_written=not is_at_home))
            self.moved.update(() if is_at_home else (call.first_id,))

    def _charge(
        self, call: Call, member: Member, target: Placement, hold_id: str | None, *, sequence: int
    ) -> None:
        """Note that the member is to be charged."""
        candidate = member.candidate or self._again(member)
        if member.usage_id != call.first_id:
            candidate.call_id = call.first_id
        candidate.sequence = sequence
        candidate.counted_at = None if target is candidate.placement else target
        candidate.hold_id = hold_id
        self.due.append(candidate)

    def _post(self, move: Move) -> None:
        pair = moved_pair(
            move.standing, move.target, hold_id=move.hold_id, closed_before=self.closed_before
        )
        for posting in pair:
            posting.is_written = move.is_written
            self.postings.append(posting)

    def _target(self, call: Call, member: Member) -> Placement:
        """Give where the member counts, with the tags filled in that only others know."""
        base_id, at = member.charged_set_id, member.occurred_at
        dimensions = self._dimensions[base_id]
        sources = [*self._sources(call, member), *call.learned]
        known = self._asserted_under(base_id)
        filled = fill_in(dimensions, known, sources, self.rules.tag_rules, at)
        if filled is dimensions:
            candidate = member.candidate
            return candidate.placement if candidate else self.memory.placements_by_id[base_id]
        tags = frozenset((name, value) for name, (value, _) in asserted_tags(filled).items())
        key = (base_id, tags, self.rules.tag_rules.epoch_at(at))
        if key not in self._filled:
            self._filled[key] = Placement(filled, self.rules.index.match(filled))
        return self._filled[key]

    def _sources(self, call: Call, member: Member) -> Iterable[GivenTags]:
        """Give what other members know: their own tags, and what was learned of them later."""
        in_force = {each.usage_id for each in list_in_force([m.telling for m in call.members])}
        for other in call.members:
            if other is member:
                continue
            own = self._asserted_under(other.set_id)
            if other.usage_id in in_force:
                yield own
            charged = self._asserted_under(other.charged_set_id)
            if charged is not own:
                yield {name: given for name, given in charged.items() if name not in own}

    def _asserted_under(self, set_id: int) -> GivenTags:
        asserted = self._asserted.get(set_id)
        if asserted is None:
            asserted = self._asserted[set_id] = asserted_tags(self._dimensions[set_id])
        return asserted

    def _is_covered_otherwise(self, standing: Standing, target: Placement) -> bool:
        """Tell whether another commitment, or none any more, covers the usage where it belongs."""
        price_list = self.rules.price_list
        if target is standing.placement or not price_list.agreements.commitments:
            return False
        old, new = (
            price_list.find_commitment(placement.dimensions, standing.occurred_at)
            for placement in (standing.placement, target)
        )
        return old is not new

    def _standing(self, call: Call, member: Member) -> Standing:
        row = member.last_charge
        if row is None:
            raise AssertionError("what stands has been charged")
        return Standing(
            usage_id=member.usage_id,
            sequence=row.sequence,
            placement=self.memory.placements_by_id[member.charged_set_id],
            occurred_at=member.occurred_at,
            quantities=member.quantities,
            charge=stored_charge(row),
            price_row_id=row.price_row_id or 0,
            price_list_id=row.price_list_id,
            accounting_period=row.accounting_period,
            charge_set_id=row.dimension_set_id,
            hold_id=_hold_settled(call, member),
            call_id=call.first_id,
            operation_ref=member.operation_ref,
        )

    def _again(self, member: Member) -> Candidate:
        """Give a candidate for usage that is stored, to be rated by what is known of it."""
        placement = self.memory.placements_by_id[member.set_id]
        dimensions = placement.dimensions
        event = UsageEvent(
            source="",
            event_ref=member.telling.event[1],
            content_hash=0,
            occurred_at=member.occurred_at,
            provider=dimensions.provider,
            model=dimensions.model,
            quantities=member.quantities or None,
            service_tier=dimensions.service_tier,
            region=dimensions.region,
            account=dimensions.account,
            cache_hit=member.is_cache_hit,
            basis=Basis.ESTIMATED if member.telling.is_estimated else Basis.RATED,
            flags=member.flags,
            operation_ref=member.operation_ref,
        )
        keys = (b"", None, None)
        return Candidate(NOBODYS_WORK, 0, event, placement, {}, keys, usage_id=member.usage_id)


def _hold_settled(call: Call, member: Member) -> str | None:
    """Give the hold that a stored charge was posted under."""
    told_before = [each for each in call.stored() if each.read_as == member.read_as]
    return hold_of(member, told_before)

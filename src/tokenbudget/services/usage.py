"""Recording usage: count each event once, rate it, and let rollups and counters follow.

The steps of one transaction, in the order in which rows are locked: ``append`` (identity decides
what is new, witnesses of one call are joined, what counts is rated), ``aim`` (which counters will
move and which holds are named) and, once the counters have moved, ``write_rollups``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.allocation import CallFacts, DimensionSet
from tokenbudget.domain.identity import event_key, has_lasting_ids, response_key, span_key
from tokenbudget.domain.rating import Charge, RatingFacts, rate
from tokenbudget.domain.usage import INPUT_ONLY, OK_STATUS, Basis, UsageEvent
from tokenbudget.formats.events import ParsedItem, Rejection
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.placement import Caller, Memory
from tokenbudget.services.postings import (
    LATE,
    NOBODYS_WORK,
    Candidate,
    Posting,
    charge_columns,
    period_of,
    rollup_sums,
    usage_columns,
)
from tokenbudget.services.price_rows import price_row_of
from tokenbudget.services.retagging import RetagAnswer, RetagUsage, find_targets
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.unsettled import charge_input_of_unknown, note_unsettled
from tokenbudget.services.witnesses import CallDesk, Kin
from tokenbudget.store.event_keys import claim_keys, find_keys
from tokenbudget.store.ledger import (
    add_rollup_sums,
    append_charges,
    append_usage,
    find_content_hashes,
    next_usage_ids,
)
from tokenbudget.store.rerating import find_closed_before
from tokenbudget.store.witnesses import release_keys

STANDARD_TIER: Final = "standard"
GATEWAY_CACHE_FLAG: Final = "gateway_cache_hit"
NOTHING_USED_FLAG: Final = "nothing_used"


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Work for the writer: the parsed items of one request."""

    items: Sequence[ParsedItem]
    caller: Caller

    @property
    def weight(self) -> int:
        """Give how many items of the queue's bound this takes."""
        return max(1, len(self.items))


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """What became of each item: counts, and the rejections (conflicts among them) by index."""

    accepted: int
    duplicates: int
    unpriced: int
    rejected: tuple[Rejection, ...]


@dataclass(slots=True)
class Tally:
    """The outcome of one work item while it is being found out."""

    accepted: int = 0
    duplicates: int = 0
    unpriced: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    def answer(self) -> RecordAnswer:
        """Give the finished answer, rejections in order of index."""
        rejected = tuple(sorted(self.rejected, key=lambda rejection: rejection.index))
        return RecordAnswer(self.accepted, self.duplicates, self.unpriced, rejected)


@dataclass(slots=True)
class Recorder:
    """Records the usage of one transaction, and moves what is learned to belong elsewhere."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime
    tallies: list[Tally] = field(default_factory=list)
    retag_answers: list[RetagAnswer] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)
    hashes: dict[int, int] = field(default_factory=dict)
    kin: dict[int, Kin] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)

    def append(self, works: Sequence[RecordUsage], retags: Sequence[RetagUsage] = ()) -> None:
        """Add the usage and charges that are new; duplicates, conflicts and rejections end here."""
        self.tallies = [Tally() for _ in works]
        candidates = self._candidates(works)
        if not candidates and not retags:
            return
        admitted: list[Candidate] = []
        charge_input_of_unknown(self.session, candidates)
        if candidates:
            self.memory.store_sources(self.session, {item.event.source for item in candidates})
            self.memory.store_placements(self.session, (item.placement for item in candidates))
            admitted = self._admit_all(candidates)
        closed_before = find_closed_before(self.session)
        due = admitted
        if self.kin or retags:
            due = self._decide(admitted, retags, closed_before)
        if admitted:
            append_usage(self.session, usage_columns(admitted, self.memory, self.now))
        for item in admitted:
            self.tallies[item.work].accepted += 1
        if due:
            self._charge(due, closed_before)
        written = [posting for posting in self.postings if posting.is_written]
        if written:
            append_charges(self.session, charge_columns(written))
        note_unsettled(self.session, self.postings)

    def aim(self, book: CounterBook) -> None:
        """Ask the book for the counters these postings move."""
        for posting in self.postings:
            posting.keys = book.keys_of(
                posting.placement,
                posting.occurred_at,
                posting.operation_ref,
                # What is taken back counted as the usage that had been charged.
                posting.reverses_usage_id or posting.usage_id,
            )

    def write_rollups(self) -> None:
        """Add every posting to its quarter-hour and its UTC day."""
        sums = rollup_sums(posting for posting in self.postings if posting.is_written)
        add_rollup_sums(self.session, sums)

    def _candidates(self, works: Sequence[RecordUsage]) -> list[Candidate]:
        candidates = []
        for number, work in enumerate(works):
            for index, item in enumerate(work.items):
                if isinstance(item, Rejection):
                    self.tallies[number].rejected.append(item)
                    continue
                placement = self.memory.place(
                    call_of(item), item.tags, work.caller, self.rules, item.occurred_at
                )
                refusal = self.memory.refusal(placement, item.tags, work.caller)
                if refusal is not None and not item.is_void:
                    rejection = Rejection(index, item.event_ref, "tag_required", refusal)
                    self.tallies[number].rejected.append(rejection)
                    continue
                kept_tags = self.memory.kept_tags(item.tags, work.caller)
                keys = self._keys(item)
                candidate = Candidate(number, index, item, placement, kept_tags, keys)
                candidate.hold_id = item.hold_id
                candidates.append(candidate)
        return candidates

    def _keys(self, event: UsageEvent) -> tuple[bytes, bytes | None, bytes | None]:
        """Give the keys of an event: its own, and those its call is known by.

        What a gateway answered from its own cache carries the id of the response it repeats, so
        that says nothing of the call.
        """
        own = event_key(event.source, event.event_ref, event.revision)
        response_ref, span_ref = event.response_ref, event.span_ref
        if (response_ref is None and span_ref is None) or event.is_void:
            return own, None, None
        by_response = by_span = None
        if response_ref and not event.cache_hit:
            provider = self._provider(event.provider)
            if has_lasting_ids(provider):
                by_response = response_key(provider, response_ref)
        if span_ref and event.trace_ref:
            by_span = span_key(event.trace_ref, span_ref)
        return own, by_response, by_span

    def _provider(self, word: str) -> str:
        """Give the one name of a provider that witnesses may spell in several ways."""
        provider = self.providers.get(word)
        if provider is None:
            canonical = self.rules.price_list.canonical_provider(word)
            provider = self.providers[word] = canonical or word.strip().lower()
        return provider

    def _admit_all(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Give the candidates that are new, each revision after the one that it follows."""
        ids = next_usage_ids(self.session, len(candidates))
        by_revision: dict[int, list[Candidate]] = defaultdict(list)
        for item, usage_id in zip(candidates, ids, strict=True):
            item.usage_id = usage_id
            by_revision[item.event.revision].append(item)
        if by_revision.keys() == {0}:
            return self._admit(candidates)
        admitted: list[Candidate] = []
        for revision in sorted(by_revision):
            following = by_revision[revision]
            if revision > 0:
                following = self._following(revision, following)
            admitted += self._admit(following)
        return admitted

    def _following(self, revision: int, candidates: Sequence[Candidate]) -> list[Candidate]:
        earlier = find_keys(self.session, {_key(item, revision - 1) for item in candidates})
        following = []
        for item in candidates:
            known = earlier.get(_key(item, revision - 1))
            if known is not None:
                self.kin[item.usage_id] = Kin({known})
                following.append(item)
            else:
                last = self._last_revision(item)
                stands = f"revision {last}" if last >= 0 else "nothing"
                self._reject(item, f"revision {revision} cannot follow {stands}")
        return following

    def _last_revision(self, item: Candidate) -> int:
        """Give the highest revision that is recorded, -1 for none."""
        revision = 0
        while find_keys(self.session, {_key(item, revision)}):
            revision += 1
        return revision - 1

    def _admit(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Claim the keys of events and calls, and give the candidates that were new."""
        claims: dict[bytes, int] = {}
        wanted = 0
        for item in candidates:
            for key in item.keys:
                if key is not None:
                    claims.setdefault(key, item.usage_id)
                    wanted += 1
        holders = claim_keys(self.session, claims)
        if not holders and len(claims) == wanted:
            return list(candidates)
        holders = holders or claims
        admitted = self._sort_out(candidates, holders)
        if len(admitted) < len(candidates):
            holders = self._pass_keys_on(candidates, admitted, holders)
        self._note_kin(admitted, holders)
        return admitted

    def _sort_out(
        self, candidates: Sequence[Candidate], holders: Mapping[bytes, int]
    ) -> list[Candidate]:
        """Tell new events, duplicates and conflicts apart by who holds their keys."""
        self.hashes.update((item.usage_id, item.event.content_hash) for item in candidates)
        by_event = {holders[item.keys[0]] for item in candidates}
        strangers = by_event - self.hashes.keys()
        self.hashes.update(find_content_hashes(self.session, strangers))
        admitted = []
        for item in candidates:
            holder = holders[item.keys[0]]
            if holder == item.usage_id:
                admitted.append(item)
                continue
            self.kin.pop(item.usage_id, None)
            if self.hashes[holder] == item.event.content_hash:
                self.tallies[item.work].duplicates += 1
            else:
                self._reject(
                    item,
                    f"event_id {item.event.event_ref!r} of source {item.event.source!r} is "
                    f"recorded with other content; revision {self._last_revision(item) + 1} would "
                    "replace it",
                )
        return admitted

    def _pass_keys_on(
        self,
        candidates: Iterable[Candidate],
        admitted: Sequence[Candidate],
        holders: dict[bytes, int],
    ) -> dict[bytes, int]:
        """Free the keys of calls that refused candidates have claimed, for those who want them."""
        refused = {item.usage_id for item in candidates} - {item.usage_id for item in admitted}
        stray = {key for key, holder in holders.items() if holder in refused}
        if not stray:
            return holders
        release_keys(self.session, stray)
        claims: dict[bytes, int] = {}
        for item in admitted:
            for key in item.keys:
                if key in stray:
                    claims.setdefault(key, item.usage_id)
        return {**holders, **claims, **claim_keys(self.session, claims)}

    def _note_kin(self, admitted: Iterable[Candidate], holders: Mapping[bytes, int]) -> None:
        for item in admitted:
            _, by_response, by_span = item.keys
            if by_response is not None and holders[by_response] != item.usage_id:
                self.kin.setdefault(item.usage_id, Kin()).sure.add(holders[by_response])
            if by_span is not None and holders[by_span] != item.usage_id:
                self.kin.setdefault(item.usage_id, Kin()).by_span.add(holders[by_span])

    def _reject(self, item: Candidate, detail: str) -> None:
        rejection = Rejection(item.index, item.event.event_ref, "conflict", detail)
        self.tallies[item.work].rejected.append(rejection)

    def _decide(
        self,
        admitted: Sequence[Candidate],
        retags: Sequence[RetagUsage],
        closed_before: int | None,
    ) -> list[Candidate]:
        """Give whom to charge, having joined witnesses and moved what belongs elsewhere."""
        desk = CallDesk(self.session, self.rules, self.memory, closed_before)
        targets = {change.target for work in retags for change in work.changes}
        found = find_targets(self.session, targets) if targets else {}
        learned = [
            (found[change.target], change.tags)
            for work in retags
            for change in work.changes
            if change.target in found
        ]
        desk.decide(admitted, self.kin, learned)
        self.postings += desk.postings
        for work in retags:
            moved = [desk.has_moved(found.get(change.target, 0)) for change in work.changes]
            counts = (moved.count(True), moved.count(False), moved.count(None))
            self.retag_answers.append(RetagAnswer(*counts))
        return [item for item in admitted if item.usage_id not in desk.decided] + desk.due

    def _charge(self, due: Sequence[Candidate], closed_before: int | None) -> None:
        """Rate what is due and note the postings."""
        charges = [
            _rate_event(item.event, (item.counted_at or item.placement).dimensions, self.rules)
            for item in due
        ]
        rows = {}
        for charge in charges:
            digest = charge.price_digest
            if charge.match is not None and digest is not None and digest not in rows:
                rows[digest] = price_row_of(charge.match, self.now, commitment=charge.commitment)
        self.memory.store_price_rows(self.session, rows)
        price_list_id = self.memory.price_list_id(
            self.session, self.rules.price_list.version, now=self.now
        )
        for item, charge in zip(due, charges, strict=True):
            posting = self._posting_of(item, charge, closed_before)
            posting.price_list_id = price_list_id
            self.postings.append(posting)
            if charge.basis is Basis.UNPRICED and item.work != NOBODYS_WORK:
                self.tallies[item.work].unpriced += 1

    def _posting_of(self, item: Candidate, charge: Charge, closed_before: int | None) -> Posting:
        event, counted_at = item.event, item.counted_at
        digest = charge.price_digest
        period, is_late = period_of(event.occurred_at, closed_before)
        if is_late:
            charge = charge._replace(flags=(*charge.flags, LATE))
        return Posting(
            usage_id=item.usage_id,
            sequence=item.sequence,
            sign=1,
            placement=counted_at or item.placement,
            occurred_at=event.occurred_at,
            quantities=event.quantities or {},
            charge=charge,
            price_row_id=self.memory.price_row_ids[digest] if digest else 0,
            hold_id=item.hold_id,
            accounting_period=period,
            charge_set_id=counted_at.dimension_set_id if counted_at is not None else None,
            call_id=item.call_id or item.usage_id,
            operation_ref=event.operation_ref,
        )


def _key(item: Candidate, revision: int) -> bytes:
    return event_key(item.event.source, item.event.event_ref, revision)


def call_of(event: UsageEvent) -> CallFacts:
    """Give what an event says of its call."""
    return CallFacts(
        event.provider,
        event.model,
        event.operation,
        event.service_tier or STANDARD_TIER,
        event.region,
        event.account,
        event.status,
        event.attempt > 1,
    )


def used_nothing(event: UsageEvent) -> bool:
    """Tell whether a call failed and is known to have used nothing of any unit."""
    quantities = event.quantities
    if not quantities or event.status == OK_STATUS:
        return False
    return not any(quantities.values())


def _rate_event(event: UsageEvent, dimensions: DimensionSet, rules: Rulebook) -> Charge:
    """Give the charge of an event that counts under these dimensions.

    Rated, or nothing at all when the gateway answered from its own cache, which uses no capacity
    that was committed to either, and when a call failed that is known to have used nothing: then no
    price need be known.
    """
    commitment = rules.price_list.find_commitment(dimensions, event.occurred_at)
    facts = RatingFacts(
        event.provider,
        event.model,
        event.occurred_at,
        event.service_tier,
        event.region,
        event.account,
        None if commitment is None or event.cache_hit else commitment.id,
    )
    charge = rate(event.quantities, facts, rules.price_list)
    if event.cache_hit:
        flags = (*charge.flags, GATEWAY_CACHE_FLAG)
        return Charge(Basis.RATED, charge.match, 0, 0, 0, flags)
    if used_nothing(event):
        flags = charge.flags if charge.basis is Basis.RATED else ()
        return Charge(Basis.RATED, charge.match, 0, 0, 0, (*flags, NOTHING_USED_FLAG))
    if event.basis is Basis.ESTIMATED:
        basis = Basis.ESTIMATED if charge.basis is Basis.RATED else charge.basis
        flags = (*charge.flags, INPUT_ONLY) if INPUT_ONLY in event.flags else charge.flags
        return charge._replace(basis=basis, flags=flags)
    return charge

"""Recording usage: count each event once, rate it, and let rollups and counters follow.

The steps of one transaction, in the order in which rows are locked: ``append`` (identity decides
what is new, which is then rated), ``aim`` (which counters will move and which holds are named) and,
once the counters have moved, ``write_rollups``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import CallFacts, DimensionSet
from tokenbudget.domain.budgets import BudgetMatch, Unit
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.rating import Charge, RatingFacts, rate
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.domain.usage import COMMON_UNITS, Basis, UsageEvent
from tokenbudget.formats.events import ParsedItem, Rejection
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.placement import Caller, Memory, Placement
from tokenbudget.services.price_rows import price_row_of
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.ledger import (
    RecordedUsage,
    add_rollups,
    append_charges,
    append_usage,
    find_recorded,
    list_charged_usage,
    next_usage_ids,
)
from tokenbudget.store.tables import ChargeRow, UsageRow

MICROS_PER_SECOND: Final = 1_000_000
STANDARD_TIER: Final = "standard"
GATEWAY_CACHE_FLAG: Final = "gateway_cache_hit"


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
class Candidate:
    """One event on its way into the ledger.

    Its ``usage_id`` is kept only when identity admits it.
    """

    work: int
    index: int
    event: UsageEvent
    placement: Placement
    kept_tags: Mapping[str, str]
    usage_id: int = 0


@dataclass(slots=True)
class Posting:
    """One signed movement of the ledger.

    The usage of an event, or the taking back of an earlier revision.
    """

    usage_id: int
    sequence: int
    sign: int
    placement: Placement
    occurred_at: datetime
    quantities: Mapping[str, int]
    charge: Charge
    price_row_id: int
    hold_id: str | None
    reverses_usage_id: int | None = None
    keys: tuple[tuple[BudgetMatch, CounterKey | None], ...] = ()

    def quantity(self, unit: Unit) -> int:
        """Give the signed movement in a budget's unit; unpriced usage moves no money."""
        if unit is Unit.MONEY:
            return self.sign * (self.charge.effective_nanos or 0)
        if unit is Unit.TOKENS:
            tokens = self.quantities.get("input_tokens", 0) + self.quantities.get(
                "output_tokens", 0
            )
            return self.sign * tokens
        return self.sign * self.quantities.get("requests", 1)


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
    """Records the usage of one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime
    tallies: list[Tally] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)

    def append(self, works: Sequence[RecordUsage]) -> None:
        """Add the usage and charges that are new; duplicates, conflicts and rejections end here."""
        self.tallies = [Tally() for _ in works]
        candidates = self._candidates(works)
        if not candidates:
            return
        self.memory.store_sources(self.session, {item.event.source for item in candidates})
        self.memory.store_placements(self.session, (item.placement for item in candidates))
        by_revision: dict[int, list[Candidate]] = defaultdict(list)
        for item in candidates:
            by_revision[item.event.revision].append(item)
        for revision in sorted(by_revision):
            self._append_revision(revision, by_revision[revision])

    def aim(self, book: CounterBook) -> None:
        """Ask the book for the counters these postings move."""
        for posting in self.postings:
            posting.keys = book.keys_of(posting.placement, posting.occurred_at)

    def write_rollups(self) -> None:
        """Add every posting to its quarter-hour and its UTC day."""
        quarters: dict[tuple[int, int, int], list[int]] = {}
        for posting in self.postings:
            second = to_micros(posting.occurred_at) // MICROS_PER_SECOND
            key = (
                second - second % QUARTER_HOUR_SECONDS,
                posting.placement.dimension_set_id,
                0 if posting.charge.effective_nanos is None else posting.price_row_id,
            )
            amounts = _rollup_amounts(posting)
            present = quarters.get(key)
            quarters[key] = amounts if present is None else _add(present, amounts)
        days: dict[tuple[int, int, int], list[int]] = {}
        for (second, dimension_set_id, price_row_id), amounts in quarters.items():
            key = (second - second % DAY_SECONDS, dimension_set_id, price_row_id)
            present = days.get(key)
            days[key] = amounts if present is None else _add(present, amounts)
        rows = [
            _rollup_row(grain, key, amounts)
            for grain, sums in ((QUARTER_HOUR_SECONDS, quarters), (DAY_SECONDS, days))
            for key, amounts in sums.items()
        ]
        add_rollups(self.session, rows)

    def _candidates(self, works: Sequence[RecordUsage]) -> list[Candidate]:
        candidates = []
        for number, work in enumerate(works):
            for index, item in enumerate(work.items):
                if isinstance(item, Rejection):
                    self.tallies[number].rejected.append(item)
                    continue
                placement = self.memory.place(call_of(item), item.tags, work.caller, self.rules)
                kept_tags = self.memory.kept_tags(item.tags, work.caller)
                candidates.append(Candidate(number, index, item, placement, kept_tags))
        return candidates

    def _append_revision(self, revision: int, candidates: list[Candidate]) -> None:
        """Add the candidates of one revision number.

        Those that follow what is recorded and are new.
        """
        if revision > 0:
            candidates = self._following(revision, candidates)
        admitted = self._admit(candidates)
        self._charge(admitted)
        if revision > 0:
            self._take_back(admitted)

    def _following(self, revision: int, candidates: Sequence[Candidate]) -> list[Candidate]:
        recorded = self._recorded(candidates)
        following = []
        for item in candidates:
            known = max(recorded[_identity(item)], default=-1)
            if revision <= known + 1:
                following.append(item)
            else:
                stands = f"revision {known}" if known >= 0 else "nothing"
                self._reject(item, f"revision {revision} cannot follow {stands}")
        return following

    def _admit(self, candidates: list[Candidate]) -> list[Candidate]:
        """Insert the usage rows and give the candidates whose rows were new."""
        ids = next_usage_ids(self.session, len(candidates))
        for item, usage_id in zip(candidates, ids, strict=True):
            item.usage_id = usage_id
        added = append_usage(self.session, [self._usage_row(item) for item in candidates])
        admitted = candidates if added == len(candidates) else self._sort_out(candidates)
        for item in admitted:
            self.tallies[item.work].accepted += 1
        return admitted

    def _sort_out(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Tell new events, duplicates and conflicts apart by what now stands in the ledger."""
        recorded = self._recorded(candidates)
        admitted = []
        for item in candidates:
            revisions = recorded[_identity(item)]
            stands = revisions[item.event.revision]
            if stands.usage_id == item.usage_id:
                admitted.append(item)
            elif stands.content_hash == item.event.content_hash:
                self.tallies[item.work].duplicates += 1
            else:
                self._reject(
                    item,
                    f"event_id {item.event.event_ref!r} of source {item.event.source!r} is "
                    f"recorded with other content; revision {max(revisions) + 1} would replace it",
                )
        return admitted

    def _recorded(
        self, candidates: Sequence[Candidate]
    ) -> dict[tuple[str, str], dict[int, RecordedUsage]]:
        refs_by_source: dict[str, list[str]] = defaultdict(list)
        for item in candidates:
            refs_by_source[item.event.source].append(item.event.event_ref)
        recorded: dict[tuple[str, str], dict[int, RecordedUsage]] = defaultdict(dict)
        for source, refs in refs_by_source.items():
            source_id = self.memory.source_ids[source]
            for row in find_recorded(self.session, source_id, refs):
                recorded[source, row.event_ref][row.revision] = row
        return recorded

    def _reject(self, item: Candidate, detail: str) -> None:
        rejection = Rejection(item.index, item.event.event_ref, "conflict", detail)
        self.tallies[item.work].rejected.append(rejection)

    def _charge(self, admitted: Sequence[Candidate]) -> None:
        """Rate what was admitted, store the charges and note the postings."""
        charges = [
            _rate_event(item.event, item.placement.dimensions, self.rules) for item in admitted
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
        charge_rows = []
        for item, charge in zip(admitted, charges, strict=True):
            posting = self._posting_of(item, charge)
            self.postings.append(posting)
            charge_rows.append(_charge_row(posting, price_list_id))
            if charge.basis is Basis.UNPRICED:
                self.tallies[item.work].unpriced += 1
        append_charges(self.session, charge_rows)

    def _posting_of(self, item: Candidate, charge: Charge) -> Posting:
        event = item.event
        digest = charge.price_digest
        return Posting(
            usage_id=item.usage_id,
            sequence=0,
            sign=1,
            placement=item.placement,
            occurred_at=event.occurred_at,
            quantities=event.quantities or {},
            charge=charge,
            price_row_id=self.memory.price_row_ids[digest] if digest else 0,
            hold_id=event.hold_id,
        )

    def _take_back(self, admitted: Sequence[Candidate]) -> None:
        """Post the negative of what each revised event was charged before."""
        recorded = self._recorded(admitted)
        new_ids = {
            recorded[_identity(item)][item.event.revision - 1].usage_id: item.usage_id
            for item in admitted
        }
        charged = list_charged_usage(self.session, sorted(new_ids))
        self.memory.recall(
            self.session, {usage.dimension_set_id for usage, _ in charged}, self.rules
        )
        rows = []
        for usage, charge in charged:
            placement = self.memory.placements_by_id[usage.dimension_set_id]
            posting = _reversal_of(usage, charge, placement, new_ids[charge.usage_id])
            self.postings.append(posting)
            rows.append(_charge_row(posting, charge.price_list_id))
        append_charges(self.session, rows)

    def _usage_row(self, item: Candidate) -> dict[str, Any]:
        event = item.event
        quantities = event.quantities or {}
        others = {unit: count for unit, count in quantities.items() if unit not in COMMON_UNITS}
        return {
            "id": item.usage_id,
            "source_id": self.memory.source_ids[event.source],
            "event_ref": event.event_ref,
            "revision": event.revision,
            "content_hash": event.content_hash,
            "occurred_at": event.occurred_at,
            "recorded_at": self.now,
            "dimension_set_id": item.placement.dimension_set_id,
            **{unit: quantities.get(unit) for unit in COMMON_UNITS},
            "other_units": others or None,
            "attempt": event.attempt,
            "operation_ref": event.operation_ref,
            "trace_ref": event.trace_ref,
            "response_ref": event.response_ref,
            "request_model": event.request_model,
            "latency_ms": event.latency_ms,
            "time_to_first_token_ms": event.time_to_first_token_ms,
            "cache_hit": event.cache_hit or None,
            "hold_id": event.hold_id,
            "reported_nanos": event.reported_nanos,
            "extra_tags": item.kept_tags or None,
            "flags": ",".join(event.flags) or None,
        }


def _identity(item: Candidate) -> tuple[str, str]:
    return item.event.source, item.event.event_ref


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


def _rate_event(event: UsageEvent, dimensions: DimensionSet, rules: Rulebook) -> Charge:
    """Give the charge of an event that counts under these dimensions.

    Rated, or nothing at all when the gateway answered from its own cache, which uses no capacity
    that was committed to either.
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
    if event.basis is Basis.ESTIMATED and charge.basis is Basis.RATED:
        return replace(charge, basis=Basis.ESTIMATED)
    return charge


def _reversal_of(
    usage: UsageRow, charge: ChargeRow, placement: Placement, usage_id: int
) -> Posting:
    quantities = {unit: getattr(usage, unit) or 0 for unit in COMMON_UNITS}
    quantities.update(usage.other_units or {})
    stood = Charge(
        Basis(charge.basis),
        None,
        charge.list_nanos,
        charge.contracted_nanos,
        charge.effective_nanos,
        tuple((charge.flags or "").split(",")) if charge.flags else (),
    )
    return Posting(
        usage_id=usage_id,
        sequence=1,
        sign=-1,
        placement=placement,
        occurred_at=usage.occurred_at,
        quantities=quantities,
        charge=stood,
        price_row_id=charge.price_row_id or 0,
        hold_id=usage.hold_id,
        reverses_usage_id=charge.usage_id,
    )


def _charge_row(posting: Posting, price_list_id: int | None) -> dict[str, Any]:
    charge = posting.charge
    occurred_at = posting.occurred_at
    return {
        "usage_id": posting.usage_id,
        "sequence": posting.sequence,
        "basis": charge.basis.value,
        "price_row_id": posting.price_row_id or None,
        "price_list_id": price_list_id,
        "list_nanos": _signed(posting.sign, charge.list_nanos),
        "contracted_nanos": _signed(posting.sign, charge.contracted_nanos),
        "effective_nanos": _signed(posting.sign, charge.effective_nanos),
        "accounting_period": occurred_at.year * 100 + occurred_at.month,
        "reverses_usage_id": posting.reverses_usage_id,
        "flags": ",".join(charge.flags) or None,
    }


def _signed(sign: int, nanos: int | None) -> int | None:
    return None if nanos is None else sign * nanos


def _rollup_amounts(posting: Posting) -> list[int]:
    """Give the posting's amounts in the order of ``MEASURES``."""
    get = posting.quantities.get
    charge = posting.charge
    requests = get("requests", 1)
    amounts = [
        charge.list_nanos or 0,
        charge.contracted_nanos or 0,
        charge.effective_nanos or 0,
        requests,
        requests if charge.effective_nanos is None else 0,
        get("input_tokens", 0),
        get("cached_input_tokens", 0),
        get("cache_write_tokens", 0)
        + get("cache_write_5m_tokens", 0)
        + get("cache_write_1h_tokens", 0),
        get("output_tokens", 0),
        get("reasoning_tokens", 0),
    ]
    return amounts if posting.sign > 0 else [-amount for amount in amounts]


def _add(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(left, right, strict=True)]


def _rollup_row(grain: int, key: tuple[int, int, int], amounts: Sequence[int]) -> dict[str, Any]:
    second, dimension_set_id, price_row_id = key
    return {
        "grain_seconds": grain,
        "starts_at": from_micros(second * MICROS_PER_SECOND),
        "dimension_set_id": dimension_set_id,
        "price_row_id": price_row_id,
        **dict(zip(MEASURES, amounts, strict=True)),
    }

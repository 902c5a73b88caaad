"""Recording outcomes: count each once, place it, and let its rollups follow.

An outcome counts where its tags say or, without any, where its operation counts. An operation that
nobody has told of yet, or whose team is unknown, may still be told: until then the outcome counts
as unallocated and waits, and ``join_outcomes`` moves it. So totals are always whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import CallFacts
from tokenbudget.domain.event_queries import EventRecord, dimensions_told, knows_team
from tokenbudget.domain.outcomes import Outcome
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.rollups import DAY_SECONDS, QUARTER_HOUR_SECONDS
from tokenbudget.formats.events import Rejection
from tokenbudget.formats.outcomes import ParsedOutcome
from tokenbudget.services.event_records import EventReader
from tokenbudget.services.placement import Caller, Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.outcome_tables import OutcomeRow
from tokenbudget.store.outcomes import (
    add_outcome_rollups,
    append_outcomes,
    find_outcome_hashes,
    list_operations_usage,
    lock_waiting,
    place_outcomes,
    sum_all_outcome_rollups,
    sum_recorded_outcomes,
)

MICROS_PER_SECOND: Final = 1_000_000
WAITING: Final = timedelta(days=7)
"""How long an outcome waits for its operation."""

JOINED_AT_ONCE: Final = 1_000
MAX_ROUNDS: Final = 100
NONE: Final = (0, 0)
NO_CALL: Final = CallFacts(provider="", model="")
"""The call facts of an outcome that is given by tags: it belongs to no one call."""


@dataclass(frozen=True, slots=True)
class RecordOutcomes:
    """Work for the writer: the parsed outcomes of one request."""

    items: Sequence[ParsedOutcome]
    caller: Caller

    @property
    def weight(self) -> int:
        """Give how many items of the queue's bound this takes."""
        return max(1, len(self.items))


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """What became of each outcome; ``waiting`` of the accepted wait for their operation."""

    accepted: int
    duplicates: int
    waiting: int
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class JoinOutcomes:
    """Work for the writer: place outcomes that wait, from the first one after this id on."""

    after_id: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class OutcomeJoin:
    """How many outcomes were placed; ``last_id`` is None when there are no more to look at."""

    placed: int
    last_id: int | None


@dataclass(slots=True)
class _Tally:
    accepted: int = 0
    duplicates: int = 0
    waiting: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    def answer(self) -> OutcomeAnswer:
        rejected = tuple(sorted(self.rejected, key=lambda each: each.index))
        return OutcomeAnswer(self.accepted, self.duplicates, self.waiting, rejected)


@dataclass(slots=True)
class _Candidate:
    tally: _Tally
    index: int
    outcome: Outcome
    caller: Caller
    placement: Placement


@dataclass(slots=True)
class OutcomeDesk:
    """Records outcomes in one transaction, after the usage of the same transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime
    answers: list[OutcomeAnswer] = field(default_factory=list)
    joins: list[OutcomeJoin] = field(default_factory=list)
    moves: dict[tuple[int, str, int], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )

    def record(self, works: Sequence[RecordOutcomes]) -> None:
        """Add the outcomes that are new; duplicates, conflicts and rejections end here."""
        tallies = [_Tally() for _ in works]
        candidates: list[_Candidate] = []
        for tally, work in zip(tallies, works, strict=True):
            for index, item in enumerate(work.items):
                if isinstance(item, Rejection):
                    tally.rejected.append(item)
                    continue
                placement = self._place(item, work.caller)
                candidates.append(_Candidate(tally, index, item, work.caller, placement))
        if candidates:
            self._append(candidates)
        self.answers = [tally.answer() for tally in tallies]

    def join(self, works: Sequence[JoinOutcomes]) -> None:
        """Place outcomes whose operation has been told of meanwhile; give up on old ones."""
        for work in works:
            self.joins.append(self._join(work.after_id))

    def write(self) -> None:
        """Add what was recorded and moved to the rollups of both grains."""
        sums: dict[tuple[int, int, str, int], list[int]] = defaultdict(lambda: [0, 0])
        for (second, name, set_id), amounts in self.moves.items():
            for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS):
                sum_of = sums[grain, second - second % grain, name, set_id]
                sum_of[0] += amounts[0]
                sum_of[1] += amounts[1]
        add_outcome_rollups(self.session, [_rollup_row(*each) for each in sums.items()])

    def _place(self, outcome: Outcome, caller: Caller) -> Placement:
        """Give where an outcome counts as far as its tags and its key say."""
        return self.memory.place(NO_CALL, outcome.tags, caller, self.rules, outcome.occurred_at)

    def _append(self, candidates: list[_Candidate]) -> None:
        self.memory.store_sources(self.session, {item.outcome.source for item in candidates})
        admitted = self._admit(candidates)
        self.memory.store_placements(self.session, (item.placement for item in admitted))
        joined = [item for item in admitted if not item.outcome.tags]
        told = self._told({item.outcome.operation_ref or "" for item in joined})
        rows = []
        for item in admitted:
            set_id, is_waiting = item.placement.dimension_set_id, False
            if not item.outcome.tags:
                record = told.get(item.outcome.operation_ref or "")
                set_id = set_id if record is None else record.dimension_set_id
                is_waiting = record is None or not knows_team(record)
            rows.append(self._row(item.outcome, set_id, is_waiting))
            self._count(item.outcome, set_id)
            item.tally.accepted += 1
            item.tally.waiting += is_waiting
        append_outcomes(self.session, rows)

    def _admit(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Tell new outcomes, duplicates and conflicts apart."""
        known = find_outcome_hashes(self.session, {self._identity(each) for each in candidates})
        admitted = []
        for item in candidates:
            identity, content_hash = self._identity(item), item.outcome.content_hash
            if identity not in known:
                known[identity] = content_hash
                admitted.append(item)
            elif known[identity] == content_hash:
                item.tally.duplicates += 1
            else:
                detail = (
                    f"event_id {item.outcome.event_ref!r} of source {item.outcome.source!r} is "
                    "recorded with other content"
                )
                rejection = Rejection(item.index, item.outcome.event_ref, "conflict", detail)
                item.tally.rejected.append(rejection)
        return admitted

    def _identity(self, item: _Candidate) -> tuple[int, str]:
        return self.memory.source_ids[item.outcome.source], item.outcome.event_ref

    def _told(self, operation_refs: set[str]) -> dict[str, EventRecord]:
        """Give the usage whose dimensions each operation's outcomes share."""
        records: dict[str, list[EventRecord]] = {}
        usages = list_operations_usage(self.session, operation_refs) if operation_refs else []
        for record in EventReader(self.session).read(usages):
            records.setdefault(record.operation_ref or "", []).append(record)
        told = {name: dimensions_told(each) for name, each in records.items()}
        return {name: record for name, record in told.items() if record is not None}

    def _join(self, after_id: int) -> OutcomeJoin:
        waiting = lock_waiting(self.session, after_id=after_id, limit=JOINED_AT_ONCE)
        told = self._told({row.operation_ref or "" for row in waiting})
        places: dict[int, int] = {}
        for row in waiting:
            record = told.get(row.operation_ref or "")
            if record is not None and knows_team(record):
                places[row.id or 0] = record.dimension_set_id
            elif row.recorded_at + WAITING < self.now:
                places[row.id or 0] = row.dimension_set_id
        for row in waiting:
            self._move(row, places.get(row.id or 0, row.dimension_set_id))
        place_outcomes(self.session, places)
        is_full = len(waiting) == JOINED_AT_ONCE
        return OutcomeJoin(len(places), waiting[-1].id if is_full else None)

    def _move(self, row: OutcomeRow, set_id: int) -> None:
        if set_id == row.dimension_set_id:
            return
        second = to_micros(row.occurred_at) // MICROS_PER_SECOND
        for sign, each in ((-1, row.dimension_set_id), (1, set_id)):
            amounts = self.moves[second - second % QUARTER_HOUR_SECONDS, row.name, each]
            amounts[0] += sign
            amounts[1] += sign * row.value_nanos

    def _count(self, outcome: Outcome, set_id: int) -> None:
        second = to_micros(outcome.occurred_at) // MICROS_PER_SECOND
        amounts = self.moves[second - second % QUARTER_HOUR_SECONDS, outcome.name, set_id]
        amounts[0] += 1
        amounts[1] += outcome.value_nanos

    def _row(self, outcome: Outcome, set_id: int, is_waiting: bool) -> dict[str, Any]:
        return {
            "source_id": self.memory.source_ids[outcome.source],
            "event_ref": outcome.event_ref,
            "content_hash": outcome.content_hash,
            "name": outcome.name,
            "value_nanos": outcome.value_nanos,
            "occurred_at": outcome.occurred_at,
            "recorded_at": self.now,
            "dimension_set_id": set_id,
            "operation_ref": outcome.operation_ref,
            "is_waiting": is_waiting,
        }


def join_outcomes(apply: Callable[[Sequence[JoinOutcomes]], Iterable[object]]) -> int:
    """Give how many waiting outcomes were placed, a bounded number in each transaction.

    ``apply`` is the ledger's.
    """
    placed, after_id = 0, 0
    for _ in range(MAX_ROUNDS):
        [join] = apply([JoinOutcomes(after_id)])
        if not isinstance(join, OutcomeJoin):
            raise TypeError(f"joining outcomes was answered with {type(join).__name__}")
        placed += join.placed
        if join.last_id is None:
            break
        after_id = join.last_id
    return placed


def find_broken_rollups(session: Session) -> list[str]:
    """Give every name and dimension set whose rollups of either grain differ from its outcomes.

    This scans the outcomes.
    """
    recorded = sum_recorded_outcomes(session)
    rolled = {
        grain: sum_all_outcome_rollups(session, grain)
        for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS)
    }
    return [
        f"{key} at {grain} s: outcomes {recorded.get(key, NONE)}, rollups {sums.get(key, NONE)}"
        for grain, sums in rolled.items()
        for key in sorted(recorded.keys() | sums.keys())
        if recorded.get(key, NONE) != sums.get(key, NONE)
    ]


def _rollup_row(key: tuple[int, int, str, int], amounts: Sequence[int]) -> dict[str, Any]:
    grain, second, name, set_id = key
    return {
        "grain_seconds": grain,
        "name": name,
        "starts_at": from_micros(second * MICROS_PER_SECOND),
        "dimension_set_id": set_id,
        "outcomes": amounts[0],
        "value_nanos": amounts[1],
    }

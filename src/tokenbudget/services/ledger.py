"""One transaction for many callers.

Everything that waits is applied, committed and only then answered.

The order of the steps is the order in which rows are locked, the same in every worker: dimension
sets, usage, charges, holds, counters (in order of id), rollups, alerts. Decisions are made in
memory while the counters are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from tokenbudget.domain.errors import TokenbudgetError, Unavailable
from tokenbudget.services.alerts import raise_alerts
from tokenbudget.services.commitments import DaySharing, ShareDay, ShareDesk
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.holds import (
    ExtendHold,
    HoldDesk,
    HoldView,
    ReleaseHold,
    named_holds,
)
from tokenbudget.services.outcomes import (
    JoinOutcomes,
    OutcomeAnswer,
    OutcomeDesk,
    OutcomeJoin,
    RecordOutcomes,
)
from tokenbudget.services.placement import Memory
from tokenbudget.services.quota import CheckDesk, CheckQuota, Terms
from tokenbudget.services.retagging import RetagAnswer, RetagUsage
from tokenbudget.services.rulebook import Rulebook, RulebookShelf
from tokenbudget.services.traces import RecordSpans, SpanDesk
from tokenbudget.services.usage import RecordAnswer, Recorder, RecordUsage
from tokenbudget.store.db import Database
from tokenbudget.store.witnesses import is_deadlock

OutcomeWork: TypeAlias = RecordOutcomes | JoinOutcomes
HoldWork: TypeAlias = CheckQuota | ReleaseHold | ExtendHold
Work: TypeAlias = RecordUsage | RecordSpans | RetagUsage | HoldWork | ShareDay | OutcomeWork
Answer: TypeAlias = (
    RecordAnswer
    | RetagAnswer
    | dict[str, Any]
    | HoldView
    | DaySharing
    | OutcomeAnswer
    | OutcomeJoin
    | TokenbudgetError
)


@dataclass(slots=True)
class Ledger:
    """Applies batches of work to one database; used by one thread at a time."""

    database: Database
    shelf: RulebookShelf
    memory: Memory
    terms: Terms
    clock: Callable[[], datetime]

    def apply(self, works: Sequence[Work]) -> list[Answer]:
        """Give the answer of every work item, all committed together.

        An error in the list fails only its own item.

        Raises Unavailable when the database cannot answer; then nothing of the batch was done.
        """
        try:
            return self._apply_once(works)
        except IntegrityError:
            # Another worker has just answered a check of the same key, or recorded the same
            # outcome; that is found now.
            return self._apply_once(works)
        except Unavailable as error:
            if not is_deadlock(error):
                raise
            # Another worker wanted the same new rows in another order; it has them by now.
            return self._apply_once(works)

    def _apply_once(self, works: Sequence[Work]) -> list[Answer]:
        now = self.clock()
        is_committed = False
        try:
            with self.database.transaction() as session:
                rules = self.shelf.consult(session)
                self.memory.follow(rules)
                answers = Batch(self, session, rules, now).apply(works)
            is_committed = True
        finally:
            if not is_committed:
                self.memory.forget()
        return answers


class Batch:
    """The steps of one transaction."""

    def __init__(self, ledger: Ledger, session: Session, rules: Rulebook, now: datetime) -> None:
        self.session = session
        self.terms = ledger.terms
        self.now = now
        memory = ledger.memory
        self.book = CounterBook(
            session, rules.budgets, memory.counter_ids, now=now, frozen_ids=memory.frozen_ids
        )
        self.recorder = Recorder(session, rules, ledger.memory, now)
        self.hold_desk = HoldDesk(session, ledger.terms.holds, now)
        self.check_desk = CheckDesk(session, rules, ledger.memory, ledger.terms, now)
        self.span_desk = SpanDesk(session, now)
        self.share_desk = ShareDesk(session, rules, ledger.memory, now)
        self.outcome_desk = OutcomeDesk(session, rules, ledger.memory, now)

    def apply(self, works: Sequence[Work]) -> list[Answer]:
        """Record usage, end holds, then decide checks against what is left.

        Give the answers in order.
        """
        records = [work for work in works if isinstance(work, RecordUsage)]
        retags = [work for work in works if isinstance(work, RetagUsage)]
        checks = [work for work in works if isinstance(work, CheckQuota)]
        changes = [work for work in works if isinstance(work, ReleaseHold | ExtendHold)]
        self.span_desk.join([work for work in works if isinstance(work, RecordSpans)])
        self.recorder.append([*records, *self.span_desk.records], [*retags, *self.span_desk.retags])
        self.outcome_desk.record([work for work in works if isinstance(work, RecordOutcomes)])
        self.outcome_desk.join([work for work in works if isinstance(work, JoinOutcomes)])
        self.recorder.aim(self.book)
        days = [work for work in works if isinstance(work, ShareDay)]
        self.share_desk.prepare(days, self.book)
        pending = self.check_desk.prepare(checks, self.book)
        self.book.want_ids(self.hold_desk.lock(named_holds(self.recorder.postings, changes)))
        self.hold_desk.recall_pieces(self.recorder.postings)
        self.hold_desk.recall_extensions(changes)
        self.book.lock()
        for posting in self.recorder.postings:
            self.hold_desk.settle(posting, self.book)
        self.share_desk.settle(self.book)
        self.hold_desk.expire(self.book)
        changed = iter([self._change(work) for work in changes])
        self.book.carry_over()
        decided = iter([self.check_desk.decide(item, self.book) for item in pending])
        self._write()
        answers: dict[type[Work], Iterator[Answer]] = {
            RecordUsage: (tally.answer() for tally in self.recorder.tallies[: len(records)]),
            RecordSpans: (tally.answer() for tally in self.recorder.tallies[len(records) :]),
            RetagUsage: iter(self.recorder.retag_answers),
            CheckQuota: decided,
            ShareDay: iter(self.share_desk.answers),
            RecordOutcomes: iter(self.outcome_desk.answers),
            JoinOutcomes: iter(self.outcome_desk.joins),
        }
        return [next(answers.get(type(work), changed)) for work in works]

    def _change(self, work: ReleaseHold | ExtendHold) -> Answer:
        if isinstance(work, ReleaseHold):
            return self.hold_desk.release(work, self.book)
        return self.hold_desk.extend(work)

    def _write(self) -> None:
        crossings = self.book.write()
        self.check_desk.write()
        self.hold_desk.write()
        self.recorder.write_rollups()
        self.share_desk.write()
        self.outcome_desk.write()
        raise_alerts(self.session, crossings, currency=self.terms.currency, now=self.now)

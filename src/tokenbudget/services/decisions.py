"""The log of decisions: every denial within bounds, and a share of all else that was answered.

It owns which are kept and for how long. They are written with the batch that made them, so that
what was answered and what is kept never differ. A caller that is denied in a loop cannot fill the
disk: of each key, budget, reason and minute a worker keeps MOST_DENIALS_A_MINUTE denials and counts
the others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import TAG_DIMENSIONS, DimensionSet
from tokenbudget.domain.decisions import (
    DenialKind,
    DenialTally,
    KeptDecision,
    KeptDecisions,
    is_sampled,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.holds import Decision, Outcome
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.services.ids import new_id
from tokenbudget.store.db import Database
from tokenbudget.store.decisions import (
    DecisionConditions,
    add_decisions,
    add_omitted_denials,
    count_omitted,
    forget_decisions,
    forget_omitted,
    list_decisions,
)
from tokenbudget.store.tables import DecisionRow

USUAL_PAGE_DECISIONS: Final = 100
MOST_PAGE_DECISIONS: Final = 1_000
FORGOTTEN_AT_ONCE: Final = 10_000
MOST_ROUNDS: Final = 1_000
CURSOR_LENGTH: Final = 2
OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)


@dataclass(frozen=True, slots=True)
class LogTerms:
    """What a worker keeps: the percentage of checks that were not denied, and a tally of those."""

    sample_percent: int = 1
    tally: DenialTally = field(default_factory=DenialTally)


@dataclass(slots=True)
class DecisionLog:
    """The decisions of one transaction that are kept."""

    session: Session
    terms: LogTerms
    now: datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    omitted: Counter[DenialKind] = field(default_factory=Counter)

    def note(
        self, decision: Decision, dimensions: DimensionSet, *, key_id: str, is_dry_run: bool
    ) -> None:
        """Keep the decision if it is one of those that are kept."""
        decision_id = decision.hold_id or new_id(self.now)
        if decision.outcome is not Outcome.DENY:
            if not is_sampled(decision_id, self.terms.sample_percent):
                return
        elif not self._keeps(decision, key_id):
            return
        demand, binding = decision.demand, decision.binding
        self.rows.append(
            {
                "id": decision_id,
                "decided_at": self.now,
                "key_id": key_id,
                "decision": decision.outcome.value,
                "reasons": [notice.code for notice in decision.reasons],
                "tags": _tags_of(dimensions),
                "provider": decision.provider or dimensions.provider,
                "model": decision.model or dimensions.model,
                "requests": demand.requests,
                "estimate_nanos": demand.nanos,
                "budget_id": binding.budget.id if binding else None,
                "budget_version": binding.budget.version if binding else None,
                "hold_id": decision.hold_id,
                "is_dry_run": is_dry_run,
            }
        )

    def write(self) -> None:
        """Write what is kept, and how much is not."""
        add_decisions(self.session, self.rows)
        if self.omitted:
            minute = _minute_of(self.now)
            rows = [
                {"minute": minute, **kind._asdict(), "denials": count}
                for kind, count in self.omitted.items()
            ]
            add_omitted_denials(self.session, rows)

    def _keeps(self, decision: Decision, key_id: str) -> bool:
        budget_id = decision.binding.budget.id if decision.binding else ""
        reason = decision.reasons[0].code if decision.reasons else ""
        kind = DenialKind(key_id, budget_id, reason)
        is_kept = self.terms.tally.keeps(kind, _minute_of(self.now))
        if not is_kept:
            self.omitted[kind] += 1
        return is_kept


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Which decisions to list: all conditions hold; ``start`` included, ``end`` excluded."""

    outcome: str | None = None
    budget_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = USUAL_PAGE_DECISIONS
    cursor: str | None = None


def list_kept_decisions(database: Database, query: DecisionQuery) -> KeptDecisions:
    """Give one page of decisions; raises InvalidInput naming the field."""
    if query.outcome is not None and query.outcome not in OUTCOMES:
        raise InvalidInput(f"decision must be one of {', '.join(OUTCOMES)}", field="decision")
    if not 1 <= query.limit <= MOST_PAGE_DECISIONS:
        raise InvalidInput(f"limit must be 1 to {MOST_PAGE_DECISIONS}", field="limit")
    conditions = DecisionConditions(
        query.outcome, query.budget_id, query.start, query.end, _place_of(query.cursor)
    )
    with database.reading() as session:
        rows = list_decisions(session, conditions, limit=query.limit + 1)
        omitted = count_omitted(session, conditions)
        items = [_kept(row) for row in rows[: query.limit]]
        is_last = len(rows) <= query.limit
    cursor = None
    if not is_last:
        cursor = encode_cursor([to_micros(items[-1].decided_at), items[-1].decision_id])
    return KeptDecisions(items, cursor, omitted)


def forget_old_decisions(database: Database, *, now: datetime, kept_for: timedelta) -> int:
    """Let go of decisions older than that, some in each transaction; gives how many there were."""
    before, forgotten = now - kept_for, 0
    for _ in range(MOST_ROUNDS):
        with database.transaction() as session:
            count = forget_decisions(session, before=before, limit=FORGOTTEN_AT_ONCE)
        forgotten += count
        if count < FORGOTTEN_AT_ONCE:
            break
    with database.transaction() as session:
        forget_omitted(session, before=before)
    return forgotten


def _place_of(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    micros, decision_id = decode_cursor(cursor, length=CURSOR_LENGTH)
    if isinstance(micros, int) and isinstance(decision_id, str):
        try:
            return from_micros(micros), decision_id
        except OverflowError:
            pass
    raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")


def _kept(row: DecisionRow) -> KeptDecision:
    fields = row.model_dump(exclude={"id"})
    return KeptDecision(decision_id=row.id, **fields)


def _tags_of(dimensions: DimensionSet) -> dict[str, str]:
    named = ((name, dimensions.value(name)) for name in TAG_DIMENSIONS)
    return {name: value for name, value in named if value is not None} | dict(dimensions.tags)


def _minute_of(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)

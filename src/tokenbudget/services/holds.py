"""Ending holds, each once: settled by the usage that names it, released, or expired.

And how long they may live.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from tokenbudget.domain.budgets import BudgetMatch, Counter, Unit
from tokenbudget.domain.errors import Conflict, NotFound, TokenbudgetError
from tokenbudget.domain.holds import HoldState, settled_state
from tokenbudget.services.counting import CounterBook, key_text
from tokenbudget.services.postings import Posting
from tokenbudget.store.budgets import (
    add_transfers,
    extend_holds,
    find_hold,
    lock_expired_holds,
    lock_holds,
    resolve_holds,
)
from tokenbudget.store.db import Database
from tokenbudget.store.tables import HoldRow


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How long holds live.

    The usual time, the longest, and the grace before an open one is given back.
    """

    usual: timedelta
    longest: timedelta
    grace: timedelta


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    """Work for the writer: give a hold back, since its call was not sent or was refused."""

    hold_id: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ExtendHold:
    """Work for the writer.

    Let a hold live longer, counted from now and bounded from its creation.
    """

    hold_id: str
    ttl: timedelta
    weight: int = 1


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold as it stands."""

    hold_id: str
    state: HoldState
    created_at: datetime
    expires_at: datetime
    estimate_nanos: int | None


@dataclass(slots=True)
class HoldDesk:
    """The holds that one transaction ends or extends."""

    session: Session
    terms: HoldTerms
    now: datetime
    holds: dict[str, HoldRow] = field(default_factory=dict)
    states: dict[str, HoldState] = field(default_factory=dict)
    expired: list[HoldRow] = field(default_factory=list)
    resolutions: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    extensions: list[dict[str, Any]] = field(default_factory=list)

    def lock(self, hold_ids: Collection[str]) -> set[int]:
        """Lock the named holds and those that ran out, and give the counters they hold of."""
        self.holds = lock_holds(self.session, hold_ids)
        self.expired = lock_expired_holds(self.session, self.now - self.terms.grace)
        for hold in (*self.holds.values(), *self.expired):
            self.states[hold.id] = HoldState(hold.state)
        return {
            counter_id
            for hold in (*self.holds.values(), *self.expired)
            for counter_id, _ in hold.grants
        }

    def settle(self, posting: Posting, book: CounterBook) -> None:
        """Move the counters by this posting and end the hold it names, if that is still open."""
        hold = self.holds.get(posting.hold_id) if posting.hold_id is not None else None
        if hold is not None and posting.sign > 0:
            self._resolve_by_usage(hold, posting, book)
        if hold is None:
            for match, key in posting.keys:
                if key is not None:
                    book.counter(key).settled += posting.quantity(match.budget.unit)
            return
        granted = _granted_counters(hold, book)
        for match, key in posting.keys:
            natural = book.counter(key) if key is not None else None
            target = _granted_counter(granted, match) or natural
            if target is None:
                continue
            quantity = posting.quantity(match.budget.unit)
            target.settled += quantity
            if target is not natural and quantity:
                self._note_transfer(posting, natural, target, quantity)

    def expire(self, book: CounterBook) -> None:
        """Give back what ran out and was not settled in this very transaction."""
        for hold in self.expired:
            if self.states[hold.id] is HoldState.HELD:
                _give_back(hold, book)
                self._resolve(hold, HoldState.EXPIRED)

    def release(self, work: ReleaseHold, book: CounterBook) -> HoldView | TokenbudgetError:
        """Give the hold back; releasing twice is no error, releasing what was spent is."""
        hold = self.holds.get(work.hold_id)
        if hold is None:
            return NotFound(f"hold {work.hold_id} does not exist")
        state = self.states[hold.id]
        if state in (HoldState.SETTLED, HoldState.SETTLED_LATE):
            return Conflict(f"hold {hold.id} is already settled", state=state.value)
        if state is HoldState.HELD:
            _give_back(hold, book)
            self._resolve(hold, HoldState.RELEASED)
        return self._view(hold, hold.expires_at)

    def extend(self, work: ExtendHold) -> HoldView | TokenbudgetError:
        """Move the expiry of an open hold to now + ttl, within its longest life."""
        hold = self.holds.get(work.hold_id)
        if hold is None:
            return NotFound(f"hold {work.hold_id} does not exist")
        state = self.states[hold.id]
        if state is not HoldState.HELD:
            return Conflict(f"hold {hold.id} is {state.value}", state=state.value)
        latest = hold.created_at + self.terms.longest
        expires_at = max(hold.expires_at, min(self.now + work.ttl, latest))
        self.extensions.append({"extended_id": hold.id, "new_expires_at": expires_at})
        return self._view(hold, expires_at)

    def write(self) -> None:
        """Write the resolutions, transfers and extensions."""
        resolve_holds(self.session, self.resolutions)
        add_transfers(self.session, self.transfers)
        extend_holds(self.session, self.extensions)

    def _resolve_by_usage(self, hold: HoldRow, posting: Posting, book: CounterBook) -> None:
        state = settled_state(self.states[hold.id])
        if state is None:
            return
        if state is HoldState.SETTLED:
            _give_back(hold, book)
        settled = posting.quantity(Unit.MONEY)
        overage = max(0, settled - (hold.estimate_nanos or 0))
        self._resolve(
            hold, state, usage_id=posting.usage_id, settled_nanos=settled, overage_nanos=overage
        )

    def _resolve(self, hold: HoldRow, state: HoldState, **facts: int) -> None:
        self.states[hold.id] = state
        self.resolutions.append(
            {
                "hold_id": hold.id,
                "kind": state.value,
                "resolved_at": self.now,
                "usage_id": facts.get("usage_id"),
                "settled_nanos": facts.get("settled_nanos"),
                "overage_nanos": facts.get("overage_nanos"),
            }
        )

    def _note_transfer(
        self, posting: Posting, natural: Counter | None, target: Counter, quantity: int
    ) -> None:
        self.transfers.append(
            {
                # What is taken back was moved for the usage that had been charged.
                "usage_id": posting.reverses_usage_id or posting.usage_id,
                "to_counter_id": target.id,
                "from_counter_id": natural.id if natural is not None else None,
                "quantity": quantity,
            }
        )

    def _view(self, hold: HoldRow, expires_at: datetime) -> HoldView:
        return HoldView(
            hold.id, self.states[hold.id], hold.created_at, expires_at, hold.estimate_nanos
        )


def get_hold(database: Database, hold_id: str) -> HoldView:
    """Give the hold as it stands; raises NotFound."""
    with database.reading() as session:
        hold = find_hold(session, hold_id)
    if hold is None:
        raise NotFound(f"hold {hold_id} does not exist")
    return HoldView(
        hold.id, HoldState(hold.state), hold.created_at, hold.expires_at, hold.estimate_nanos
    )


def _give_back(hold: HoldRow, book: CounterBook) -> None:
    for counter_id, quantity in hold.grants:
        book.counters[counter_id].held -= quantity


def _granted_counters(
    hold: HoldRow | None, book: CounterBook
) -> dict[tuple[str, int, str], Counter]:
    """Give the counters a hold was granted against, by budget, counting version and split."""
    if hold is None:
        return {}
    counters = (book.counters[counter_id] for counter_id, _ in hold.grants)
    return {
        (counter.budget_id, counter.counting_version, counter.split_key): counter
        for counter in counters
    }


def _granted_counter(
    granted: Mapping[tuple[str, int, str], Counter], match: BudgetMatch
) -> Counter | None:
    if not granted:
        return None
    budget = match.budget
    return granted.get((budget.id, budget.counting_version, key_text(match.split)))


def named_holds(postings: Sequence[Posting], works: Sequence[ReleaseHold | ExtendHold]) -> set[str]:
    """Give the ids of every hold that some work of this batch names."""
    named = {posting.hold_id for posting in postings if posting.hold_id is not None}
    return named | {work.hold_id for work in works}

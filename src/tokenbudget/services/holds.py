"""Ending holds, each once: settled by the usage that names it, released, or expired.

And how long they may live. A hold for several requests is taken piece by piece before it ends: what
a call used moves from held to settled in every counter that was granted against, once a call. What
is posted beyond the hold or after its end is posted in full all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.budgets import BudgetMatch, Counter, Unit
from tokenbudget.domain.errors import Conflict, NotFound, TokenbudgetError
from tokenbudget.domain.holds import GRANT_UNITS, HoldState, Remainder, overage, settled_state
from tokenbudget.domain.periods import format_instant
from tokenbudget.services.counting import CounterBook, key_text
from tokenbudget.services.postings import Posting
from tokenbudget.store.budgets import add_transfers
from tokenbudget.store.db import Database
from tokenbudget.store.holds import (
    add_answers,
    add_pieces,
    extend_holds,
    find_answers,
    find_hold,
    find_pieces,
    find_resolutions,
    lock_expired_holds,
    lock_holds,
    resolve_holds,
    write_remainders,
)
from tokenbudget.store.tables import HoldResolutionRow, HoldRow

EXTEND_PREFIX: Final = "extend "
"""What tells the idempotency keys of extensions from those of checks."""


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How long holds live.

    The usual time, the longest, and the grace before an open one is given back. One that settles by
    pieces may live as long as ``longest_batch``.
    """

    usual: timedelta
    longest: timedelta
    grace: timedelta
    longest_batch: timedelta

    def latest(self, created_at: datetime, *, by_pieces: bool) -> datetime:
        """Give the last instant a hold of that time may live until."""
        longest = max(self.longest, self.longest_batch) if by_pieces else self.longest
        return created_at + longest


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    """Work for the writer: give a hold back, since its call was not sent or was refused."""

    hold_id: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ExtendHold:
    """Work for the writer.

    Let a hold live longer, counted from now and bounded from its creation. With an idempotency key
    of the caller ``key_id`` it is done once.
    """

    hold_id: str
    ttl: timedelta
    weight: int = 1
    key_id: str = ""
    idempotency_key: str | None = None

    @property
    def answer_key(self) -> tuple[str, str] | None:
        """Give what a repeat is known by, apart from checks; None without an idempotency key."""
        if self.idempotency_key is None:
            return None
        return self.key_id, EXTEND_PREFIX + self.idempotency_key

    @property
    def digest(self) -> str:
        """Give what a repeat has to be equal in."""
        return f"{self.hold_id} {self.ttl // timedelta(seconds=1)}"


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold as it stands."""

    hold_id: str
    state: HoldState
    created_at: datetime
    expires_at: datetime
    estimate_nanos: int | None
    requests: int = 1
    pieces_settled: int = 0
    remaining_nanos: int | None = None
    settled_nanos: int | None = None
    overage_nanos: int | None = None


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
    extensions: dict[str, datetime] = field(default_factory=dict)
    remainders: dict[str, Remainder] = field(default_factory=dict)
    calls: set[tuple[str, int]] = field(default_factory=set)
    pieces: list[dict[str, Any]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    extended: dict[tuple[str, str], str] = field(default_factory=dict)
    answer_rows: list[dict[str, Any]] = field(default_factory=list)

    def lock(self, hold_ids: Collection[str]) -> set[int]:
        """Lock the named holds and those that ran out, and give the counters they hold of."""
        self.holds = lock_holds(self.session, hold_ids)
        self.expired = lock_expired_holds(self.session, self.now - self.terms.grace)
        for hold in (*self.holds.values(), *self.expired):
            self.states[hold.id] = HoldState(hold.state)
            if hold.remaining_nanos is not None:
                self.remainders[hold.id] = _remainder_of(hold)
        return {
            counter_id
            for hold in (*self.holds.values(), *self.expired)
            for counter_id, _, _ in hold.grants
        }

    def recall_pieces(self, postings: Sequence[Posting]) -> None:
        """Learn which calls have taken their piece already; only what was told before may have."""
        if self.remainders:
            known = {
                (posting.hold_id, posting.call_id)
                for posting in postings
                if posting.hold_id in self.remainders and not posting.is_first
            }
            self.calls = find_pieces(self.session, known)

    def recall_extensions(self, works: Sequence[ReleaseHold | ExtendHold]) -> None:
        """Learn which of these extensions were made already."""
        keys = {
            work.answer_key for work in works if isinstance(work, ExtendHold) and work.answer_key
        }
        found = find_answers(self.session, keys)
        self.extended = {key: row.request_digest for key, row in found.items()}

    def settle(self, posting: Posting, book: CounterBook) -> None:
        """Move the counters by this posting and end the hold it names, if that is still open."""
        hold = self.holds.get(posting.hold_id) if posting.hold_id is not None else None
        if hold is not None:
            if hold.id in self.remainders:
                self._settle_piece(hold, posting, book)
            elif posting.sign > 0:
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
                self._end(hold, HoldState.EXPIRED, book)

    def release(self, work: ReleaseHold, book: CounterBook) -> HoldView | TokenbudgetError:
        """Give the hold back; releasing twice is no error, releasing what was spent is.

        Of a hold that settles by pieces, what these have left is given back.
        """
        hold = self.holds.get(work.hold_id)
        if hold is None:
            return NotFound(f"hold {work.hold_id} does not exist")
        state = self.states[hold.id]
        is_settled = state in (HoldState.SETTLED, HoldState.SETTLED_LATE)
        if is_settled and hold.id not in self.remainders:
            return Conflict(f"hold {hold.id} is already settled", state=state.value)
        if state is HoldState.HELD:
            self._end(hold, HoldState.RELEASED, book)
        return self._view(hold, hold.expires_at)

    def extend(self, work: ExtendHold) -> HoldView | TokenbudgetError:
        """Move the expiry of an open hold to now + ttl, within its longest life.

        A repeat under the same idempotency key moves nothing and gives the hold as it stands.
        """
        hold = self.holds.get(work.hold_id)
        if hold is None:
            return NotFound(f"hold {work.hold_id} does not exist")
        key = work.answer_key
        if key is not None and key in self.extended:
            if self.extended[key] == work.digest:
                return self._view(hold, self._expiry_of(hold))
            name = work.idempotency_key
            return Conflict(f"Idempotency-Key {name!r} was used for another request")
        state = self.states[hold.id]
        if state is not HoldState.HELD:
            return Conflict(f"hold {hold.id} is {state.value}", state=state.value)
        latest = self.terms.latest(hold.created_at, by_pieces=hold.id in self.remainders)
        expires_at = max(self._expiry_of(hold), min(self.now + work.ttl, latest))
        self.extensions[hold.id] = expires_at
        if key is not None:
            self._remember(key, work, expires_at)
        return self._view(hold, expires_at)

    def write(self) -> None:
        """Write the pieces, resolutions, transfers and extensions."""
        add_pieces(self.session, self.pieces)
        remainders = [self._remainder_row(hold_id) for hold_id in sorted(self.touched)]
        write_remainders(self.session, remainders)
        resolve_holds(self.session, self.resolutions)
        add_transfers(self.session, self.transfers)
        rows = [
            {"extended_id": hold_id, "new_expires_at": expires_at}
            for hold_id, expires_at in sorted(self.extensions.items())
        ]
        extend_holds(self.session, rows)
        add_answers(self.session, self.answer_rows)

    def _expiry_of(self, hold: HoldRow) -> datetime:
        return self.extensions.get(hold.id, hold.expires_at)

    def _remember(self, key: tuple[str, str], work: ExtendHold, expires_at: datetime) -> None:
        self.extended[key] = work.digest
        self.answer_rows.append(
            {
                "key_id": key[0],
                "idempotency_key": key[1],
                "request_digest": work.digest,
                "answer": {"expires_at": format_instant(expires_at)},
                "created_at": self.now,
            }
        )

    def _resolve_by_usage(self, hold: HoldRow, posting: Posting, book: CounterBook) -> None:
        state = settled_state(self.states[hold.id])
        if state is None:
            return
        if state is HoldState.SETTLED:
            _give_back(hold, book)
        settled = posting.quantity(Unit.MONEY)
        self._resolve(
            hold,
            state,
            usage_id=posting.usage_id,
            settled_nanos=settled,
            overage_nanos=overage(settled, hold.estimate_nanos),
        )

    def _settle_piece(self, hold: HoldRow, posting: Posting, book: CounterBook) -> None:
        """Take what a call used out of the hold, if it is open; corrections take nothing more."""
        remainder = self.remainders[hold.id]
        remainder.settled_nanos += posting.quantity(Unit.MONEY)
        self.touched.add(hold.id)
        call = (hold.id, posting.call_id)
        if posting.sign < 0 or call in self.calls:
            # What takes back a piece is followed by what replaces it, if anything does.
            self.calls.add(call)
            return
        self.calls.add(call)
        taken = remainder.take([posting.quantity(unit) for unit in GRANT_UNITS])
        remainder.pieces += 1
        for counter_id, _, unit in hold.grants:
            book.counters[counter_id].held -= taken[unit]
        self.pieces.append(self._piece_row(call, taken))
        state = self.states[hold.id]
        if state is HoldState.EXPIRED:
            self._resolve(hold, HoldState.SETTLED_LATE, **_sums(hold, remainder))
        elif state is HoldState.HELD and remainder.pieces >= hold.requests:
            self._end(hold, HoldState.SETTLED, book)

    def _end(self, hold: HoldRow, state: HoldState, book: CounterBook) -> None:
        """Give back what is left; a hold that settled by pieces ends settled if any did."""
        remainder = self.remainders.get(hold.id)
        if remainder is None:
            _give_back(hold, book)
            self._resolve(hold, state)
            return
        left = remainder.give_back()
        for counter_id, _, unit in hold.grants:
            book.counters[counter_id].held -= left[unit]
        self.touched.add(hold.id)
        if remainder.pieces:
            self._resolve(hold, HoldState.SETTLED, **_sums(hold, remainder))
        else:
            self._resolve(hold, state)

    def _piece_row(self, call: tuple[str, int], taken: Sequence[int]) -> dict[str, Any]:
        nanos, tokens, requests = taken
        return {
            "hold_id": call[0],
            "call_id": call[1],
            "settled_at": self.now,
            "taken_nanos": nanos,
            "taken_tokens": tokens,
            "taken_requests": requests,
        }

    def _remainder_row(self, hold_id: str) -> dict[str, Any]:
        remainder = self.remainders[hold_id]
        nanos, tokens, requests = remainder.left
        return {
            "hold_id": hold_id,
            "nanos": nanos,
            "tokens": tokens,
            "requests_left": requests,
            "pieces": remainder.pieces,
            "settled": remainder.settled_nanos,
        }

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
        state, remainder = self.states[hold.id], self.remainders.get(hold.id)
        return replace(_view_of(hold, state, remainder, ()), expires_at=expires_at)


def get_hold(database: Database, hold_id: str) -> HoldView:
    """Give the hold as it stands; raises NotFound."""
    with database.reading() as session:
        hold = find_hold(session, hold_id)
        if hold is None:
            raise NotFound(f"hold {hold_id} does not exist")
        resolutions = find_resolutions(session, hold_id)
        remainder = None if hold.remaining_nanos is None else _remainder_of(hold)
        return _view_of(hold, HoldState(hold.state), remainder, resolutions)


def _view_of(
    hold: HoldRow,
    state: HoldState,
    remainder: Remainder | None,
    resolutions: Sequence[HoldResolutionRow],
) -> HoldView:
    view = HoldView(
        hold.id, state, hold.created_at, hold.expires_at, hold.estimate_nanos, hold.requests
    )
    is_priced = hold.estimate_nanos is not None
    if remainder is None:
        left = hold.estimate_nanos if state is HoldState.HELD else 0
        settling = [each for each in resolutions if each.settled_nanos is not None]
        return replace(
            view,
            pieces_settled=int(state in (HoldState.SETTLED, HoldState.SETTLED_LATE)),
            remaining_nanos=left if is_priced else None,
            settled_nanos=settling[0].settled_nanos if settling else None,
            overage_nanos=settling[0].overage_nanos if settling else None,
        )
    settled = remainder.settled_nanos
    return replace(
        view,
        pieces_settled=remainder.pieces,
        remaining_nanos=remainder.left[GRANT_UNITS[Unit.MONEY]] if is_priced else None,
        settled_nanos=settled if remainder.pieces else None,
        overage_nanos=overage(settled, hold.estimate_nanos) if remainder.pieces else None,
    )


def _remainder_of(hold: HoldRow) -> Remainder:
    left = [hold.remaining_nanos, hold.remaining_tokens, hold.remaining_requests]
    return Remainder([each or 0 for each in left], hold.pieces_settled, hold.settled_nanos or 0)


def _sums(hold: HoldRow, remainder: Remainder) -> dict[str, int]:
    """Give what the pieces of a hold have settled, for its resolution."""
    settled = remainder.settled_nanos
    return {
        "settled_nanos": settled,
        "overage_nanos": overage(settled, hold.estimate_nanos),
    }


def _give_back(hold: HoldRow, book: CounterBook) -> None:
    for counter_id, quantity, _ in hold.grants:
        book.counters[counter_id].held -= quantity


def _granted_counters(
    hold: HoldRow | None, book: CounterBook
) -> dict[tuple[str, int, str], Counter]:
    """Give the counters a hold was granted against, by budget, counting version and split."""
    if hold is None:
        return {}
    counters = (book.counters[counter_id] for counter_id, _, _ in hold.grants)
    return {
        (counter.budget_id, counter.counting_version, book.split_text(counter)): counter
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

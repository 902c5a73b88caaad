"""Leases: slices of budget that were granted once and are handed out here, call for call.

It keeps the books of what is left, what is under way and what is over, and refuses to talk to the
network. Taking a piece of a lease and ending one need no lock: both may happen in any thread, and
ending even in a finalizer.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil
from typing import Any, Final

from tokenbudget.client._calls import check_body
from tokenbudget.client._clock import elapsed_seconds
from tokenbudget.client._lease_terms import LeaseTerms
from tokenbudget.client._models import Call, Permit

# What the service gives a hold that names no life of its own.
USUAL_CALL_SECONDS: Final = 60
# The service's own clock is read off a header that counts seconds and may be one old.
CLOCK_SECONDS: Final = 2.0
MARGIN_SECONDS: Final = 3
LEAST_INPUT: Final = 256
MAX_TOKENS: Final = 10**8
# A share of calls or of time below which more is fetched.
LOW_SHARE: Final = 4
# Calls of a lease mostly have the same bound of output.
MAX_PERMITS: Final = 64
FIRST_REST_SECONDS: Final = 1.0
LONGEST_REST_SECONDS: Final = 30.0

Kind = tuple[object, ...]


class Lease:
    """One slice: ``calls`` pieces of a hold, to be taken until ``until`` on this machine's clock.

    From ``aged_at`` on it is time for another one.
    Of each piece that is taken one end is told: that its call was not made and another may be,
    or that its event is on its way.
    """

    __slots__ = (
        "_ended",
        "_permits",
        "_pieces",
        "aged_at",
        "call_seconds",
        "calls",
        "is_closed",
        "permit",
        "until",
    )

    def __init__(self, permit: Permit, calls: int, until: float, call_seconds: float) -> None:
        self.permit = permit
        self.calls = calls
        self.until = until
        now = elapsed_seconds()
        self.aged_at = until - (until - now) / LOW_SHARE
        self.call_seconds = call_seconds
        self.is_closed = False
        # Both are moved by one step that no thread and no finalizer can split.
        self._pieces: deque[None] = deque([None] * calls)
        self._ended: deque[None] = deque()
        self._permits: dict[int | None, Permit] = {}

    @property
    def left(self) -> int:
        """Give how many pieces may still be taken."""
        return len(self._pieces)

    @property
    def under_way(self) -> int:
        """Give how many pieces were taken and have not ended."""
        return self.calls - len(self._pieces) - len(self._ended)

    @property
    def is_over(self) -> bool:
        """Tell whether no piece may be taken any more."""
        return self.is_closed or elapsed_seconds() >= self.until

    @property
    def is_forgotten(self) -> bool:
        """Tell whether the service has ended it by itself, whatever is under way."""
        return elapsed_seconds() >= self.until + self.call_seconds + MARGIN_SECONDS

    def take(self) -> bool:
        """Take a piece; False when none is left or the time is up."""
        try:
            self._pieces.pop()
        except IndexError:
            return False
        # In this order: who finds the lease over and nothing under way can rely on it.
        if self.is_over:
            self._pieces.append(None)
            return False
        return True

    def give_back(self) -> None:
        """End a piece whose call was not sent: another may take it."""
        self._pieces.append(None)

    def end(self) -> None:
        """End a piece whose event is on its way."""
        self._ended.append(None)

    def permit_for(self, call: Call) -> Permit:
        """Give the permit of a call that has taken a piece."""
        most = call.max_output_tokens
        permit = self._permits.get(most)
        if permit is None:
            told = self.permit.max_output_tokens if most is None else most
            permit = replace(self.permit, max_output_tokens=told, lease=self)
            if len(self._permits) < MAX_PERMITS:
                self._permits[most] = permit
        return permit


@dataclass(frozen=True, slots=True)
class Asking:
    """A lease that was asked for and not answered; it is asked for again in the same words.

    The service answers both alike, so that an answer which was lost strands nothing.
    """

    body: Mapping[str, Any]
    calls: int
    first_sent: float


class Shelf:
    """The leases for calls of one kind, the oldest first, and whether more are on their way."""

    def __init__(self, call: Call, terms: LeaseTerms) -> None:
        self.call = call
        self.terms = terms
        self.leases: tuple[Lease, ...] = ()
        self.coming: Future[None] | None = None
        self.asking: Asking | None = None
        self.asked_at = 0.0
        self._rests_until = 0.0
        self._rest_seconds = FIRST_REST_SECONDS

    @property
    def call_seconds(self) -> int:
        """Give how long a call may take, which the hold must outlive."""
        return self.call.ttl_seconds or USUAL_CALL_SECONDS

    @property
    def left(self) -> int:
        """Give how many pieces may still be taken."""
        return sum(lease.left for lease in self.leases if not lease.is_over)

    @property
    def is_low(self) -> bool:
        """Tell whether it is time to fetch more, of calls or of time."""
        if self.left * LOW_SHARE < self.terms.calls:
            return True
        return bool(self.leases) and elapsed_seconds() >= self.leases[-1].aged_at

    @property
    def is_fetching(self) -> bool:
        """Tell whether an answer is waited for."""
        return self.coming is not None and not self.coming.done()

    @property
    def is_resting(self) -> bool:
        """Tell whether the last answer was none to build on, a moment ago."""
        return elapsed_seconds() < self._rests_until

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody has asked here for longer than a lease is used."""
        is_old = elapsed_seconds() >= self.asked_at + self.terms.seconds
        return is_old and not self.is_fetching

    def take(self) -> Lease | None:
        """Take a piece and give its lease; None when there is none."""
        self.asked_at = elapsed_seconds()
        for lease in self.leases:
            if lease.take():
                return lease
        return None

    def ask(self, key: str) -> Asking | None:
        """Give what to ask the service for; None when nothing is missing.

        It is what is missing of one lease, so that no more than one lies here unused.
        """
        now = elapsed_seconds()
        if self.asking is not None and now < self.asking.first_sent + self.terms.seconds:
            return self.asking
        calls = self.terms.calls - self.left
        if calls < 1:
            return None
        seconds = ceil(self.terms.seconds + self.call_seconds + MARGIN_SECONDS)
        body = check_body(replace(self.call, ttl_seconds=seconds), key)
        self.asking = Asking({**body, "requests": calls}, calls, now)
        return self.asking

    def add(self, lease: Lease) -> None:
        """Put a lease behind those that are of use."""
        self.asking = None
        self._rest_seconds = FIRST_REST_SECONDS
        useful = (each for each in self.leases if each.left and not each.is_over)
        self.leases = (*useful, lease)

    def rest(self) -> None:
        """Fetch nothing for a while, longer each time, and not at once with other processes."""
        # Not for a secret: it only spreads what would come together.
        seconds = self._rest_seconds * random.uniform(0.5, 1.0)
        self._rests_until = elapsed_seconds() + seconds
        self._rest_seconds = min(LONGEST_REST_SECONDS, self._rest_seconds * 2)


def kind_of(call: Call, terms: LeaseTerms) -> Kind | None:
    """Give the kind of a call; None for a call that is checked by itself.

    Such are calls without a bound of their input, with an estimate of their own, or too large.
    """
    if call.input_tokens is None or call.estimate is not None:
        return None
    most = call.max_output_tokens
    if min(call.input_tokens, most or 0) < 0:
        return None
    shape = _rounded(max(LEAST_INPUT, call.input_tokens)), None if most is None else _rounded(most)
    if max(shape[0], shape[1] or 0) > MAX_TOKENS:
        return None
    tags = frozenset(
        (name, value) for name, value in call.tags.items() if name not in terms.ignored_tags
    )
    of = (call.provider, call.model, call.service_tier, call.ttl_seconds)
    return (of, shape, tags, terms)


def shaped(call: Call, terms: LeaseTerms) -> Call:
    """Give the largest call of the kind that this one is of, of no operation in particular."""
    most = call.max_output_tokens
    return replace(
        call,
        input_tokens=_rounded(max(LEAST_INPUT, call.input_tokens or 0)),
        max_output_tokens=None if most is None else _rounded(most),
        operation_id=None,
        tags={name: value for name, value in call.tags.items() if name not in terms.ignored_tags},
    )


def share_of(permit: Permit, calls: int) -> Permit:
    """Give the permit of one call in a lease for so many, without its lease."""
    total = permit.estimate
    return replace(permit, estimate=None if total is None else total / Decimal(calls))


def _rounded(tokens: int) -> int:
    """Give the power of two at or above, and nothing for nothing."""
    return 1 << (tokens - 1).bit_length() if tokens > 0 else 0

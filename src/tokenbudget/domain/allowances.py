"""What a window may use besides its limit: what earlier windows left over, and raises.

It owns the rule of the carry. It refuses to find counters: those of earlier windows are handed in.

    carry' = clamp(limit + carry - settled, -max_debt, +max_carry)

The terms of the window that ends decide what it leaves: its limit and rollover are those of the
version that was in force last before it ended. A raise takes no part: it is for its own time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tokenbudget.domain.periods import Period


@dataclass(frozen=True, slots=True)
class Rollover:
    """How much of what is left, or overspent, goes to the next window, in the budget's unit.

    ``max_carry`` is None for as much as the limit.
    """

    max_carry: int | None
    max_debt: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What one version of a budget said of its windows, and since when it did."""

    since: datetime
    limit: int
    rollover: Rollover | None

    def carry_of(self, left: int) -> int:
        """Give what goes to the next window of so much that is left (negative: overspent)."""
        if self.rollover is None:
            return 0
        most = self.limit if self.rollover.max_carry is None else self.rollover.max_carry
        return max(-self.rollover.max_debt, min(most, left))


@dataclass(frozen=True, slots=True)
class PastWindow:
    """What one counter of an earlier window came to; ``carry`` is None where none is frozen."""

    start: datetime
    settled: int
    held: int
    carry: int | None = None


@dataclass(frozen=True, slots=True)
class Raise:
    """More quota for a time: so much more of the budget's unit in every counter, while in force.

    ``valid_to`` is the end that was said, or the instant at which the raise was ended before it.
    """

    id: str
    amount: int
    valid_from: datetime
    valid_to: datetime

    def is_in_force(self, instant: datetime) -> bool:
        """Tell whether it counts in decisions of the instant."""
        return self.valid_from <= instant < self.valid_to


def raised_by(raises: Sequence[Raise], instant: datetime) -> int:
    """Give what all raises in force at the instant add to the limit."""
    return sum(each.amount for each in raises if each.is_in_force(instant))


def terms_before(history: Sequence[Terms], instant: datetime) -> Terms | None:
    """Give the terms in force last before the instant, None when there were none yet.

    ``history`` is in order of time.
    """
    known = [terms for terms in history if terms.since < instant]
    return known[-1] if known else None


def carry_into(
    start: datetime,
    past: Sequence[PastWindow],
    history: Sequence[Terms],
    window_at: Callable[[datetime], Period | None],
) -> int:
    """Give the carry of the window that starts there.

    ``past`` are the counters of earlier windows in order of time, from the last one whose carry is
    frozen, or else from the first there ever was, which had none. Windows without a counter used
    nothing and pass on what they had. What is held counts as spent. Windows that ended before the
    terms were known leave nothing.
    """
    if not past or not history:
        return 0
    counted = {each.start: each for each in past}
    carry = past[0].carry or 0
    window = window_at(past[0].start)
    if history[0].since >= start:
        return 0
    if window is not None and window.end <= history[0].since:
        carry, window = 0, window_at(history[0].since)
    while window is not None and window.start < start:
        here = counted.get(window.start)
        used = here.settled + here.held if here is not None else 0
        terms = terms_before(history, window.end)
        carry = terms.carry_of(terms.limit + carry - used) if terms is not None else 0
        window = window_at(window.end)
    return carry


def may_freeze(start: datetime, past: Sequence[PastWindow], now: datetime) -> bool:
    """Tell whether the carry of the window that starts there is final.

    It is once the window has begun and nothing is held in those before it.
    """
    return start <= now and not any(each.held for each in past)

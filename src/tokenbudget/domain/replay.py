"""What budgets would have done to calls that were really made.

It owns the order of decisions and what is told of them. It refuses to find calls and budgets: calls
are handed in, in order of time, with the id of the dimension set they count under.

The rule is that of a quota check: a call that any hard budget in force has no room for is denied
and moves no counter; any other call moves every counter that it counts in, by what it really used.
So what it used stands for its estimate, nothing is ever held, and no answer is ``reduce``. A call
without a price is denied by every hard budget of money, as a check would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from tokenbudget.domain.budgets import (
    FAR_FUTURE,
    Budget,
    BudgetIndex,
    BudgetMatch,
    HasDimensions,
    Mode,
    Unit,
)
from tokenbudget.domain.periods import Period

MAX_SPLITS_TOLD: Final = 10
"""How many values of a split are told of one budget, those with the dearest calls."""

MAX_WINDOWS_TOLD: Final = 100
"""How many windows without room are told of one budget, the earliest."""

NO_USAGE: Final = 0
"""The usage id of a fixed cost, which stands for no usage; ids of usage are above it."""

Split: TypeAlias = tuple[str, ...]


class Call(NamedTuple):
    """One call as the ledger has it: what it cost, in nanos, and used.

    An unpriced call costs none that is known. A fixed cost is no call, since nothing could have
    denied it: the share of a commitment that counts at this instant.
    """

    occurred_at: datetime
    dimension_set_id: int
    nanos: int
    tokens: int = 0
    requests: int = 1
    is_unpriced: bool = False
    is_fixed_cost: bool = False


QUANTITIES: Final[Mapping[Unit, Callable[[Call], int]]] = {
    Unit.MONEY: attrgetter("nanos"),
    Unit.TOKENS: attrgetter("tokens"),
    Unit.REQUESTS: attrgetter("requests"),
}
"""What a call used in a budget's unit."""


@dataclass(slots=True)
class CallSums:
    """How many calls, what they cost (nanos) and used, and when the first and the last was."""

    calls: int = 0
    nanos: int = 0
    tokens: int = 0
    requests: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def add(self, call: Call) -> None:
        """Count a call, which is not before those that were counted."""
        self.calls += 1
        self.nanos += call.nanos
        self.tokens += call.tokens
        self.requests += call.requests
        if self.first_at is None:
            self.first_at = call.occurred_at
        self.last_at = call.occurred_at

    def merge(self, other: CallSums) -> None:
        """Count what was counted elsewhere at any time."""
        self.calls += other.calls
        self.nanos += other.nanos
        self.tokens += other.tokens
        self.requests += other.requests
        begun = [each for each in (self.first_at, other.first_at) if each is not None]
        ended = [each for each in (self.last_at, other.last_at) if each is not None]
        self.first_at, self.last_at = min(begun, default=None), max(ended, default=None)


@dataclass(frozen=True, slots=True)
class SplitReplay:
    """The calls that one counter's split values had no room for, or no price."""

    split: Split
    refused: CallSums


@dataclass(slots=True)
class WindowReplay:
    """A window in which calls found no room, and how many of its counters had none left."""

    period: Period
    counters: int = 0
    refused: CallSums = field(default_factory=CallSums)


@dataclass(frozen=True, slots=True)
class BudgetReplay:
    """What one budget would have done.

    ``seen`` are the calls it would have decided on. ``refused`` are those among them it would have
    denied (hard), or warned of (soft) or recorded (shadow) although they were let through; of
    these, ``unpriced`` had no price. A call that several hard budgets deny is told of each.
    ``splits`` are the dearest and ``windows`` the earliest of ``split_count`` and ``window_count``.
    """

    budget: Budget
    seen: CallSums
    refused: CallSums
    unpriced: int
    splits: tuple[SplitReplay, ...]
    split_count: int
    windows: tuple[WindowReplay, ...]
    window_count: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What budgets would have done together to all calls of a period, each call told once."""

    period: Period
    seen: CallSums
    denied: CallSums
    budgets: tuple[BudgetReplay, ...]


@dataclass(slots=True)
class _Counter:
    """What a window of a budget and split still has room for, overdraft included.

    ``room`` is what it had when it began.
    """

    room: int
    left: int
    has_refused: bool = False


@dataclass(slots=True)
class _Track:
    """One budget on its way through time: the counters of its present window, and what it did.

    A window that rolls is a day that has, besides its own, what the days before it ``carried``.
    """

    budget: Budget
    window: Period | None = None
    counters: dict[Split, _Counter] = field(default_factory=dict)
    spent_before: dict[Period, dict[Split, int]] = field(default_factory=dict)
    carried: dict[Split, int] = field(default_factory=dict)
    seen: CallSums = field(default_factory=CallSums)
    refused: CallSums = field(default_factory=CallSums)
    unpriced: int = 0
    by_split: dict[Split, CallSums] = field(default_factory=dict)
    by_window: dict[datetime, WindowReplay] = field(default_factory=dict)

    def window_at(self, at: datetime) -> Period | None:
        """Give the window that holds the instant, None outside of a fixed range."""
        if self.window is not None and self.window.contains(at):
            return self.window
        return self.budget.window.period_at(at)

    def enter(self, window: Period) -> None:
        """Go on to the window, whose counters are new unless it is the present one."""
        if window == self.window:
            return
        span = self.budget.window.span_at(window.start)
        if self.budget.window.rolling_days and span is not None:
            self._carry(span)
        self.window = window
        self.counters = {}

    def counter(self, split: Split, spent: int = 0) -> _Counter:
        """Give the counter of the present window, made with what was spent if it is new."""
        known = self.counters.get(split)
        if known is None:
            room = self.budget.limit + self.budget.overdraft - self.carried.get(split, 0)
            known = self.counters[split] = _Counter(room, room - spent)
        return known

    def _carry(self, span: Period) -> None:
        """Keep what was spent in the days of a span, the day that ends now among them."""
        if self.window is not None:
            spent = {split: each.room - each.left for split, each in self.counters.items()}
            self.spent_before[self.window] = spent
        self.spent_before = {
            day: spent for day, spent in self.spent_before.items() if day.start >= span.start
        }
        self.carried = {}
        for spent in self.spent_before.values():
            for split, quantity in spent.items():
                self.carried[split] = self.carried.get(split, 0) + quantity

    def refuse(self, account: _Account, call: Call) -> None:
        """Note a call that there was no room for, or no price."""
        lacks_room = account.quantity_of(call) > account.counter.left
        self.refused.add(call)
        self.by_split.setdefault(account.split, CallSums()).add(call)
        if not lacks_room:
            self.unpriced += 1
            return
        window = account.window
        told = self.by_window.setdefault(window.start, WindowReplay(window))
        told.refused.add(call)
        if not account.counter.has_refused:
            account.counter.has_refused = True
            told.counters += 1

    def told(self) -> BudgetReplay:
        """Give what the budget did."""
        dearest = sorted(
            self.by_split.items(), key=lambda each: (-each[1].nanos, -each[1].calls, each[0])
        )
        earliest = sorted(self.by_window)
        return BudgetReplay(
            budget=self.budget,
            seen=self.seen,
            refused=self.refused,
            unpriced=self.unpriced,
            splits=tuple(SplitReplay(*each) for each in dearest[:MAX_SPLITS_TOLD]),
            split_count=len(dearest),
            windows=tuple(self.by_window[start] for start in earliest[:MAX_WINDOWS_TOLD]),
            window_count=len(earliest),
        )


@dataclass(slots=True)
class _Account:
    """Where calls of one dimension set count in a budget, for as long as nothing changes that."""

    track: _Track
    split: Split
    window: Period
    counter: _Counter
    quantity_of: Callable[[Call], int]
    is_hard: bool
    needs_price: bool


@dataclass(slots=True)
class _Route:
    """Where calls of one dimension set count until an instant, and who decides on them till then.

    ``seen`` are the calls that came this way: they are told of every decider when it ends.
    """

    accounts: tuple[_Account, ...]
    deciders: tuple[_Account, ...]
    until: datetime
    seen: CallSums = field(default_factory=CallSums)


class Replayer:
    """Decides on calls one after the other, as budgets in force together would have done.

    What it keeps grows with the counters of present windows, the windows without room and the
    dimension sets, never with the number of calls.
    """

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._tracks = {budget.id: _Track(budget) for budget in budgets}
        self._index = BudgetIndex.build(track.budget for track in self._tracks.values())
        self._matches: dict[int, tuple[BudgetMatch, ...]] = {}
        self._routes: dict[int, _Route] = {}
        self._seen = CallSums()
        self._denied = CallSums()
        self._latest: datetime | None = None

    def seed(self, budget_id: str, window: Period, spent: Mapping[Split, int]) -> None:
        """Let a budget begin with a window of which so much is spent already, by split values.

        Of a window that rolls, the days are told in order.
        """
        track = self._tracks[budget_id]
        track.enter(window)
        for split, quantity in spent.items():
            track.counter(split, quantity)

    def unknown_sets(self, set_ids: Iterable[int]) -> set[int]:
        """Give those dimension sets that were not learned yet."""
        return set(set_ids) - self._matches.keys()

    def learn(self, dimension_sets: Mapping[int, HasDimensions]) -> None:
        """Learn the dimension sets that calls will name by these ids."""
        for set_id, dimensions in dimension_sets.items():
            self._matches[set_id] = self._index.match(dimensions)

    def play(self, calls: Iterable[Call]) -> None:
        """Decide on calls in order of time, none of them before those that were played.

        Raises KeyError for a dimension set that was not learned, ValueError for a call out of turn.
        """
        routes = self._routes
        latest = self._latest
        for call in calls:
            if latest is not None and call.occurred_at < latest:
                raise ValueError("calls are replayed in order of time")
            latest = call.occurred_at
            route = routes.get(call.dimension_set_id)
            if route is None or latest >= route.until:
                route = self._aim(call.dimension_set_id, latest)
            if call.is_fixed_cost:
                _settle(route.accounts, call)
            else:
                self._decide(route, call)
        self._latest = latest

    def replay(self, period: Period) -> Replay:
        """Give what was done to the calls, which were all those of the period."""
        for route in self._routes.values():
            self._end(route)
        self._routes = {}
        told = tuple(track.told() for track in self._tracks.values())
        return Replay(period, self._seen, self._denied, told)

    def _decide(self, route: _Route, call: Call) -> None:
        route.seen.add(call)
        refusing = [
            account
            for account in route.deciders
            if account.quantity_of(call) > account.counter.left
            or (call.is_unpriced and account.needs_price)
        ]
        if not refusing:
            _settle(route.accounts, call)
            return
        denying = [account for account in refusing if account.is_hard]
        for account in denying or refusing:
            account.track.refuse(account, call)
        if denying:
            self._denied.add(call)
        else:
            _settle(route.accounts, call)

    def _aim(self, set_id: int, at: datetime) -> _Route:
        """Give the new route of a dimension set, the one before having ended."""
        former = self._routes.get(set_id)
        if former is not None:
            self._end(former)
        accounts = []
        until = FAR_FUTURE
        for match in self._matches[set_id]:
            track = self._tracks[match.budget.id]
            window = track.window_at(at)
            until = min(until, _next_change(match.budget, window, at))
            if window is not None and match.budget.counts_window(window):
                track.enter(window)
                accounts.append(_account_of(track, match.split, window))
        deciders = [each for each in accounts if each.track.budget.is_in_force(at)]
        route = self._routes[set_id] = _Route(tuple(accounts), tuple(deciders), until)
        return route

    def _end(self, route: _Route) -> None:
        self._seen.merge(route.seen)
        for account in route.deciders:
            account.track.seen.merge(route.seen)


def _account_of(track: _Track, split: Split, window: Period) -> _Account:
    is_hard = track.budget.mode is Mode.HARD
    return _Account(
        track=track,
        split=split,
        window=window,
        counter=track.counter(split),
        quantity_of=QUANTITIES[track.budget.unit],
        is_hard=is_hard,
        needs_price=is_hard and track.budget.unit is Unit.MONEY,
    )


def _settle(accounts: Iterable[_Account], call: Call) -> None:
    for account in accounts:
        account.counter.left -= account.quantity_of(call)


def _next_change(budget: Budget, window: Period | None, at: datetime) -> datetime:
    """Give the next instant at which the budget counts elsewhere, or begins or ends to decide."""
    fixed = budget.window.fixed
    turns = (
        budget.valid_from,
        budget.valid_to,
        None if window is None else window.end,
        None if fixed is None else fixed.start,
    )
    return min((turn for turn in turns if turn is not None and turn > at), default=FAR_FUTURE)

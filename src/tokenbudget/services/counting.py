"""The counters one transaction works on.

Which are wanted, locked once in key order, moved in memory, written back.

It owns the path from a budget match and an instant to a locked counter, what it may use besides
its limit, what the other days of a window that rolls count with it, and the thresholds crossed on
the way. It refuses to decide anything.

Where each operation has a window of its own, its id is the last of the counter's split values.
Usage and checks that name no operation have no counter there.

What a window carries over is worked out of the counters before it, which are locked with its own:
they are found first, so that all are locked in order of id. It is written to the counter of the new
window, once and for all, by the first transaction that finds nothing held in those before it.

A window that rolls has a counter a day, and its limit applies to their sum. No two checks can both
take the last of it, because every transaction that adds to a day of it also locks the counter of
the day it takes for today, before it reads the sum of the others (one that only gives holds back
makes room, which may be seen later):

- checks grant only from today's counter, so two of the same day wait for each other, and the second
  reads a sum that holds what the first granted;
- two that read the clock on either side of midnight have different todays. In the first
  ``HANDOVER`` of a day the day before is locked too, so these wait for each other as well. The
  second reads what the first granted, since days after today are summed like those before. That
  needs clocks that agree, and transactions that end, within ``HANDOVER``.

So usage that is dated after today, as it may be by a clock ahead of ours, counts at once.

The same locks make the measured figure exact before and after, so that every crossing of a
threshold is seen by the one transaction that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

from sqlmodel import Session

from tokenbudget.domain.allowances import PastWindow, carry_into, may_freeze
from tokenbudget.domain.budgets import (
    FAR_FUTURE,
    Budget,
    BudgetMatch,
    Counter,
    OtherDays,
    ThresholdOn,
    crossed_thresholds,
)
from tokenbudget.domain.periods import EPOCH, Period
from tokenbudget.store.budgets import (
    CounterKey,
    add_counters,
    find_counter_ids,
    freeze_carries,
    list_past_counters,
    lock_counters,
    sum_other_days,
    write_counters,
)

MAX_KEY_TEXTS: Final = 50_000
NO_WINDOW: Final = Period(EPOCH, EPOCH + timedelta.resolution)
RATE_MEMORY: Final = timedelta(days=1)
"""How long minutes are counted in, and their counters kept; usage told of later is in no rate."""

HANDOVER: Final = timedelta(hours=1)
"""How long after midnight some worker may still take the day before for today."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A counter whose figure came over thresholds of its budget, lowest first.

    ``span`` is all that was ``measured``: the counter's window, or every day of one that rolls.
    ``limit`` is what the thresholds are shares of, raises included.
    """

    budget: Budget
    counter_id: int
    split_key: str
    thresholds: tuple[int, ...]
    measured: int
    limit: int
    span: Period


@dataclass(frozen=True, slots=True)
class Aim:
    """Where usage of every instant of ``period`` counts; the key is None where it does not.

    ``by_operation`` are the matches whose counter only the operation tells.
    """

    period: Period
    keys: tuple[tuple[BudgetMatch, CounterKey | None], ...]
    by_operation: tuple[BudgetMatch, ...]
    wanted: Mapping[CounterKey, Period]
    rolls: bool
    has_allowances: bool


class Aimed(Protocol):
    """Anything that knows which budgets match it, and remembers its last aim."""

    matches: tuple[BudgetMatch, ...]
    aim: Aim | None


@dataclass(frozen=True, slots=True)
class Rolling:
    """A budget whose window rolls: its first day at a time, and the days to lock then."""

    first: datetime
    todays: tuple[Period, ...]


@dataclass(slots=True)
class CounterBook:
    """The counters of one transaction.

    ``counter_ids`` is the worker's memory of ids and may be incomplete, and so may ``frozen_ids``,
    that of counters whose carry is final. ``now`` says which days a window that rolls looks at and
    which raises are in force; without it such a window crosses no threshold and nothing is carried.
    """

    session: Session
    budgets: Mapping[str, Budget]
    counter_ids: dict[CounterKey, int]
    now: datetime | None = None
    frozen_ids: set[int] = field(default_factory=set)
    rolls: bool = False
    has_allowances: bool = False
    wanted: dict[CounterKey, Period] = field(default_factory=dict)
    wanted_ids: set[int] = field(default_factory=set)
    counters: dict[int, Counter] = field(default_factory=dict)
    before: dict[int, tuple[int, int]] = field(default_factory=dict)
    todays: dict[int, Counter] = field(default_factory=dict)
    rolling: dict[str, Rolling] = field(default_factory=dict)
    periods: dict[str, Period] = field(default_factory=dict)
    past_ids: dict[CounterKey, list[int]] = field(default_factory=dict)

    def key_of(
        self,
        match: BudgetMatch,
        instant: datetime,
        operation_ref: str | None = None,
        usage_id: int | None = None,
    ) -> CounterKey | None:
        """Give the counter for usage of this instant, None when the budget does not count it.

        ``usage_id`` is None for a check. Only where each operation has a window of its own, the
        operation and the usage matter.
        """
        budget = match.budget
        split = match.split
        if budget.window.is_rate and self.now is not None and instant < self.now - RATE_MEMORY:
            return None
        if budget.window.per_operation:
            if not operation_ref or (usage_id is not None and usage_id <= budget.after_usage_id):
                return None
            split = (*split, operation_ref)
        if budget.window.rolling_days:
            self.rolls = True
        if budget.has_allowances:
            self.has_allowances = True
        period = self.periods.get(budget.id)
        if period is None or not period.contains(instant):
            period = budget.period_counted_at(instant)
            if period is None:
                return None
            self.periods[budget.id] = period
        key = CounterKey(budget.id, budget.counting_version, key_text(split), period.start)
        self.wanted[key] = period
        return key

    def keys_of(
        self,
        target: Aimed,
        instant: datetime,
        operation_ref: str | None = None,
        usage_id: int | None = None,
    ) -> tuple[tuple[BudgetMatch, CounterKey | None], ...]:
        """Give the counter of every match for usage of this instant; targets remember it.

        What an operation tells is not remembered. ``usage_id`` is None for a check.
        """
        aim = target.aim
        if aim is None or not aim.period.contains(instant):
            aim = target.aim = self._aim_at(target.matches, instant)
        self.wanted.update(aim.wanted)
        if aim.rolls:
            self.rolls = True
        if aim.has_allowances:
            self.has_allowances = True
        if not aim.by_operation:
            return aim.keys
        told = [
            (match, self.key_of(match, instant, operation_ref, usage_id))
            for match in aim.by_operation
        ]
        return (*aim.keys, *told)

    def _aim_at(self, matches: Sequence[BudgetMatch], instant: datetime) -> Aim:
        by_operation = tuple(match for match in matches if match.budget.window.per_operation)
        keys = tuple(
            (match, self.key_of(match, instant))
            for match in matches
            if not match.budget.window.per_operation
        )
        windows = [match.budget.window.period_at(instant) for match in matches]
        # Outside a fixed range nothing says how long that stays so: the aim holds for an instant.
        known = [window or Period(instant, instant + timedelta.resolution) for window in windows]
        start = max((window.start for window in known), default=instant)
        end = min((window.end for window in known), default=FAR_FUTURE)
        return Aim(
            period=Period(start, end),
            keys=keys,
            by_operation=by_operation,
            wanted={key: self.wanted[key] for _, key in keys if key is not None},
            rolls=any(match.budget.window.rolling_days for match in matches),
            has_allowances=any(match.budget.has_allowances for match in matches),
        )

    def want_ids(self, counter_ids: Iterable[int]) -> None:
        """Ask for counters that a hold names."""
        self.wanted_ids.update(counter_ids)

    def lock(self) -> None:
        """Create what does not exist yet and lock all that is wanted, once."""
        if self.rolls and self.now is not None:
            self._want_todays(self.now)
        if self.has_allowances and self.now is not None:
            self._want_past()
        self._learn_ids([key for key in self.wanted if key not in self.counter_ids])
        ids = {self.counter_ids[key] for key in self.wanted} | self.wanted_ids
        self.counters = lock_counters(self.session, ids)
        if len(self.counters) < len(ids):
            self._make_up(ids - self.counters.keys())
        self.before = {
            counter.id: (counter.settled, counter.held) for counter in self.counters.values()
        }
        if self.rolls and self.now is not None:
            self._add_other_days(self.now)
        if self.has_allowances and self.now is not None:
            self._allow(self.now)

    def _learn_ids(self, unknown: Sequence[CounterKey]) -> None:
        """Find the ids of these counters, having created those that do not exist."""
        if not unknown:
            return
        found = find_counter_ids(self.session, unknown)
        missing = [key for key in unknown if key not in found]
        if missing:
            add_counters(self.session, [self._row_of(key) for key in missing])
            found.update(find_counter_ids(self.session, missing))
        self.counter_ids.update(found)

    def _make_up(self, gone: Set[int]) -> None:
        """Make up for counters of minutes gone by that were let go of while their ids were known.

        What is wanted begins anew. What only a hold of then names takes part no more.
        """
        anew = [key for key in self.wanted if self.counter_ids[key] in gone]
        for key in anew:
            del self.counter_ids[key]
        self._learn_ids(anew)
        self.counters.update(lock_counters(self.session, [self.counter_ids[key] for key in anew]))
        for counter_id in gone & self.wanted_ids:
            self.counters[counter_id] = Counter(counter_id, "", 0, "", NO_WINDOW, 0, 0)

    def counter(self, key: CounterKey) -> Counter:
        """Give a locked counter."""
        return self.counters[self.counter_ids[key]]

    def split_text(self, counter: Counter) -> str:
        """Give the stored form of a counter's split values without the operation it stands for."""
        budget = self.budgets.get(counter.budget_id)
        if budget is None or not budget.window.per_operation:
            return counter.split_key
        return key_text(split_and_operation(budget, counter.split_key)[0])

    def write(self) -> list[Crossing]:
        """Write back what moved and give the thresholds that were crossed."""
        moved = list(self._moved())
        write_counters(self.session, moved)
        freeze_carries(self.session, self._final_carries())
        measured = self._measured(moved) if self.rolls else moved
        return [crossing for counter in measured if (crossing := self._crossing_of(counter))]

    def _moved(self) -> Iterator[Counter]:
        for counter in self.counters.values():
            if (counter.settled, counter.held) != self.before[counter.id]:
                yield counter

    def _measured(self, moved: Iterable[Counter]) -> list[Counter]:
        """Give the counters to measure, by id: today's in place of the other days that roll."""
        measured = {}
        for counter in moved:
            stand_in = self.todays.get(counter.id, counter)
            measured[stand_in.id] = stand_in
        return [measured[counter_id] for counter_id in sorted(measured)]

    def _crossing_of(self, counter: Counter) -> Crossing | None:
        budget = self.budgets.get(counter.budget_id)
        if budget is None or budget.counting_version != counter.counting_version:
            return None
        if budget.threshold_on is ThresholdOn.FORECAST:
            return None
        span: Period | None = counter.period
        settled, held = self.before[counter.id]
        if budget.window.rolling_days:
            if counter.other_days is None:
                return None
            span = budget.window.span_at(counter.period.start)
            settled, held = self._before_all(counter, counter.other_days)
        before = settled if budget.threshold_on is ThresholdOn.ACTUAL else settled + held
        after = counter.measured(budget.threshold_on)
        crossed = crossed_thresholds(budget, before, after, raised=counter.raised)
        if not crossed or span is None:
            return None
        limit = budget.limit + counter.raised
        return Crossing(budget, counter.id, counter.split_key, crossed, after, limit, span)

    def _before_all(self, counter: Counter, others: OtherDays) -> tuple[int, int]:
        """Give settled and held of all days of a window that rolls as they were when locked."""
        befores = [self.before[each.id] for each in (counter, *others.counters)]
        settled, held = (sum(column) for column in zip(*befores, strict=True))
        return settled + others.settled, held + others.held

    def _want_past(self) -> None:
        """Ask for the counters that a carry has to be worked out of, where it is not final yet."""
        for key in self.wanted:
            budget = self.budgets[key.budget_id]
            if budget.rollover is None or self.counter_ids.get(key) in self.frozen_ids:
                continue
            past = [counter_id for counter_id, _ in list_past_counters(self.session, key)]
            self.past_ids[key] = past
            self.wanted_ids.update(past)

    def _allow(self, now: datetime) -> None:
        """Let locked counters know what they may use besides their limit."""
        for counter in self.counters.values():
            budget = self.budgets.get(counter.budget_id)
            if budget is not None and budget.counting_version == counter.counting_version:
                counter.raised = budget.raised_at(now)
        for key in self.wanted:
            budget = self.budgets[key.budget_id]
            counter = self.counter(key)
            if budget.rollover is not None and counter.frozen_carry is not None:
                counter.carry = counter.frozen_carry
                self.frozen_ids.add(counter.id)
        self.carry_over()

    def carry_over(self) -> None:
        """Let counters know their carry as the windows before them stand now, if it is not final.

        To be asked for again once those windows have moved, before anything is decided.
        """
        for key in self.past_ids:
            counter, budget = self.counter(key), self.budgets[key.budget_id]
            if counter.frozen_carry is None:
                window_at = budget.window.period_at
                counter.carry = carry_into(
                    counter.period.start, self._past(key), budget.terms, window_at
                )

    def _final_carries(self) -> dict[int, int]:
        """Give the carries, by counter id, that nothing changes from now on."""
        final: dict[int, int] = {}
        if self.now is None:
            return final
        self.carry_over()
        for key in self.past_ids:
            counter = self.counter(key)
            start = counter.period.start
            if counter.frozen_carry is None and may_freeze(start, self._past(key), self.now):
                final[counter.id] = counter.carry
        return final

    def _past(self, key: CounterKey) -> list[PastWindow]:
        known = [self.counters[counter_id] for counter_id in self.past_ids[key]]
        return [
            PastWindow(each.period.start, each.settled, each.held, each.frozen_carry)
            for each in known
        ]

    def _want_todays(self, now: datetime) -> None:
        """Ask for today's counter wherever a day is wanted that the limit of today applies to."""
        for key in list(self.wanted):
            rolling = self._rolling_of(key.budget_id, key.counting_version, now)
            if rolling is not None and key.window_start >= rolling.first:
                for day in rolling.todays:
                    self.wanted.setdefault(key._replace(window_start=day.start), day)

    def _add_other_days(self, now: datetime) -> None:
        """Let today's counters know what the other days hold; these are summed in one query."""
        days: dict[tuple[str, int, str], list[Counter]] = {}
        asked: dict[int, datetime] = {}
        for counter in self.counters.values():
            rolling = self._rolling_of(counter.budget_id, counter.counting_version, now)
            if rolling is None or counter.period.start < rolling.first:
                continue
            name = (counter.budget_id, counter.counting_version, counter.split_key)
            days.setdefault(name, []).append(counter)
            if counter.period.contains(now):
                asked[counter.id] = rolling.first
        sums = sum_other_days(self.session, asked) if asked else {}
        for locked in days.values():
            today = next((counter for counter in locked if counter.id in asked), None)
            if today is not None:
                others = tuple(counter for counter in locked if counter is not today)
                today.other_days = _other_days(sums.get(today.id, (0, 0)), others)
                self.todays.update((counter.id, today) for counter in locked)

    def _rolling_of(self, budget_id: str, counting_version: int, now: datetime) -> Rolling | None:
        """Give the days of the budget, None unless it rolls and its counters have that version."""
        budget = self.budgets.get(budget_id)
        if budget is None or not budget.window.rolling_days:
            return None
        if budget.counting_version != counting_version:
            return None
        if budget_id not in self.rolling:
            self.rolling[budget_id] = _rolling_at(budget, now)
        return self.rolling[budget_id]

    def _row_of(self, key: CounterKey) -> dict[str, object]:
        return {**key._asdict(), "window_end": self.wanted[key].end, "settled": 0, "held": 0}


def _rolling_at(budget: Budget, now: datetime) -> Rolling:
    """Give the first day, and today, after the day before in ``HANDOVER``, where they count."""
    span = budget.window.span_at(now)
    days = {budget.period_counted_at(instant) for instant in (now, now - HANDOVER)}
    todays = sorted(day for day in days if day is not None)
    return Rolling(span.start if span is not None else FAR_FUTURE, tuple(todays))


def _other_days(sums: tuple[int, int], others: tuple[Counter, ...]) -> OtherDays:
    """Give what all other days hold, as sums, without those that are locked and may move."""
    settled, held = sums
    return OtherDays(
        settled - sum(counter.settled for counter in others),
        held - sum(counter.held for counter in others),
        others,
    )


@lru_cache(MAX_KEY_TEXTS)
def key_text(split: tuple[str, ...]) -> str:
    """Give the stored form of split values."""
    return json.dumps(split, ensure_ascii=False) if split else "[]"


def split_values_of(split_key: str) -> tuple[str, ...]:
    """Give the split values that a counter's key holds."""
    return tuple(json.loads(split_key))


def split_and_operation(budget: Budget, split_key: str) -> tuple[tuple[str, ...], str | None]:
    """Give the split values of a counter's key, and the operation where each has a window."""
    values = split_values_of(split_key)
    return (values[:-1], values[-1]) if budget.window.per_operation else (values, None)

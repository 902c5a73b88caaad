"""The counters one transaction works on.

Which are wanted, locked once in key order, moved in memory, written back.

It owns the path from a budget match and an instant to a locked counter, and the thresholds crossed
on the way. It refuses to decide anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

from sqlmodel import Session

from tokenbudget.domain.budgets import (
    FAR_FUTURE,
    Budget,
    BudgetMatch,
    Counter,
    ThresholdOn,
    crossed_thresholds,
)
from tokenbudget.domain.periods import Period
from tokenbudget.store.budgets import (
    CounterKey,
    add_counters,
    find_counter_ids,
    lock_counters,
    write_counters,
)

MAX_KEY_TEXTS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Crossing:
    """A counter that moved over thresholds of its budget, lowest first."""

    budget: Budget
    counter: Counter
    thresholds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Aim:
    """Where usage of every instant of ``period`` counts; the key is None where it does not."""

    period: Period
    keys: tuple[tuple[BudgetMatch, CounterKey | None], ...]
    wanted: Mapping[CounterKey, Period]


class Aimed(Protocol):
    """Anything that knows which budgets match it, and remembers its last aim."""

    matches: tuple[BudgetMatch, ...]
    aim: Aim | None


@dataclass(slots=True)
class CounterBook:
    """The counters of one transaction.

    ``counter_ids`` is the worker's memory of ids and may be incomplete.
    """

    session: Session
    budgets: Mapping[str, Budget]
    counter_ids: dict[CounterKey, int]
    wanted: dict[CounterKey, Period] = field(default_factory=dict)
    wanted_ids: set[int] = field(default_factory=set)
    counters: dict[int, Counter] = field(default_factory=dict)
    before: dict[int, tuple[int, int]] = field(default_factory=dict)
    periods: dict[str, Period] = field(default_factory=dict)

    def key_of(self, match: BudgetMatch, instant: datetime) -> CounterKey | None:
        """Give the counter for usage of this instant, None when the budget does not count it."""
        budget = match.budget
        period = self.periods.get(budget.id)
        if period is None or not period.contains(instant):
            period = budget.period_counted_at(instant)
            if period is None:
                return None
            self.periods[budget.id] = period
        key = CounterKey(budget.id, budget.counting_version, key_text(match.split), period.start)
        self.wanted[key] = period
        return key

    def keys_of(
        self, target: Aimed, instant: datetime
    ) -> tuple[tuple[BudgetMatch, CounterKey | None], ...]:
        """Give the counter of every match for usage of this instant; targets remember it."""
        aim = target.aim
        if aim is None or not aim.period.contains(instant):
            aim = target.aim = self._aim_at(target.matches, instant)
        self.wanted.update(aim.wanted)
        return aim.keys

    def _aim_at(self, matches: Sequence[BudgetMatch], instant: datetime) -> Aim:
        keys = tuple((match, self.key_of(match, instant)) for match in matches)
        windows = [match.budget.window.period_at(instant) for match in matches]
        # Outside a fixed range nothing says how long that stays so: the aim holds for an instant.
        known = [window or Period(instant, instant + timedelta.resolution) for window in windows]
        start = max((window.start for window in known), default=instant)
        end = min((window.end for window in known), default=FAR_FUTURE)
        return Aim(
            period=Period(start, end),
            keys=keys,
            wanted={key: self.wanted[key] for _, key in keys if key is not None},
        )

    def want_ids(self, counter_ids: Iterable[int]) -> None:
        """Ask for counters that a hold names."""
        self.wanted_ids.update(counter_ids)

    def lock(self) -> None:
        """Create what does not exist yet and lock all that is wanted, once."""
        unknown = [key for key in self.wanted if key not in self.counter_ids]
        if unknown:
            found = find_counter_ids(self.session, unknown)
            missing = [key for key in unknown if key not in found]
            if missing:
                add_counters(self.session, [self._row_of(key) for key in missing])
                found.update(find_counter_ids(self.session, missing))
            self.counter_ids.update(found)
        ids = {self.counter_ids[key] for key in self.wanted} | self.wanted_ids
        self.counters = lock_counters(self.session, ids)
        self.before = {
            counter.id: (counter.settled, counter.held) for counter in self.counters.values()
        }

    def counter(self, key: CounterKey) -> Counter:
        """Give a locked counter."""
        return self.counters[self.counter_ids[key]]

    def write(self) -> list[Crossing]:
        """Write back what moved and give the thresholds that were crossed."""
        moved = list(self._moved())
        write_counters(self.session, moved)
        return [crossing for counter in moved if (crossing := self._crossing_of(counter))]

    def _moved(self) -> Iterator[Counter]:
        for counter in self.counters.values():
            if (counter.settled, counter.held) != self.before[counter.id]:
                yield counter

    def _crossing_of(self, counter: Counter) -> Crossing | None:
        budget = self.budgets.get(counter.budget_id)
        if budget is None or budget.counting_version != counter.counting_version:
            return None
        settled, held = self.before[counter.id]
        before = settled if budget.threshold_on is ThresholdOn.ACTUAL else settled + held
        crossed = crossed_thresholds(budget, before, counter.measured(budget.threshold_on))
        return Crossing(budget, counter, crossed) if crossed else None

    def _row_of(self, key: CounterKey) -> dict[str, object]:
        return {**key._asdict(), "window_end": self.wanted[key].end, "settled": 0, "held": 0}


@lru_cache(MAX_KEY_TEXTS)
def key_text(split: tuple[str, ...]) -> str:
    """Give the stored form of split values."""
    return json.dumps(split, ensure_ascii=False) if split else "[]"


def split_values_of(split_key: str) -> tuple[str, ...]:
    """Give the split values that a counter's key holds."""
    return tuple(json.loads(split_key))

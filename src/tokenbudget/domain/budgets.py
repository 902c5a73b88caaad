"""What a budget is, what it matches and when it is used up.

It owns windows, headroom, crossings and the forecast.

It refuses to store or fetch anything: counters are handed in, locked by the caller, and decided on
in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from tokenbudget.domain.allowances import Raise, Rollover, Terms, raised_by
from tokenbudget.domain.periods import EPOCH, Period, Window, window_at
from tokenbudget.domain.spans import last_days

BASIS_POINTS: Final = 10_000
FAR_FUTURE: Final = datetime(9999, 1, 1, tzinfo=UTC)
LIFETIME: Final = Period(EPOCH, FAR_FUTURE)
FORECAST_HISTORY: Final = timedelta(weeks=4)
HOUR: Final = timedelta(hours=1)


class Unit(StrEnum):
    """What a budget counts."""

    MONEY = "money"
    TOKENS = "tokens"
    REQUESTS = "requests"


class Mode(StrEnum):
    """What a budget does to a check it cannot afford: deny, warn, or only record."""

    HARD = "hard"
    SOFT = "soft"
    SHADOW = "shadow"


class ThresholdOn(StrEnum):
    """What thresholds compare with the limit: what is spent, what is spent and held, the forecast.

    Nothing that is posted crosses a threshold on the forecast; working out the forecast does.
    """

    ACTUAL = "actual"
    COMMITTED = "committed"
    FORECAST = "forecast"


class HasDimensions(Protocol):
    """Anything that can tell the value of a dimension or tag."""

    def value(self, dimension: str) -> str | None:
        """Give the value, or None when there is none."""


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """When a budget's counting starts anew: a calendar window of its zone, or one fixed period.

    Years, and the quarters they are divided into, begin with ``first_month``. A window that rolls
    counts by the calendar day and looks at the last ``rolling_days`` of them, today included; it is
    0 for all others. Where ``per_operation``, every operation has a window of its own, for ever.
    """

    calendar: Window | None
    fixed: Period | None
    timezone: str = "UTC"
    first_month: int = 1
    rolling_days: int = 0
    per_operation: bool = False

    @property
    def is_rate(self) -> bool:
        """Tell whether the limit is a rate: so much a minute."""
        return self.calendar is Window.MINUTE

    def period_at(self, instant: datetime) -> Period | None:
        """Give the window that holds the instant, None outside of a fixed range."""
        if self.calendar is not None:
            return window_at(self.calendar, instant, self.timezone, self.first_month)
        return self.fixed if self.fixed is not None and self.fixed.contains(instant) else None

    def span_at(self, instant: datetime) -> Period | None:
        """Give all that the limit applies to at the instant: the window, or all days that roll."""
        if self.rolling_days:
            return last_days(instant, self.rolling_days, self.timezone)
        return self.period_at(instant)


@dataclass(frozen=True, slots=True)
class Budget:
    """One version of a budget. ``limit`` and ``overdraft`` are nanos, tokens or requests.

    Thresholds basis points.

    ``counting_version`` is the version in which selector, split, unit or window last changed:
    counters belong to it. A window that was under way when counting began starts from what it
    already holds, or from zero when ``counts_from_window`` is false. A window an operation starts
    from zero: it counts usage with ids above ``after_usage_id``, the last when counting began.

    ``terms`` is the history that a carry is worked out by, in order of time; it is empty where no
    version of this counting carries anything.
    """

    id: str
    version: int
    counting_version: int
    selector: Mapping[str, frozenset[str]]
    split_by: tuple[str, ...]
    unit: Unit
    limit: int
    window: BudgetWindow
    window_text: str
    mode: Mode
    thresholds: tuple[int, ...]
    threshold_on: ThresholdOn
    overdraft: int
    counts_from_window: bool
    fails_open: bool
    owner: str | None
    channels: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None = None
    rollover: Rollover | None = None
    raises: tuple[Raise, ...] = ()
    terms: tuple[Terms, ...] = ()
    after_usage_id: int = 0

    @property
    def has_allowances(self) -> bool:
        """Tell whether its counters may have more to use, or less, than the limit."""
        return self.rollover is not None or bool(self.raises)

    def raised_at(self, instant: datetime) -> int:
        """Give what raises in force at the instant add to the limit."""
        return raised_by(self.raises, instant)

    def matches(self, dimensions: HasDimensions) -> bool:
        """Tell whether every condition of the selector holds."""
        return all(dimensions.value(name) in accepted for name, accepted in self.selector.items())

    def split_values(self, dimensions: HasDimensions) -> tuple[str, ...]:
        """Give the values that pick the counter; a missing value counts under the empty string."""
        return tuple(dimensions.value(name) or "" for name in self.split_by)

    def is_in_force(self, instant: datetime) -> bool:
        """Tell whether this budget decides at the instant."""
        return self.valid_from <= instant and (self.valid_to is None or instant < self.valid_to)

    def counts_window(self, window: Period) -> bool:
        """Tell whether usage in the window counts: in all of it, if validity touches it at all.

        Of a window that rolls, that is every day it looks back on when validity begins.
        """
        begins = self.valid_from
        if self.window.rolling_days:
            begins = last_days(begins, self.window.rolling_days, self.window.timezone).start
        has_begun = begins < window.end
        return has_begun and (self.valid_to is None or window.start < self.valid_to)

    def period_counted_at(self, instant: datetime) -> Period | None:
        """Give the window in which usage of this instant counts, None when it counts in none."""
        window = self.window.period_at(instant)
        return window if window is not None and self.counts_window(window) else None


@dataclass(slots=True)
class Counter:
    """Settled and held of one budget, split and window, as locked by the deciding transaction.

    ``other_days`` is only there for today's counter of a window that rolls. ``carry`` is what
    earlier windows left to this one, and ``raised`` what raises add to the limit now, as worked out
    for this transaction; ``frozen_carry`` is the carry once it is final.
    """

    id: int
    budget_id: str
    counting_version: int
    split_key: str
    period: Period
    settled: int
    held: int
    other_days: OtherDays | None = None
    frozen_carry: int | None = None
    carry: int = 0
    raised: int = 0

    @property
    def all_settled(self) -> int:
        """Give what is settled in all that the limit applies to."""
        return (
            self.settled if self.other_days is None else self.settled + self.other_days.all_settled
        )

    @property
    def all_held(self) -> int:
        """Give what is held in all that the limit applies to."""
        return self.held if self.other_days is None else self.held + self.other_days.all_held

    def headroom(self, limit: int) -> int:
        """Give what is left of the limit, the carry and the raises; negative after an overage."""
        left = limit + self.carry + self.raised - self.settled - self.held
        if self.other_days is None:
            return left
        return left - self.other_days.all_settled - self.other_days.all_held

    def measured(self, threshold_on: ThresholdOn) -> int:
        """Give the figure that thresholds on what is posted are compared with."""
        settled = self.all_settled
        return settled if threshold_on is ThresholdOn.ACTUAL else settled + self.all_held


@dataclass(frozen=True, slots=True)
class OtherDays:
    """What a window that rolls looks at besides today, in the budget's unit.

    ``settled`` and ``held`` are the sums of the days that nothing moves in this transaction;
    ``counters`` are those of the days that may move in it, so they are asked each time.
    """

    settled: int
    held: int
    counters: tuple[Counter, ...] = ()

    @property
    def all_settled(self) -> int:
        """Give what is settled in these days now."""
        return self.settled + sum(counter.settled for counter in self.counters)

    @property
    def all_held(self) -> int:
        """Give what is held in these days now."""
        return self.held + sum(counter.held for counter in self.counters)


@dataclass(frozen=True, slots=True)
class BudgetMatch:
    """A budget that applies to some dimensions, and the split values that pick its counter."""

    budget: Budget
    split: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """How one window of a budget stands.

    ``forecast`` is None when there is no history to go by, or when the window rolls and never ends.
    ``operation_ref`` names the operation where each has a window of its own.
    """

    budget: Budget
    split: tuple[str, ...]
    period: Period
    settled: int
    held: int
    headroom: int
    forecast: int | None
    carry: int = 0
    raised: int = 0
    operation_ref: str | None = None


@dataclass(slots=True)
class BudgetIndex:
    """Budgets arranged so that matching looks only at those that share a value with the usage."""

    by_value: dict[tuple[str, str], list[Budget]] = field(default_factory=dict)
    unconditional: list[Budget] = field(default_factory=list)
    indexed_names: tuple[str, ...] = ()

    @classmethod
    def build(cls, budgets: Iterable[Budget]) -> BudgetIndex:
        """Give an index in which each budget stands under the values of one of its conditions."""
        index = cls()
        for budget in sorted(budgets, key=lambda budget: budget.id):
            if not budget.selector:
                index.unconditional.append(budget)
                continue
            name = min(budget.selector, key=lambda name: (len(budget.selector[name]), name))
            for value in budget.selector[name]:
                index.by_value.setdefault((name, value), []).append(budget)
        index.indexed_names = tuple(sorted({name for name, _ in index.by_value}))
        return index

    def match(self, dimensions: HasDimensions) -> tuple[BudgetMatch, ...]:
        """Give every budget whose selector holds, in order of id."""
        found = list(self.unconditional)
        for name in self.indexed_names:
            value = dimensions.value(name)
            if value is not None:
                candidates = self.by_value.get((name, value), ())
                found.extend(budget for budget in candidates if budget.matches(dimensions))
        found.sort(key=lambda budget: budget.id)
        return tuple(BudgetMatch(budget, budget.split_values(dimensions)) for budget in found)


def crossed_thresholds(
    budget: Budget, before: int, after: int, *, raised: int = 0
) -> tuple[int, ...]:
    """Give the thresholds (basis points, rising) with before < threshold x limit <= after.

    Raises in force are part of the limit, a carry is not. Of no limit at all, the least that is
    spent crosses every threshold.
    """
    limit = budget.limit + raised
    if not budget.thresholds or not is_reached(min(budget.thresholds), limit, after):
        # Mostly so, and asked of every counter that moves.
        return ()
    return tuple(
        threshold
        for threshold in sorted(budget.thresholds)
        if not is_reached(threshold, limit, before) and is_reached(threshold, limit, after)
    )


def is_reached(threshold: int, limit: int, figure: int) -> bool:
    """Tell whether a figure has come to a threshold (basis points of the limit)."""
    return figure * BASIS_POINTS >= max(1, threshold * limit)


def forecast_at_end(
    *,
    committed: int,
    period: Period,
    now: datetime,
    hourly_history: Mapping[datetime, int],
    history_start: datetime,
) -> int | None:
    """Give what the window is expected to end at.

    What is committed plus the usual burn of each hour that is left.

    The burn of an hour is the median of the same weekday and hour (UTC) since ``history_start``, at
    most four weeks back. ``hourly_history`` maps the start of each UTC hour to what was spent in
    it; hours without spend may be missing and count as zero. None when there is less than one hour
    of history or the window has no end.
    """
    first_hour = _hour_of(max(history_start, now - FORECAST_HISTORY))
    current_hour = _hour_of(now)
    if first_hour >= current_hour or period.end >= FAR_FUTURE:
        return None
    burns = _usual_burns(hourly_history, first_hour, current_hour)
    overall = sum(hourly_history.values()) // max(1, (current_hour - first_hour) // HOUR)
    expected = committed
    hour = current_hour
    while hour < period.end:
        burn = burns.get((hour.weekday(), hour.hour), overall)
        seconds_left = (min(hour + HOUR, period.end) - max(hour, now)).total_seconds()
        expected += burn * max(0, int(seconds_left)) // 3600
        hour += HOUR
    return expected


def _usual_burns(
    hourly_history: Mapping[datetime, int], first_hour: datetime, current_hour: datetime
) -> dict[tuple[int, int], int]:
    samples: dict[tuple[int, int], list[int]] = {}
    hour = first_hour
    while hour < current_hour:
        samples.setdefault((hour.weekday(), hour.hour), []).append(hourly_history.get(hour, 0))
        hour += HOUR
    return {slot: _median(values) for slot, values in samples.items()}


def _median(values: Sequence[int]) -> int:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _hour_of(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)

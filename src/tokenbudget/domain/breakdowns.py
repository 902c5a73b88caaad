"""Spend cut into parts that add up as shown.

It owns cents by largest remainder, lines with a rest line, and days.

It takes folded cost rows and refuses to fetch them. Amounts keep their exact nanos beside the cents
they are shown with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tokenbudget.domain.cost_folding import total
from tokenbudget.domain.costs import CostRow, Group
from tokenbudget.domain.money import divide_half_even

NANOS_PER_CENT: Final = 10**7
TENTHS_OF_PERCENT: Final = 1000


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact amount in nanos, and the cents it is shown with.

    The cents may differ by one from the amount's own rounding, so that parts add to their total.
    """

    nanos: int
    cents: int

    def __sub__(self, other: Amount) -> Amount:
        """Give the difference of what is exact and of what is shown."""
        return Amount(self.nanos - other.nanos, self.cents - other.cents)


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a breakdown, now and in the period before.

    ``share`` is tenths of a percent of the spend now. ``merged`` counts the parts a rest line
    stands for; it is zero on a line of its own.
    """

    group: Group
    now: CostRow
    before: CostRow
    amount: Amount
    amount_before: Amount
    share: int
    merged: int = 0

    @property
    def change(self) -> Amount:
        """Give what was spent more than before."""
        return self.amount - self.amount_before

    @property
    def is_unpriced(self) -> bool:
        """Tell whether nothing of it has a price, so that its amount is unknown and not zero."""
        return 0 < self.now.requests == self.now.unpriced_requests


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Lines whose shown amounts add to the shown amounts of ``total``, the rest line last."""

    lines: tuple[Line, ...]
    total: Line


@dataclass(frozen=True, slots=True)
class DaySeries:
    """Shown cents of one team on each day, in order of days.

    ``merged`` counts the teams a rest series stands for; it is zero on a series of its own.
    """

    team: str
    cents: tuple[int, ...]
    merged: int = 0

    @property
    def total_cents(self) -> int:
        """Give the cents of all days."""
        return sum(self.cents)


@dataclass(frozen=True, slots=True)
class DailySpend:
    """Spend a day and team; a day's shown cents are the sum of its teams' shown cents."""

    days: tuple[datetime, ...]
    series: tuple[DaySeries, ...]

    @property
    def day_cents(self) -> tuple[int, ...]:
        """Give the cents of each day over all teams."""
        return tuple(
            sum(series.cents[day] for series in self.series) for day in range(len(self.days))
        )

    @property
    def total_cents(self) -> int:
        """Give the cents of all days and teams."""
        return sum(series.total_cents for series in self.series)


def rounded_amount(nanos: int) -> Amount:
    """Give the amount with its own cents, rounded half to even: for totals, never for parts."""
    return Amount(nanos, divide_half_even(nanos, NANOS_PER_CENT))


def round_parts(parts: Sequence[int], *, unit: int, target: int) -> list[int]:
    """Give each part in whole units, by largest remainder, so that they sum to ``target``.

    Parts may be negative. ``target`` should be their sum in units, rounded either way; whatever
    else is missing is dealt out evenly. No parts give no units.
    """
    if not parts:
        return []
    rounded = [part // unit for part in parts]
    everywhere, extra = divmod(target - sum(rounded), len(parts))
    by_remainder = sorted(range(len(parts)), key=lambda index: (-(parts[index] % unit), index))
    favoured = set(by_remainder[:extra])
    return [whole + everywhere + (index in favoured) for index, whole in enumerate(rounded)]


def fold_by(rows: Iterable[CostRow], key: Callable[[CostRow], Group]) -> dict[Group, CostRow]:
    """Give the sum of the rows that share a key."""
    gathered: dict[Group, list[CostRow]] = {}
    for row in rows:
        gathered.setdefault(key(row), []).append(row)
    return {group: total(members) for group, members in gathered.items()}


def by_spend(now: CostRow, before: CostRow) -> int:
    """Give the weight that puts what costs most now first; ``before`` does not count."""
    return now.effective_nanos


def by_size_of_change(now: CostRow, before: CostRow) -> int:
    """Give the weight that puts what moved most, up or down, first."""
    return abs(now.effective_nanos - before.effective_nanos)


def break_down(
    now: Mapping[Group, CostRow],
    before: Mapping[Group, CostRow],
    *,
    limit: int,
    weight: Callable[[CostRow, CostRow], int] = by_spend,
) -> Breakdown:
    """Give the ``limit`` heaviest groups and one rest line for all others, each now and before."""
    pairs = {
        group: (now.get(group, CostRow()), before.get(group, CostRow()))
        for group in now.keys() | before.keys()
    }
    ranked = sorted(pairs, key=lambda group: (-weight(*pairs[group]), _named(group)))
    # A rest of one would hide a name and save no line.
    shown = ranked if len(ranked) <= limit + 1 else ranked[:limit]
    entries = [(group, *pairs[group], 0) for group in shown]
    rest = ranked[len(shown) :]
    if rest:
        rest_now = total(pairs[group][0] for group in rest)
        rest_before = total(pairs[group][1] for group in rest)
        entries.append(((), rest_now, rest_before, len(rest)))
    return _priced(entries)


def spend_by_day(
    rows: Sequence[CostRow], days: Sequence[datetime], teams: Breakdown, *, limit: int
) -> DailySpend:
    """Give each team's spend a day, in cents that add to what the team's line shows.

    The rows are grouped by team alone and start at their day. Beyond the ``limit`` costliest teams
    the others become one series. Teams that cost less than a cent have none.
    """
    costly = [line for line in teams.lines if line.amount.cents]
    team_count = sum(max(line.merged, 1) for line in costly)
    own_lines = [line for line in costly if not line.merged]
    shown = own_lines if team_count <= limit + 1 else own_lines[:limit]
    shown_teams = {line.group for line in shown}
    nanos: dict[tuple[Group, datetime | None], int] = {}
    for row in rows:
        key = (row.group if row.group in shown_teams else (), row.start)
        nanos[key] = nanos.get(key, 0) + row.effective_nanos
    series = [
        _day_series(
            line.group, [nanos.get((line.group, day), 0) for day in days], line.amount.cents
        )
        for line in shown
    ]
    if team_count > len(shown):
        rest_cents = teams.total.amount.cents - sum(each.total_cents for each in series)
        rest = _day_series((), [nanos.get(((), day), 0) for day in days], rest_cents)
        series.append(replace(rest, merged=team_count - len(shown)))
    return DailySpend(tuple(days), tuple(series))


def _day_series(group: Group, nanos: Sequence[int], cents: int) -> DaySeries:
    parts = round_parts(nanos, unit=NANOS_PER_CENT, target=cents)
    return DaySeries("".join(value or "" for value in group), tuple(parts))


def _priced(entries: Sequence[tuple[Group, CostRow, CostRow, int]]) -> Breakdown:
    whole_now = total(now for _, now, _, _ in entries)
    whole_before = total(before for _, _, before, _ in entries)
    total_line = Line(
        group=(),
        now=whole_now,
        before=whole_before,
        amount=rounded_amount(whole_now.effective_nanos),
        amount_before=rounded_amount(whole_before.effective_nanos),
        share=TENTHS_OF_PERCENT if whole_now.effective_nanos else 0,
    )
    amounts = _shown([now for _, now, _, _ in entries], total_line.amount)
    amounts_before = _shown([before for _, _, before, _ in entries], total_line.amount_before)
    shares = _shares([amount.nanos for amount in amounts])
    lines = tuple(
        Line(group, now, before, amount, amount_before, share, merged)
        for (group, now, before, merged), amount, amount_before, share in zip(
            entries, amounts, amounts_before, shares, strict=True
        )
    )
    return Breakdown(lines, total_line)


def _shown(rows: Sequence[CostRow], whole: Amount) -> list[Amount]:
    nanos = [row.effective_nanos for row in rows]
    cents = round_parts(nanos, unit=NANOS_PER_CENT, target=whole.cents)
    return [Amount(exact, shown) for exact, shown in zip(nanos, cents, strict=True)]


def _shares(nanos: Sequence[int]) -> list[int]:
    whole = sum(nanos)
    if whole <= 0:
        return [0] * len(nanos)
    tenths = [part * TENTHS_OF_PERCENT for part in nanos]
    return round_parts(tenths, unit=whole, target=TENTHS_OF_PERCENT)


def _named(group: Group) -> tuple[str, ...]:
    return tuple(value or "" for value in group)

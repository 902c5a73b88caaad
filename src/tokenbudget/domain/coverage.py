"""What was invoiced and nobody reported, name by name, and how much of a team's spend is tracked.

It owns these sums; it refuses to compare (``reconciliation.py``) and to say whose traffic it is
(``likely_owners.py``). What a row leaves untracked falls on the names of its lines in proportion to
how far each was billed above what was metered under it. Amounts are integer nanos of the ledger
currency.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.likely_owners import Ref, ref_of
from tokenbudget.domain.money import decimal_to_nanos, divide_half_even, split
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.reconciliation import MeteredCost, Reconciliation
from tokenbudget.domain.statements import UNTRACKED_OWNER
from tokenbudget.domain.variances import BASIS_POINTS, TOLERANCE_BASIS_POINTS, ZERO, Verdict

TeamOf = Callable[[BilledCost], str | None]
"""Gives the team that a line's traffic is mapped to, None for nobody's."""


@dataclass(slots=True)
class Untracked:
    """What one name has that nobody reported; days are UTC, ``last`` included.

    ``amount_nanos`` is what bills show, ``tokens`` (input and output) what the provider's own
    reports show beyond what was metered.
    """

    ref: Ref
    amount_nanos: int = 0
    tokens: int = 0
    first: date = date.max
    last: date = date.min
    models: set[str] = field(default_factory=set)

    def see(self, period: Period) -> None:
        """Take note of when there was traffic."""
        self.first = min(self.first, period.start.date())
        self.last = max(self.last, (period.end - timedelta.resolution).date())


@dataclass(frozen=True, slots=True)
class Reported:
    """What a provider says was used under one name in a time."""

    ref: Ref
    period: Period
    tokens: int


@dataclass(frozen=True, slots=True)
class Sides:
    """What was metered and invoiced of a month, and how it compares."""

    metered: Sequence[MeteredCost]
    lines: Sequence[BilledCost]
    result: Reconciliation


@dataclass(slots=True)
class Coverage:
    """What was invoiced for a team in a time, tracked or not."""

    tracked_nanos: int = 0
    untracked_nanos: int = 0

    @property
    def basis_points(self) -> int | None:
        """Give the tracked share in basis points, None where nothing was invoiced."""
        total = self.tracked_nanos + self.untracked_nanos
        return divide_half_even(self.tracked_nanos * BASIS_POINTS, total) if total > 0 else None


CoverageByTeam = dict[tuple[Period, str], Coverage]


def find_untracked(sides: Sides) -> dict[Ref, Untracked]:
    """Give what is untracked on bills by name; the amounts add up to the rows' variances."""
    found: dict[Ref, Untracked] = {}
    for line, nanos in zip(sides.lines, untracked_by_line(sides), strict=True):
        if nanos == 0:
            continue
        ref = ref_of(line)
        item = found.setdefault(ref, Untracked(ref))
        item.amount_nanos += nanos
        item.see(line.period)
        if line.model is not None:
            item.models.add(line.model)
    return found


def untracked_by_line(sides: Sides) -> list[int]:
    """Give for each line how many nanos of it stand for traffic that nobody reported."""
    rows = sides.result.rows
    metered: dict[int, Counter[str | None]] = defaultdict(Counter)
    for cost, place in zip(sides.metered, sides.result.metered_rows, strict=True):
        if rows[place].is_untracked:
            metered[place][cost.account] += cost.effective_nanos
    members: dict[int, list[int]] = defaultdict(list)
    for index, row_place in enumerate(sides.result.line_rows):
        if row_place is not None and rows[row_place].is_untracked:
            members[row_place].append(index)
    shares = [0] * len(sides.lines)
    for place, indices in members.items():
        indices.sort(key=lambda index: _line_order(sides.lines[index]))
        listed = [sides.lines[index] for index in indices]
        names = [_counted_name(ref_of(line), metered[place]) for line in listed]
        amounts = [decimal_to_nanos(line.amount) for line in listed]
        total = decimal_to_nanos(rows[place].variance)
        parts = apportion(total, list(zip(names, amounts, strict=True)), metered[place])
        for index, part in zip(indices, parts, strict=True):
            shares[index] = part
    return shares


def add_reported(
    found: dict[Ref, Untracked], reported: Iterable[Reported], metered: Iterable[MeteredCost]
) -> None:
    """Add the tokens that providers report beyond what was metered in the same days, by name.

    What is within the usual tolerance of a provider's own figure is none.
    """
    by_provider: dict[str, list[Reported]] = defaultdict(list)
    for item in reported:
        by_provider[item.ref.provider].append(item)
    costs: dict[str, list[MeteredCost]] = defaultdict(list)
    for cost in metered:
        if cost.provider in by_provider:
            costs[cost.provider].append(cost)
    for provider, items in by_provider.items():
        items.sort(key=lambda item: (item.ref.order, item.period))
        _add_reported(found, items, costs[provider])


def apportion(
    total: int, items: Sequence[tuple[str | None, int]], counted: Mapping[str | None, int]
) -> list[int]:
    """Give the parts of a total by how far each name's items exceed what was counted of it.

    Within a name by the items themselves. The parts sum to the total.
    """
    members: dict[str | None, list[int]] = defaultdict(list)
    for place, (name, _) in enumerate(items):
        members[name].append(place)
    sums = {name: sum(items[place][1] for place in places) for name, places in members.items()}
    weights = [max(0, sums[name] - counted.get(name, 0)) for name in members]
    parts = [0] * len(items)
    for part, places in zip(split(total, weights), members.values(), strict=True):
        within = split(part, [max(0, items[place][1]) for place in places])
        for place, share in zip(places, within, strict=True):
            parts[place] = share
    return parts


def cover_teams(sides: Sides, team_of: TeamOf, window: Window) -> CoverageByTeam:
    """Give what was tracked and what was not for each team and UTC window.

    What nobody is known to own is that of the owner *Untracked*. Usage on an invoice within
    tolerance has tracked the whole of it.
    """
    coverage: CoverageByTeam = defaultdict(Coverage)
    windows = _Windows(window)
    for period, team, nanos in _tracked(sides, windows):
        coverage[period, team].tracked_nanos += nanos
    for line, nanos in zip(sides.lines, untracked_by_line(sides), strict=True):
        if nanos:
            team = team_of(line) or UNTRACKED_OWNER
            coverage[windows.holding(line.period), team].untracked_nanos += nanos
    return dict(coverage)


@dataclass(slots=True)
class _Windows:
    window: Window
    known: dict[Period, Period] = field(default_factory=dict)

    def holding(self, period: Period) -> Period:
        """Give the window in which the period begins."""
        found = self.known.get(period)
        if found is None:
            found = self.known[period] = window_at(self.window, period.start, "UTC")
        return found


def _tracked(sides: Sides, windows: _Windows) -> Iterable[tuple[Period, str, int]]:
    rows = sides.result.rows
    sums: dict[int, Counter[tuple[Period, str]]] = defaultdict(Counter)
    for cost, place in zip(sides.metered, sides.result.metered_rows, strict=True):
        key = (windows.holding(cost.period), cost.bearer.team)
        sums[place][key] += cost.effective_nanos
    for place, by_key in sums.items():
        row = rows[place]
        if row.verdict in (Verdict.MISSING_BILL, Verdict.OPEN) or row.invoiced is None:
            continue
        keys = sorted(by_key)
        nanos = [max(0, by_key[key]) for key in keys]
        if row.verdict is not Verdict.UNTRACKED and any(nanos):
            nanos = split(decimal_to_nanos(max(ZERO, row.invoiced)), nanos)
        yield from ((period, team, part) for (period, team), part in zip(keys, nanos, strict=True))


def _add_reported(
    found: dict[Ref, Untracked], items: Sequence[Reported], metered: Iterable[MeteredCost]
) -> None:
    start = min(item.period.start for item in items)
    end = max(item.period.end for item in items)
    counted: Counter[str | None] = Counter()
    for cost in metered:
        if start <= cost.period.start < end:
            counted[cost.account] += cost.tokens
    reported = sum(item.tokens for item in items)
    beyond = reported - sum(counted.values())
    if beyond * BASIS_POINTS <= reported * TOLERANCE_BASIS_POINTS:
        return
    named = [(_counted_name(item.ref, counted), item.tokens) for item in items]
    for item, tokens in zip(items, apportion(beyond, named, counted), strict=True):
        if tokens:
            entry = found.setdefault(item.ref, Untracked(item.ref))
            entry.tokens += tokens
            entry.see(item.period)


def _counted_name(ref: Ref, counted: Mapping[str | None, int]) -> str | None:
    """Give the finest name that something was counted under, else the finest there is."""
    names = (ref.api_key, ref.project, ref.account)
    return next((name for name in names if name and name in counted), ref.name)


def _line_order(line: BilledCost) -> tuple[object, ...]:
    texts = (line.model, line.usage_type, line.description)
    return (ref_of(line).order, line.period, line.amount, *(text or "" for text in texts))

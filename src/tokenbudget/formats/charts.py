"""The geometry of charts.

It owns where bars, ticks and marks stand, in whole user units of an SVG; it refuses markup.

Lengths are integers, so that a chart is the same on every machine. y grows downwards, as in SVG.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED
from tokenbudget.domain.breakdowns import DailySpend, DaySeries
from tokenbudget.domain.budgets import BudgetStanding

CHART_WIDTH: Final = 960
CHART_HEIGHT: Final = 280
LEFT_MARGIN: Final = 72
RIGHT_MARGIN: Final = 8
TOP_MARGIN: Final = 12
BOTTOM_MARGIN: Final = 28
WANTED_TICKS: Final = 4
STEP_DIGITS: Final = (1, 2, 5)
MAX_DAY_LABELS: Final = 10
BAR_FILL_PERCENT: Final = 72
MAX_BAR_WIDTH: Final = 64
PALETTE_SIZE: Final = 6
BUDGET_BAR_WIDTH: Final = 240
BUDGET_TICKS: Final = (50, 80, 100)
SPARKLINE_WIDTH: Final = 96
SPARKLINE_HEIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what stands beside it."""

    position: int
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; ``colour`` names a class of the style sheet."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    label: str


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A colour and the name it stands for."""

    colour: str
    label: str


@dataclass(frozen=True, slots=True)
class StackedChart:
    """A stacked bar a day.

    ``baseline`` is the y of zero; ``plot_left`` and ``plot_right`` bound the grid lines.
    """

    width: int
    height: int
    plot_left: int
    plot_right: int
    baseline: int
    bars: tuple[Bar, ...]
    amount_ticks: tuple[Tick, ...]
    day_ticks: tuple[Tick, ...]
    legend: tuple[LegendEntry, ...]


@dataclass(frozen=True, slots=True)
class BudgetBar:
    """What a budget has settled and holds, on a scale that fits limit, use and forecast."""

    width: int
    settled_width: int
    held_width: int
    limit_x: int
    ticks: tuple[Tick, ...]
    forecast_x: int | None


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The points of one small line, as SVG wants them."""

    width: int
    height: int
    points: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps cents to y over the plot's height."""

    low: int
    high: int

    def y(self, cents: int) -> int:
        plot_height = CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN
        return TOP_MARGIN + (self.high - cents) * plot_height // (self.high - self.low)


def stacked_days(
    daily: DailySpend,
    *,
    name_day: Callable[[int], str],
    name_cents: Callable[[int], str],
    name_tick: Callable[[int], str],
    name_series: Callable[[DaySeries], str],
) -> StackedChart:
    """Give the chart of spend a day, teams stacked; days below zero hang from the zero line."""
    ticks = _amount_ticks(daily)
    scale = _Scale(ticks[0], ticks[-1])
    colours = series_colours(daily.series)
    plot_right = CHART_WIDTH - RIGHT_MARGIN
    slots = _slots(len(daily.days))
    bars: list[Bar] = []
    for day, (x, width) in enumerate(slots):
        for colour, series, y, height in _stack(daily, day, colours, scale):
            label = f"{name_day(day)}, {name_series(series)}: {name_cents(series.cents[day])}"
            bars.append(Bar(x, y, width, height, colour, label))
    every = -(-len(slots) // MAX_DAY_LABELS) or 1
    return StackedChart(
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        plot_left=LEFT_MARGIN,
        plot_right=plot_right,
        baseline=scale.y(0),
        bars=tuple(bars),
        amount_ticks=tuple(Tick(scale.y(cents), name_tick(cents)) for cents in ticks),
        day_ticks=tuple(
            Tick(x + width // 2, name_day(day))
            for day, (x, width) in enumerate(slots)
            if (len(slots) - 1 - day) % every == 0
        ),
        legend=tuple(
            LegendEntry(colour, name_series(series))
            for colour, series in zip(colours, daily.series, strict=True)
        ),
    )


def series_colours(series: Sequence[DaySeries]) -> list[str]:
    """Give a class a series, by name and not by rank.

    A team keeps its colour while the same teams are shown, whoever spends most. The unallocated
    owner and merged teams are grey.
    """
    named = sorted(each.team for each in series if not each.merged and each.team != UNALLOCATED)
    numbers = {team: number % PALETTE_SIZE + 1 for number, team in enumerate(named)}
    return [_colour(each, numbers) for each in series]


def budget_bar(standing: BudgetStanding) -> BudgetBar:
    """Give the bar of one budget, ticks at 50, 80 and 100% of the limit, and its forecast mark."""
    used = max(standing.settled, 0)
    held = max(standing.held, 0)
    limit = max(standing.budget.limit, 1)
    end = max(limit, used + held, standing.forecast or 0)
    settled_width = _along(used, end)
    return BudgetBar(
        width=BUDGET_BAR_WIDTH,
        settled_width=settled_width,
        held_width=_along(used + held, end) - settled_width,
        limit_x=_along(limit, end),
        ticks=tuple(Tick(_along(limit * share, end * 100), f"{share}%") for share in BUDGET_TICKS),
        forecast_x=None if standing.forecast is None else _along(standing.forecast, end),
    )


def sparkline(values: Sequence[int]) -> Sparkline:
    """Give a line through the values, with zero in its range; fewer than two give no points."""
    low, high = min((0, *values)), max((0, *values))
    span = max(high - low, 1)
    inner = SPARKLINE_HEIGHT - 2
    last = len(values) - 1
    points = " ".join(
        f"{index * SPARKLINE_WIDTH // last},{1 + (high - value) * inner // span}"
        for index, value in enumerate(values)
        if last > 0
    )
    return Sparkline(SPARKLINE_WIDTH, SPARKLINE_HEIGHT, points)


def tick_step(span: int) -> int:
    """Give the smallest step, 1, 2 or 5 times a power of ten, that spans so much in four."""
    power = 1
    while STEP_DIGITS[-1] * power * WANTED_TICKS < span:
        power *= 10
    return next(digit * power for digit in STEP_DIGITS if digit * power * WANTED_TICKS >= span)


def _amount_ticks(daily: DailySpend) -> list[int]:
    columns = [[series.cents[day] for series in daily.series] for day in range(len(daily.days))]
    high = max((sum(max(cents, 0) for cents in column) for column in columns), default=0)
    low = min((sum(min(cents, 0) for cents in column) for column in columns), default=0)
    step = tick_step(max(high - low, 1))
    return list(range(low // step * step, max(-(-high // step), 1) * step + 1, step))


def _slots(days: int) -> list[tuple[int, int]]:
    """Give the x and width of each day's bar."""
    plot_width = CHART_WIDTH - LEFT_MARGIN - RIGHT_MARGIN
    edges = [LEFT_MARGIN + plot_width * day // days for day in range(days + 1)] if days else []
    slots = []
    for left, right in pairwise(edges):
        width = max(1, min(MAX_BAR_WIDTH, (right - left) * BAR_FILL_PERCENT // 100))
        slots.append((left + (right - left - width) // 2, width))
    return slots


def _stack(
    daily: DailySpend, day: int, colours: Sequence[str], scale: _Scale
) -> list[tuple[str, DaySeries, int, int]]:
    """Give colour, series, top and height of each part of a day that is tall enough to be seen."""
    parts = []
    above = below = 0
    for colour, series in zip(colours, daily.series, strict=True):
        cents = series.cents[day]
        lower = above if cents >= 0 else below + cents
        top, bottom = scale.y(lower + abs(cents)), scale.y(lower)
        above, below = above + max(cents, 0), below + min(cents, 0)
        if bottom > top:
            parts.append((colour, series, top, bottom - top))
    return parts


def _colour(series: DaySeries, numbers: dict[str, int]) -> str:
    if series.merged:
        return "series-rest"
    return "series-none" if series.team == UNALLOCATED else f"series-{numbers[series.team]}"


def _along(quantity: int, end: int) -> int:
    return max(0, quantity) * BUDGET_BAR_WIDTH // end

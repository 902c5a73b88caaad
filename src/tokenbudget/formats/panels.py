"""What the page and the weekly report both show.

It owns tiles, the daily chart, budget lines and the words for names.

It refuses markup: a template lays these out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED
from tokenbudget.domain.breakdowns import Breakdown, DailySpend, DaySeries, Line
from tokenbudget.domain.budgets import BudgetStanding
from tokenbudget.formats.charts import BudgetBar, StackedChart, budget_bar, stacked_days
from tokenbudget.formats.display import (
    cents_text,
    counted_text,
    money_text,
    quantity_text,
    share_text,
    short_day_text,
    tenths_text,
    tick_text,
)

ABSENT: Final = "not given"
WARNED_SHARE: Final = Fraction(80, 100)


class BudgetState(StrEnum):
    """How a budget stands, worst first; the value is what people read."""

    SPENT = "limit reached"
    FORECAST = "forecast over"
    WARNED = "above 80%"
    WITHIN = "within"


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure, what it is compared with, and the change; both may be empty."""

    label: str
    value: str
    comparison: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One budget window as shown: its bar, its figures in words and its state."""

    name: str
    window: str
    mode: str
    settled: str
    held: str
    limit: str
    use: str
    forecast: str
    state: BudgetState
    bar: BudgetBar


@dataclass(frozen=True, slots=True)
class BudgetPanel:
    """The budgets most used, and how many more there are in each kind of trouble."""

    lines: tuple[BudgetLine, ...]
    hidden: int
    spent: int
    forecast_over: int


@dataclass(frozen=True, slots=True)
class UnpricedLine:
    """Usage of one model that has no price yet: kept, counted, and not in any amount."""

    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class PriceListVersion:
    """Which price list the figures were rated with, and since when the ledger knows it."""

    sha256: str
    recorded_at: datetime


def value_text(value: str | None) -> str:
    """Give the name of a dimension's value; absent and empty are both said to be not given."""
    return value or ABSENT


def rest_text(merged: int, noun: str) -> str:
    """Give the name of a rest line, such as ``12 other teams``."""
    return counted_text(merged, f"other {noun}")


def series_text(series: DaySeries) -> str:
    """Give the name of a series of the daily chart."""
    return rest_text(series.merged, "team") if series.merged else series.team


def daily_chart(daily: DailySpend, *, timezone: str, currency: str) -> StackedChart:
    """Give the chart of spend a day by team."""
    return stacked_days(
        daily,
        name_day=lambda day: short_day_text(daily.days[day], timezone),
        name_cents=lambda cents: cents_text(cents, currency),
        name_tick=lambda cents: tick_text(cents, currency),
        name_series=series_text,
    )


def budget_text(budget_id: str, split: Sequence[str]) -> str:
    """Give the name of a budget window: the budget, then the values it is split by."""
    return " · ".join((budget_id, *(value_text(value) for value in split)))


def unallocated_line(teams: Breakdown) -> Line | None:
    """Give the line of usage that has no team, or None when there is none among the lines shown."""
    return next((line for line in teams.lines if line.group == (UNALLOCATED,)), None)


def unallocated_sentences(line: Line | None, currency: str) -> tuple[str, ...]:
    """Give what must be said of usage without a team: one sentence, or none without such usage."""
    if line is None or line.now.requests == 0:
        return ()
    requests = counted_text(line.now.requests, "request")
    named = "names" if line.now.requests == 1 else "name"
    if line.is_unpriced:
        return (f"{requests} {named} no team, at a cost that is not known yet.",)
    amount = money_text(line.amount, currency)
    return (f"{requests} {named} no team: {amount}, {tenths_text(line.share)} of the spend.",)


def unpriced_sentences(requests: int) -> tuple[str, ...]:
    """Give what must be said of requests without a price: one sentence, or none for none."""
    if requests == 0:
        return ()
    has, is_in = ("has", "is") if requests == 1 else ("have", "are")
    return (f"{counted_text(requests, 'request')} {has} no price yet and {is_in} in no amount.",)


def budget_panel(standings: Sequence[BudgetStanding], *, currency: str, limit: int) -> BudgetPanel:
    """Give the ``limit`` budget windows that have used most of their limit, most used first."""
    ranked = sorted(standings, key=lambda each: (-_use(each), each.budget.id, each.split))
    states = [budget_state(standing) for standing in standings]
    return BudgetPanel(
        lines=tuple(_budget_line(standing, currency) for standing in ranked[:limit]),
        hidden=max(0, len(ranked) - limit),
        spent=states.count(BudgetState.SPENT),
        forecast_over=states.count(BudgetState.FORECAST),
    )


def budget_state(standing: BudgetStanding) -> BudgetState:
    """Give the worst that can be said of the budget; what is held counts as used."""
    if _committed(standing) >= standing.budget.limit:
        return BudgetState.SPENT
    if standing.forecast is not None and standing.forecast > standing.budget.limit:
        return BudgetState.FORECAST
    return BudgetState.WARNED if _use(standing) >= WARNED_SHARE else BudgetState.WITHIN


def _budget_line(standing: BudgetStanding, currency: str) -> BudgetLine:
    budget = standing.budget

    def shown(quantity: int) -> str:
        return quantity_text(quantity, budget.unit, currency)

    operation = () if standing.operation_ref is None else (standing.operation_ref,)
    split = (*standing.split, *operation)
    return BudgetLine(
        name=budget_text(budget.id, split),
        window=budget.window_text,
        mode=budget.mode,
        settled=shown(standing.settled),
        held=shown(standing.held),
        limit=shown(budget.limit),
        use=share_text(_committed(standing), budget.limit),
        forecast="" if standing.forecast is None else shown(standing.forecast),
        state=budget_state(standing),
        bar=budget_bar(standing),
    )


def _committed(standing: BudgetStanding) -> int:
    return standing.settled + standing.held


def _use(standing: BudgetStanding) -> Fraction:
    return Fraction(_committed(standing), max(standing.budget.limit, 1))

"""The weekly report as typed facts.

It owns what the report says and in which order; it refuses markup and reading.

Everything comes from the two cubes of cost rows handed in, so every table adds up to the same
total.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tokenbudget.domain.breakdowns import (
    Breakdown,
    DailySpend,
    Line,
    break_down,
    by_size_of_change,
    fold_by,
    spend_by_day,
)
from tokenbudget.domain.budgets import BudgetStanding
from tokenbudget.domain.costs import CostRow
from tokenbudget.domain.periods import Period, Window, windows_between
from tokenbudget.domain.spans import week_name
from tokenbudget.formats.charts import StackedChart
from tokenbudget.formats.panels import (
    BudgetPanel,
    PriceListVersion,
    Tile,
    UnpricedLine,
    budget_panel,
    daily_chart,
    unallocated_line,
)
from tokenbudget.formats.weekly_parts import (
    DriverLine,
    EffectLine,
    cached_share,
    cube_key,
    driver_lines,
    effect_lines,
    weekly_tiles,
)

MAX_LINES: Final = 15
MAX_MOVERS: Final = 8
MAX_SERIES: Final = 6
MAX_BUDGETS: Final = 15


@dataclass(frozen=True, slots=True)
class WeeklyFacts:
    """What was read for the report.

    The rows are the cube of this week, the cube of the week before, and this week by team and day.
    ``compares_from`` is when the ledger begins, if that is within the week before.
    """

    period: Period
    timezone: str
    currency: str
    team: str | None
    generated_at: datetime
    rows: Sequence[CostRow]
    rows_before: Sequence[CostRow]
    rows_by_day: Sequence[CostRow]
    standings: Sequence[BudgetStanding]
    unpriced: tuple[UnpricedLine, ...]
    price_list: PriceListVersion | None
    compares_from: datetime | None


@dataclass(frozen=True, slots=True)
class WeeklyReport:
    """Everything the weekly report shows, for one team or (None) for all.

    ``before`` in any line is the week before. ``unallocated`` is None when every usage has a team.
    """

    name: str
    period: Period
    timezone: str
    currency: str
    team: str | None
    generated_at: datetime
    tiles: tuple[Tile, ...]
    chart: StackedChart
    daily: DailySpend
    effects: tuple[EffectLine, ...]
    movers: Breakdown
    teams: Breakdown
    features: Breakdown
    tenants: Breakdown
    drivers: tuple[DriverLine, ...]
    cached_share: str
    cached_share_before: str
    budgets: BudgetPanel
    unpriced: tuple[UnpricedLine, ...]
    unallocated: Line | None
    price_list: PriceListVersion | None
    compares_from: datetime | None

    @property
    def total(self) -> Line:
        """Give the line of the whole week."""
        return self.teams.total

    @property
    def is_over(self) -> bool:
        """Tell whether the week had ended when the report was made."""
        return self.period.end <= self.generated_at

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was used in this week or the one before."""
        return self.total.now.requests == 0 and self.total.before.requests == 0


def compose_weekly(facts: WeeklyFacts) -> WeeklyReport:
    """Give the report that the facts make."""
    teams = _table(facts, "team")
    days = [window.start for window in windows_between(Window.DAY, facts.period, facts.timezone)]
    daily = spend_by_day(facts.rows_by_day, days, teams, limit=MAX_SERIES)
    by_cell = cube_key("team", "feature", "model")
    cells, cells_before = fold_by(facts.rows, by_cell), fold_by(facts.rows_before, by_cell)
    return WeeklyReport(
        name=week_name(facts.period, facts.timezone),
        period=facts.period,
        timezone=facts.timezone,
        currency=facts.currency,
        team=facts.team,
        generated_at=facts.generated_at,
        tiles=weekly_tiles(teams.total, facts.currency),
        chart=daily_chart(daily, timezone=facts.timezone, currency=facts.currency),
        daily=daily,
        effects=effect_lines(cells, cells_before, teams.total.change),
        movers=break_down(cells, cells_before, limit=MAX_MOVERS, weight=by_size_of_change),
        teams=teams,
        features=_table(facts, "team", "feature"),
        tenants=_table(facts, "tenant"),
        drivers=driver_lines(facts.rows, facts.rows_before),
        cached_share=cached_share(teams.total.now),
        cached_share_before=cached_share(teams.total.before),
        budgets=budget_panel(facts.standings, currency=facts.currency, limit=MAX_BUDGETS),
        unpriced=facts.unpriced,
        unallocated=unallocated_line(teams),
        price_list=facts.price_list,
        compares_from=facts.compares_from,
    )


def _table(facts: WeeklyFacts, *dimensions: str) -> Breakdown:
    key = cube_key(*dimensions)
    return break_down(fold_by(facts.rows, key), fold_by(facts.rows_before, key), limit=MAX_LINES)

"""What the page at ``/`` shows.

It owns which questions the page asks and how their answers are laid side by side.

Teams, features and the chart come from one answer, so that they add up also while usage comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from tokenbudget import __version__
from tokenbudget.bootstrap import Services
from tokenbudget.domain.breakdowns import (
    Breakdown,
    Line,
    break_down,
    fold_by,
    spend_by_day,
)
from tokenbudget.domain.budgets import FORECAST_HISTORY, forecast_at_end
from tokenbudget.domain.cost_folding import total
from tokenbudget.domain.costs import CostRow
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period, Window, window_at, windows_between
from tokenbudget.domain.spans import days_before, last_days, month_before
from tokenbudget.formats.charts import Sparkline, sparkline
from tokenbudget.formats.display import (
    DASH,
    change_share_text,
    month_text,
    nanos_text,
    quantity_text,
    short_count_text,
    threshold_text,
)
from tokenbudget.formats.panels import (
    Tile,
    budget_panel,
    budget_text,
    daily_chart,
    unallocated_line,
    unallocated_sentences,
    unpriced_sentences,
)
from tokenbudget.services.alerts import list_alerts
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.costs import CostQuery, query_costs
from tokenbudget.services.counting import split_values_of
from tokenbudget.services.reports import (
    read_compares_from,
    read_last_recorded_at,
    read_price_list,
    read_unpriced,
)
from tokenbudget.store.tables import AlertRow
from tokenbudget.web.contexts import AlertLine, OverviewPage, RangeLink

RANGES: Final = (7, 30, 90)
USUAL_RANGE: Final = 30
TILE_DAYS: Final = 7
MAX_LINES: Final = 10
MAX_SERIES: Final = 6
MAX_BUDGETS: Final = 10
MAX_ALERTS: Final = 10


def build_overview(services: Services, *, days: int) -> OverviewPage:
    """Give the page over the last ``days`` days; raises InvalidInput for any but ``RANGES``."""
    if days not in RANGES:
        known = ", ".join(str(each) for each in RANGES)
        raise InvalidInput(f"days {days} must be one of {known}", field="days")
    settings, now = services.settings, services.clock()
    period = last_days(now, days, settings.timezone)
    rows = _ask(services, period, ("team", "feature"), "day")
    before = days_before(now, days, settings.timezone)
    rows_before = _ask(services, before, ("team", "feature"))
    teams = _table(rows, rows_before, 1)
    day_starts = [day.start for day in windows_between(Window.DAY, period, settings.timezone)]
    daily = spend_by_day(_by_team_and_day(rows), day_starts, teams, limit=MAX_SERIES)
    alerts = list_alerts(services.database, limit=MAX_ALERTS)
    standings = list_standings(services.database, now=now)
    return OverviewPage(
        currency=settings.currency,
        timezone=settings.timezone,
        generated_at=now,
        version=__version__,
        public_url=settings.public_url,
        days=days,
        ranges=tuple(RangeLink(f"{each} days", f"/?days={each}", each == days) for each in RANGES),
        tiles=_tiles(services, now),
        chart=daily_chart(daily, timezone=settings.timezone, currency=settings.currency),
        daily=daily,
        teams=teams,
        trends=tuple(_trend(line, rows, day_starts) for line in teams.lines),
        features=_table(rows, rows_before, 2),
        budgets=budget_panel(standings, currency=settings.currency, limit=MAX_BUDGETS),
        alerts=tuple(_alert_line(alert, settings.currency) for alert in alerts),
        notices=(
            *unpriced_sentences(teams.total.now.unpriced_requests),
            *unallocated_sentences(unallocated_line(teams), settings.currency),
        ),
        unpriced=read_unpriced(services.database, period=period),
        price_list=read_price_list(services.database),
        compares_from=read_compares_from(services.database, before=before),
        last_recorded_at=read_last_recorded_at(services.database),
    )


def _ask(
    services: Services, period: Period, group_by: tuple[str, ...] = (), granularity: str = "none"
) -> list[CostRow]:
    query = CostQuery(period, group_by, granularity, services.settings.timezone)
    return query_costs(services.database, query).rows


def _table(rows: Sequence[CostRow], rows_before: Sequence[CostRow], dimensions: int) -> Breakdown:
    """Give the breakdown by the first so many dimensions of the rows."""
    now, before = (
        fold_by(sample, lambda row: row.group[:dimensions]) for sample in (rows, rows_before)
    )
    return break_down(now, before, limit=MAX_LINES)


def _by_team_and_day(rows: Sequence[CostRow]) -> list[CostRow]:
    return [replace(row, group=row.group[:1]) for row in rows]


def _trend(line: Line, rows: Sequence[CostRow], days: Sequence[datetime]) -> Sparkline:
    """Give the line's spend a day; a rest line has no trend."""
    if line.merged:
        return sparkline(())
    spent = dict.fromkeys(days, 0)
    for row in rows:
        if row.group[:1] == line.group and row.start is not None:
            spent[row.start] += row.effective_nanos
    return sparkline(list(spent.values()))


def _tiles(services: Services, now: datetime) -> tuple[Tile, ...]:
    settings = services.settings
    month = window_at(Window.MONTH, now, settings.timezone)
    former_month = month_before(month, settings.timezone)
    spent, former = total(_ask(services, month)), total(_ask(services, former_month))
    recent = total(_ask(services, last_days(now, TILE_DAYS, settings.timezone)))
    earlier = total(_ask(services, days_before(now, TILE_DAYS, settings.timezone)))
    before = f"{TILE_DAYS} days before"
    return (
        Tile(
            f"{month_text(now, settings.timezone)} so far",
            nanos_text(spent.effective_nanos, settings.currency),
            f"{month_text(former_month.start, settings.timezone)} "
            f"{nanos_text(former.effective_nanos, settings.currency)}",
        ),
        Tile("Forecast for the month", _forecast(services, month, spent.effective_nanos, now)),
        Tile(
            f"Last {TILE_DAYS} days",
            nanos_text(recent.effective_nanos, settings.currency),
            f"{before} {nanos_text(earlier.effective_nanos, settings.currency)}",
            change_share_text(recent.effective_nanos, earlier.effective_nanos),
        ),
        Tile(
            f"Requests, last {TILE_DAYS} days",
            short_count_text(recent.requests),
            f"{before} {short_count_text(earlier.requests)}",
            change_share_text(recent.requests, earlier.requests),
        ),
    )


def _forecast(services: Services, month: Period, spent_nanos: int, now: datetime) -> str:
    """Give where the month is expected to end, by the rule that forecasts budgets."""
    this_hour = window_at(Window.HOUR, now, "UTC").start
    rows = _ask(services, Period(this_hour - FORECAST_HISTORY, this_hour), (), "hour")
    by_hour = {row.start: row.effective_nanos for row in rows if row.start is not None}
    if not by_hour:
        return DASH
    expected = forecast_at_end(
        committed=spent_nanos,
        period=month,
        now=now,
        hourly_history=by_hour,
        history_start=min(by_hour),
    )
    return DASH if expected is None else nanos_text(expected, services.settings.currency)


def _alert_line(alert: AlertRow, currency: str) -> AlertLine:
    return AlertLine(
        raised_at=alert.raised_at,
        budget=budget_text(alert.budget_id, split_values_of(alert.split_key)),
        threshold=threshold_text(alert.threshold),
        measured=quantity_text(alert.measured, alert.unit, currency),
        limit=quantity_text(alert.limit_quantity, alert.unit, currency),
    )

"""Where the windows of budgets will end, worked out by the scheduled job, and what that alerts of.

It owns the history that forecasts go by and the thresholds they cross. It refuses to count. A
threshold on the forecast is crossed when a forecast reaches it, once a window: what is posted
meanwhile crosses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlmodel import Session

from tokenbudget.domain.budgets import (
    FORECAST_HISTORY,
    HOUR,
    Budget,
    BudgetIndex,
    ThresholdOn,
    crossed_thresholds,
    forecast_at_end,
)
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import cover
from tokenbudget.services.alerts import raise_alerts
from tokenbudget.services.budgets import measured_by
from tokenbudget.services.counting import Crossing, key_text
from tokenbudget.services.rulebook import load_budgets
from tokenbudget.store.budgets import list_counters, replace_forecasts
from tokenbudget.store.db import Database
from tokenbudget.store.rollups import find_dimension_sets, sum_rollups
from tokenbudget.store.tables import CounterRow


def refresh_forecasts(database: Database, *, now: datetime, currency: str) -> int:
    """Work out the forecast of every current counter and give how many there are.

    Windows that roll, or belong to an operation, have none, since they never end, and those of a
    minute end too soon. Thresholds on
    the forecast raise their alerts in the same transaction; ``currency`` is for their messages.
    """
    with database.transaction() as session:
        budgets = {
            budget.id: budget
            for budget in load_budgets(session)
            if not budget.window.rolling_days
            and not budget.window.per_operation
            and not budget.window.is_rate
        }
        counters = [
            counter
            for counter, _ in list_counters(session, now, budget_ids=budgets.keys())
            if budgets[counter.budget_id].counting_version == counter.counting_version
        ]
        history = _hourly_history(session, list(budgets.values()), now)
        expected: dict[int, int] = {}
        crossings = []
        for counter in counters:
            forecast = _forecast_of(counter, history, now)
            if forecast is not None and counter.id is not None:
                expected[counter.id] = forecast
                crossings.append(_crossing_of(budgets[counter.budget_id], counter, forecast, now))
        replace_forecasts(session, expected, now=now)
        crossed = [crossing for crossing in crossings if crossing is not None]
        raise_alerts(session, crossed, currency=currency, now=now)
    return len(expected)


def _crossing_of(
    budget: Budget, counter: CounterRow, forecast: int, now: datetime
) -> Crossing | None:
    """Give the thresholds that the forecast reaches; those that fire already are not raised."""
    if budget.threshold_on is not ThresholdOn.FORECAST or counter.id is None:
        return None
    raised = budget.raised_at(now)
    crossed = crossed_thresholds(budget, 0, forecast, raised=raised)
    if not crossed:
        return None
    return Crossing(
        budget=budget,
        counter_id=counter.id,
        split_key=counter.split_key,
        thresholds=crossed,
        measured=forecast,
        limit=budget.limit + raised,
        span=Period(counter.window_start, counter.window_end),
    )


def _hourly_history(
    session: Session, budgets: Sequence[Budget], now: datetime
) -> Mapping[tuple[str, str], dict[datetime, int]]:
    """Give what each budget and split spent in each UTC hour that forecasts look at."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = []
    hour = this_hour - FORECAST_HISTORY
    while hour < this_hour:
        hours.append(Period(hour, hour + HOUR))
        hour += HOUR
    sums = list(sum_rollups(session, cover(hours)))
    dimensions = find_dimension_sets(session, {item.dimension_set_id for item in sums})
    index = BudgetIndex.build(budgets)
    matches = {row_id: index.match(item) for row_id, item in dimensions.items()}
    history: dict[tuple[str, str], dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    for item in sums:
        start = hours[item.piece].start
        for match in matches[item.dimension_set_id]:
            key = (match.budget.id, key_text(match.split))
            history[key][start] += measured_by(match.budget.unit, item)
    return history


def _forecast_of(
    counter: CounterRow,
    history: Mapping[tuple[str, str], Mapping[datetime, int]],
    now: datetime,
) -> int | None:
    spent = history.get((counter.budget_id, counter.split_key))
    if not spent:
        return None
    return forecast_at_end(
        committed=counter.settled + counter.held,
        period=Period(counter.window_start, counter.window_end),
        now=now,
        hourly_history=spent,
        history_start=min(spent),
    )

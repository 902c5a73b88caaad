"""Raising alerts: the crossing is a row written with the movement that caused it.

One message a posting. An alert fires once for a counter, threshold and kind, until a higher limit
lifts the threshold above the figure again; then it is resolved, and may be raised anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.budgets import BASIS_POINTS, Budget, ThresholdOn, is_reached
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity, format_threshold, parse_threshold
from tokenbudget.services.counting import Crossing, split_and_operation
from tokenbudget.services.ids import new_id
from tokenbudget.store.budgets import find_forecasts, lock_counters, sum_days
from tokenbudget.store.db import Database
from tokenbudget.store.outbox import add_alerts, add_messages, list_firing, resolve_alerts
from tokenbudget.store.outbox import list_alerts as list_alert_rows
from tokenbudget.store.tables import AlertRow

ALERT_TOPIC: Final = "budget.threshold_crossed"


def raise_alerts(
    session: Session, crossings: Sequence[Crossing], *, currency: str, now: datetime
) -> None:
    """Write the crossings that do not fire yet and, a counter, one message of the highest."""
    messages = []
    for crossing in crossings:
        rows = [_alert_row(crossing, threshold, now) for threshold in crossing.thresholds]
        new_ids = set(add_alerts(session, rows))
        raised = [row for row in rows if row["id"] in new_ids]
        if raised:
            messages.append(_message_row(crossing, raised[-1], currency, now))
    add_messages(session, messages)


def resolve_lifted(session: Session, budgets: Sequence[Budget], *, now: datetime) -> int:
    """Resolve what fires although its figure is below the threshold by now, and give how many.

    To be asked where the limit of these budgets has risen. The counters are locked, so that nothing
    crosses the threshold meanwhile without being told.
    """
    by_id = {budget.id: budget for budget in budgets}
    firing = list_firing(session, by_id.keys(), now) if by_id else []
    counters = lock_counters(session, {alert.counter_id for alert in firing})
    forecasts = find_forecasts(session, counters.keys())
    rolling = {
        budget.id: _rolling_sums(session, budget, now)
        for budget in budgets
        if budget.window.rolling_days
    }
    lifted = []
    for alert in firing:
        budget, counter = by_id[alert.budget_id], counters[alert.counter_id]
        settled, held = rolling.get(budget.id, {}).get(
            alert.split_key, (counter.settled, counter.held)
        )
        figures = {
            ThresholdOn.ACTUAL: settled,
            ThresholdOn.COMMITTED: settled + held,
            ThresholdOn.FORECAST: forecasts.get(counter.id, alert.measured),
        }
        figure = figures[ThresholdOn(alert.kind)]
        limit = budget.limit + budget.raised_at(now)
        if not is_reached(parse_threshold(alert.threshold), limit, figure):
            lifted.append(alert.id)
    resolve_alerts(session, lifted, now=now)
    return len(lifted)


def _rolling_sums(session: Session, budget: Budget, now: datetime) -> dict[str, tuple[int, int]]:
    """Give settled and held of all days that roll, by split key."""
    span = budget.window.span_at(now)
    if span is None:
        return {}
    sums = sum_days(session, budget.id, budget.counting_version, since=span.start)
    return {split_key: (settled, held) for split_key, settled, held in sums}


def list_alerts(database: Database, *, limit: int) -> list[AlertRow]:
    """Give the latest alerts, newest first."""
    with database.reading() as session:
        rows = list_alert_rows(session, limit=limit)
        session.expunge_all()
    return rows


def _alert_row(crossing: Crossing, threshold: int, now: datetime) -> dict[str, Any]:
    budget, span = crossing.budget, crossing.span
    return {
        "id": new_id(now),
        "budget_id": budget.id,
        "budget_version": budget.version,
        "counter_id": crossing.counter_id,
        "threshold": format_threshold(threshold),
        "kind": budget.threshold_on.value,
        "split_key": crossing.split_key,
        "window_start": span.start,
        "window_end": span.end,
        "unit": budget.unit.value,
        "measured": crossing.measured,
        "limit_quantity": crossing.limit,
        "raised_at": now,
    }


def _message_row(
    crossing: Crossing, alert: dict[str, Any], currency: str, now: datetime
) -> dict[str, Any]:
    budget, measured, limit = crossing.budget, crossing.measured, crossing.limit
    split, operation_ref = split_and_operation(budget, crossing.split_key)
    payload = {
        "type": ALERT_TOPIC,
        "alert_id": alert["id"],
        "budget": budget.id,
        "budget_version": budget.version,
        "owner": budget.owner,
        "split": dict(zip(budget.split_by, split, strict=True)),
        "kind": alert["kind"],
        "threshold": alert["threshold"],
        "unit": budget.unit.value,
        "currency": currency,
        "measured": format_quantity(measured, budget.unit),
        "limit": format_quantity(limit, budget.unit),
        # Of no limit at all, nothing is a share.
        "share": format_threshold(measured * BASIS_POINTS // limit) if limit else None,
        "window_start": format_instant(crossing.span.start),
        "window_end": format_instant(crossing.span.end),
        "raised_at": format_instant(now),
    }
    if operation_ref is not None:
        payload["operation_id"] = operation_ref
    return {
        "id": new_id(now),
        "topic": ALERT_TOPIC,
        "payload": payload,
        "state": "waiting",
        "created_at": now,
        "due_at": now,
        "attempts": 0,
    }

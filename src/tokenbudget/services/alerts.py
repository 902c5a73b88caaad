"""Raising alerts: the crossing is a unique row written with the movement that caused it.

One message a posting.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.budgets import BASIS_POINTS
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity, format_threshold
from tokenbudget.services.counting import Crossing, split_values_of
from tokenbudget.services.ids import new_id
from tokenbudget.store.db import Database
from tokenbudget.store.outbox import add_alerts, add_messages
from tokenbudget.store.outbox import list_alerts as list_alert_rows
from tokenbudget.store.tables import AlertRow

ALERT_TOPIC: Final = "budget.threshold_crossed"


def raise_alerts(
    session: Session, crossings: Sequence[Crossing], *, currency: str, now: datetime
) -> None:
    """Write the crossings not raised before and, for each counter, one message of the highest."""
    messages = []
    for crossing in crossings:
        rows = [_alert_row(crossing, threshold, now) for threshold in crossing.thresholds]
        new_ids = set(add_alerts(session, rows))
        raised = [row for row in rows if row["id"] in new_ids]
        if raised:
            messages.append(_message_row(crossing, raised[-1], currency, now))
    add_messages(session, messages)


def list_alerts(database: Database, *, limit: int) -> list[AlertRow]:
    """Give the latest alerts, newest first."""
    with database.reading() as session:
        rows = list_alert_rows(session, limit=limit)
        session.expunge_all()
    return rows


def _alert_row(crossing: Crossing, threshold: int, now: datetime) -> dict[str, Any]:
    budget, counter = crossing.budget, crossing.counter
    span = crossing.span
    return {
        "id": new_id(now),
        "budget_id": budget.id,
        "budget_version": budget.version,
        "counter_id": counter.id,
        "threshold": format_threshold(threshold),
        "kind": budget.threshold_on.value,
        "split_key": counter.split_key,
        "window_start": span.start,
        "window_end": span.end,
        "unit": budget.unit.value,
        "measured": counter.measured(budget.threshold_on),
        "limit_quantity": budget.limit,
        "raised_at": now,
    }


def _message_row(
    crossing: Crossing, alert: dict[str, Any], currency: str, now: datetime
) -> dict[str, Any]:
    budget, counter = crossing.budget, crossing.counter
    measured = alert["measured"]
    payload = {
        "type": ALERT_TOPIC,
        "alert_id": alert["id"],
        "budget": budget.id,
        "budget_version": budget.version,
        "owner": budget.owner,
        "split": dict(zip(budget.split_by, split_values_of(counter.split_key), strict=True)),
        "kind": alert["kind"],
        "threshold": alert["threshold"],
        "unit": budget.unit.value,
        "currency": currency,
        "measured": format_quantity(measured, budget.unit),
        "limit": format_quantity(budget.limit, budget.unit),
        "share": format_threshold(measured * BASIS_POINTS // max(1, budget.limit)),
        "window_start": format_instant(crossing.span.start),
        "window_end": format_instant(crossing.span.end),
        "raised_at": format_instant(now),
    }
    return {
        "id": new_id(now),
        "topic": ALERT_TOPIC,
        "payload": payload,
        "state": "waiting",
        "created_at": now,
        "due_at": now,
        "attempts": 0,
    }

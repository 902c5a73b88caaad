"""Raises: more quota for a time, added and ended by further facts, and what that means for alerts.

It owns the use cases. It refuses to count a raise: whoever decides reads it from the rules, whose
number rises with every raise that is added or ended, so that all workers know of it at once.

A raise lifts the thresholds of its budget with the limit. What fires below them is resolved when
the raise begins. When it has ended, what is above them again is raised by ``review_raises``, which
runs every minute: nothing need be posted for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from sqlmodel import Session

from tokenbudget.domain.allowances import Raise
from tokenbudget.domain.budgets import Budget, ThresholdOn, crossed_thresholds
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.formats.raises import RaiseDraft, RaiseView
from tokenbudget.services.alerts import raise_alerts, resolve_lifted
from tokenbudget.services.budgets import get_budget
from tokenbudget.services.counting import Crossing
from tokenbudget.services.ids import new_id
from tokenbudget.services.rulebook import load_budgets, raise_of
from tokenbudget.store.budgets import (
    CounterKey,
    change_rules,
    find_counter_ids,
    list_counters,
    list_most_used,
    shut_out_batches,
    sum_days,
)
from tokenbudget.store.db import Database
from tokenbudget.store.raises import add_raise, add_raise_end, find_raise, list_raises
from tokenbudget.store.tables import BudgetRaiseEndRow, BudgetRaiseRow

RAISE_NAMESPACE: Final = UUID("5b0f5f0e-6d0c-5c59-9b5e-6f0d4c3a7e21")
MAX_OPERATIONS_REVIEWED: Final = 1_000
REVIEWED_FOR: Final = timedelta(days=1)
"""How long after its end a raise is looked at, so that no pause of the job hides what it left."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a change: the API key, empty for none, and the key that makes it repeatable."""

    key_id: str = ""
    idempotency_key: str | None = None


def create_raise(
    database: Database, budget_id: str, draft: RaiseDraft, *, asker: Asker, now: datetime
) -> tuple[RaiseView, bool]:
    """Give the raise, and whether it is new: the same idempotency key gives the same raise again.

    Raises NotFound for an unknown budget, InvalidInput for a time that is over or ends before it
    begins, and Conflict for an idempotency key that was used for another raise.
    """
    budget = get_budget(database, budget_id)
    row = {
        "id": _raise_id(budget_id, asker, now),
        "budget_id": budget_id,
        "amount": draft.amount,
        "valid_from": draft.valid_from or now,
        "valid_to": draft.valid_to,
        "reason": draft.reason,
        "key_id": asker.key_id,
        "recorded_at": now,
    }
    with database.transaction() as session:
        known = find_raise(session, str(row["id"]))
        if known is None:
            _require_time(draft, now)
            change_rules(session)
            is_new = add_raise(session, row)
            known = find_raise(session, str(row["id"]))
            _resolve(session, budget_id, now)
        else:
            is_new = False
        if known is None or not _is_same(known[0], draft):
            raise Conflict(f"Idempotency-Key {asker.idempotency_key!r} was used for another raise")
        return _view_of(budget, *known), is_new


def end_raise(
    database: Database, budget_id: str, raise_id: str, *, asker: Asker, now: datetime
) -> RaiseView:
    """Give the raise, ended now; ending it twice, or when its time is over, changes nothing.

    Raises NotFound for an unknown budget or raise.
    """
    budget = get_budget(database, budget_id)
    with database.transaction() as session:
        known = find_raise(session, raise_id)
        if known is None or known[0].budget_id != budget_id:
            raise NotFound(f"budget {budget_id!r} has no raise {raise_id!r}")
        row, end = known
        if end is None and now < row.valid_to:
            change_rules(session)
            add_raise_end(session, {"raise_id": raise_id, "ended_at": now, "key_id": asker.key_id})
            end = BudgetRaiseEndRow(raise_id=raise_id, ended_at=now, key_id=asker.key_id)
        return _view_of(budget, row, end)


def list_budget_raises(database: Database, budget_id: str) -> list[RaiseView]:
    """Give all raises there ever were of the budget, by their begin; raises NotFound."""
    budget = get_budget(database, budget_id)
    with database.reading() as session:
        return [_view_of(budget, row, end) for row, end in list_raises(session, budget_id)]


def review_raises(database: Database, *, now: datetime, currency: str) -> tuple[int, int]:
    """Give how many alerts were resolved and crossings found where raises have begun or ended.

    Doing so twice changes nothing. ``currency`` is for the messages.
    """
    with database.reading() as session:
        if not any(_has_turned(raise_of(*each), now) for each in list_raises(session)):
            return 0, 0
    with database.transaction() as session:
        # Nothing counts meanwhile, so figures may be read without locking each counter.
        shut_out_batches(session)
        turned = [
            budget
            for budget in load_budgets(session)
            if any(_has_turned(each, now) for each in budget.raises)
        ]
        resolved = resolve_lifted(session, turned, now=now)
        crossings = [
            crossing
            for budget in turned
            if any(each.valid_to <= now for each in budget.raises)
            for crossing in _standing_crossings(session, budget, now)
        ]
        raise_alerts(session, crossings, currency=currency, now=now)
    return resolved, len(crossings)


def _has_turned(each: Raise, now: datetime) -> bool:
    """Tell whether a raise is in force, or has ended lately."""
    return each.valid_from <= now < each.valid_to + REVIEWED_FOR


def _standing_crossings(session: Session, budget: Budget, now: datetime) -> list[Crossing]:
    """Give the thresholds that the figures of present windows have reached."""
    period, span = budget.period_counted_at(now), budget.window.span_at(now)
    if period is None or span is None or budget.threshold_on is ThresholdOn.FORECAST:
        return []
    raised = budget.raised_at(now)
    found = []
    for counter_id, split_key, settled, held in _present_figures(session, budget, now):
        measured = settled if budget.threshold_on is ThresholdOn.ACTUAL else settled + held
        crossed = crossed_thresholds(budget, 0, measured, raised=raised)
        if crossed:
            limit = budget.limit + raised
            found.append(Crossing(budget, counter_id, split_key, crossed, measured, limit, span))
    return found


def _present_figures(
    session: Session, budget: Budget, now: datetime
) -> list[tuple[int, str, int, int]]:
    """Give counter id, split key, settled and held of all that the limit applies to at present.

    Of a window that rolls, today's counter stands for all days; without it nothing is told.
    """
    if budget.window.rolling_days:
        return _rolling_figures(session, budget, now)
    if budget.window.per_operation:
        counters = list_most_used(
            session, budget.id, budget.counting_version, limit=MAX_OPERATIONS_REVIEWED
        )
    else:
        counters = [each for each, _ in list_counters(session, now, budget_ids=[budget.id])]
    return [
        (each.id, each.split_key, each.settled, each.held)
        for each in counters
        if each.id is not None and each.counting_version == budget.counting_version
    ]


def _rolling_figures(
    session: Session, budget: Budget, now: datetime
) -> list[tuple[int, str, int, int]]:
    span, today = budget.window.span_at(now), budget.period_counted_at(now)
    if span is None or today is None:
        return []
    sums = sum_days(session, budget.id, budget.counting_version, since=span.start)
    keys = [
        CounterKey(budget.id, budget.counting_version, split_key, today.start)
        for split_key, _, _ in sums
    ]
    ids = find_counter_ids(session, keys)
    return [(ids[key], *figures) for key, figures in zip(keys, sums, strict=True) if key in ids]


def _resolve(session: Session, budget_id: str, now: datetime) -> None:
    budgets = [budget for budget in load_budgets(session) if budget.id == budget_id]
    resolve_lifted(session, budgets, now=now)


def _raise_id(budget_id: str, asker: Asker, now: datetime) -> str:
    if asker.idempotency_key is None:
        return new_id(now)
    return str(uuid5(RAISE_NAMESPACE, f"{asker.key_id}\n{budget_id}\n{asker.idempotency_key}"))


def _require_time(draft: RaiseDraft, now: datetime) -> None:
    if draft.valid_to <= now:
        raise InvalidInput("valid_to must be in the future", field="valid_to")
    if draft.valid_from is not None and draft.valid_from >= draft.valid_to:
        raise InvalidInput("valid_to must be after valid_from", field="valid_to")
    if draft.valid_from is not None and draft.valid_from < now:
        raise InvalidInput("valid_from must not be in the past", field="valid_from")


def _is_same(row: BudgetRaiseRow, draft: RaiseDraft) -> bool:
    """Tell whether a stored raise is what the draft asks for, whenever it was asked."""
    began = draft.valid_from is None or draft.valid_from == row.valid_from
    asked = (draft.amount, draft.valid_to, draft.reason)
    return began and asked == (row.amount, row.valid_to, row.reason)


def _view_of(budget: Budget, row: BudgetRaiseRow, end: BudgetRaiseEndRow | None) -> RaiseView:
    return RaiseView(
        budget_id=row.budget_id,
        unit=budget.unit,
        terms=raise_of(row, end),
        asked_until=row.valid_to,
        reason=row.reason,
        key_id=row.key_id,
        recorded_at=row.recorded_at,
        ended_at=end.ended_at if end is not None else None,
        ended_by=end.key_id if end is not None else None,
    )

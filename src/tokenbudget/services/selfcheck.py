"""The invariants of the ledger, worked out anew from its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel import Session

from tokenbudget.domain.budgets import Budget, Counter, Unit
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import DAY_SECONDS, QUARTER_HOUR_SECONDS, cover
from tokenbudget.services.budgets import measured_by
from tokenbudget.services.counting import key_text
from tokenbudget.services.outcomes import find_broken_rollups
from tokenbudget.services.rulebook import load_budgets
from tokenbudget.services.statements import check_statements
from tokenbudget.store.audit import (
    list_all_counters,
    list_calls_charged_twice,
    list_holds_resolved_twice,
    list_strayed_remainders,
    sum_charges,
    sum_open_holds,
    sum_rollups_by_dimension_set,
    sum_shares,
    sum_transfers,
)
from tokenbudget.store.db import Database
from tokenbudget.store.operations import list_operation_charges
from tokenbudget.store.rollups import find_dimension_sets, sum_rollups
from tokenbudget.store.stretches import list_unnoted

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: whether it holds, over how many items, and the first that break it."""

    rule: str
    checked: int
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Tell whether nothing breaks the rule."""
        return not self.broken


def selfcheck(database: Database) -> list[Finding]:
    """Give a finding for every invariant, all from one snapshot. It scans the ledger."""
    with database.reading() as session:
        counters = list_all_counters(session)
        return [
            _rollups_equal_charges(
                session, QUARTER_HOUR_SECONDS, "quarter-hour rollups = charges + shares"
            ),
            _rollups_equal_charges(session, DAY_SECONDS, "daily rollups = charges + shares"),
            _settled_equals_charges(session, counters),
            _held_equals_holds(session, counters),
            _held_is_not_negative(counters),
            _holds_resolve_once(session),
            _remainders_follow_pieces(session),
            _calls_are_charged_once(session),
            _usage_is_found_by_time(session),
            _outcome_rollups_equal_outcomes(session),
            _statements_say_what_they_said(session),
        ]


def _rollups_equal_charges(session: Session, grain_seconds: int, rule: str) -> Finding:
    charged = sum_charges(session)
    for dimension_set_id, nanos in sum_shares(session).items():
        effective_nanos, input_tokens = charged.get(dimension_set_id, (0, 0))
        charged[dimension_set_id] = (effective_nanos + nanos, input_tokens)
    rolled = sum_rollups_by_dimension_set(session, grain_seconds)
    keys = sorted(charged.keys() | rolled.keys())
    broken = [
        f"dimension set {key}: rollups {rolled.get(key)}, charges and shares {charged.get(key)}"
        for key in keys
        if rolled.get(key, (0, 0)) != charged.get(key, (0, 0))
    ]
    return _finding(rule, len(keys), broken)


def _settled_equals_charges(session: Session, counters: list[tuple[Counter, int]]) -> Finding:
    """Compare counters with charges, but for those of a minute.

    These count what they were told of within a day, so no sum of charges says what they should be.
    """
    budgets = {
        (budget.id, budget.counting_version): budget
        for budget in load_budgets(session)
        if not budget.window.is_rate
    }
    transfers = sum_transfers(session)
    by_window: dict[tuple[str, int, Period], list[tuple[Counter, int]]] = defaultdict(list)
    for counter, baseline in counters:
        budget = budgets.get((counter.budget_id, counter.counting_version))
        if budget is not None and budget.counts_window(counter.period):
            window = (counter.budget_id, counter.counting_version, counter.period)
            by_window[window].append((counter, baseline))
    broken = []
    for (budget_id, counting_version, period), members in by_window.items():
        budget = budgets[budget_id, counting_version]
        if budget.window.per_operation:
            spent = _spent_by_operation(session, budget)
        else:
            spent = _spent(session, budget, period)
        for counter, baseline in members:
            expected = spent.get(counter.split_key, 0) - baseline + transfers.get(counter.id, 0)
            if counter.settled != expected:
                name = f"{budget_id}{counter.split_key}@{period.start:%Y-%m-%dT%H:%MZ}"
                broken.append(f"{name}: settled {counter.settled}, charges {expected}")
    checked = sum(len(members) for members in by_window.values())
    return _finding("settled = sum of charges", checked, broken)


def _spent(session: Session, budget: Budget, period: Period) -> Mapping[str, int]:
    sums = list(sum_rollups(session, cover([period])))
    dimensions = find_dimension_sets(session, {item.dimension_set_id for item in sums})
    spent: dict[str, int] = defaultdict(int)
    for item in sums:
        if budget.matches(dimensions[item.dimension_set_id]):
            split = budget.split_values(dimensions[item.dimension_set_id])
            spent[key_text(split)] += measured_by(budget.unit, item)
    return spent


def _spent_by_operation(session: Session, budget: Budget) -> Mapping[str, int]:
    """Give, by split key, what the charges say of each operation since the budget counts."""
    charges = list_operation_charges(session, after=budget.after_usage_id)
    dimensions = find_dimension_sets(session, {each.dimension_set_id for each in charges})
    spent: dict[str, int] = defaultdict(int)
    for each in charges:
        found = dimensions[each.dimension_set_id]
        if budget.matches(found):
            key = key_text((*budget.split_values(found), each.operation_ref))
            quantities = {
                # Charges are signed, what was used is not.
                Unit.MONEY: each.nanos,
                Unit.TOKENS: each.sign * each.tokens,
                Unit.REQUESTS: each.sign * each.requests,
            }
            spent[key] += quantities[budget.unit]
    return spent


def _held_equals_holds(session: Session, counters: list[tuple[Counter, int]]) -> Finding:
    held = sum_open_holds(session)
    broken = [
        f"counter {counter.id} of {counter.budget_id}: held {counter.held}, "
        f"holds {held.get(counter.id, 0)}"
        for counter, _ in counters
        if counter.held != held.get(counter.id, 0)
    ]
    return _finding("held = sum of open holds", len(counters), broken)


def _held_is_not_negative(counters: list[tuple[Counter, int]]) -> Finding:
    broken = [
        f"counter {counter.id}: held {counter.held}" for counter, _ in counters if counter.held < 0
    ]
    return _finding("held >= 0", len(counters), broken)


def _holds_resolve_once(session: Session) -> Finding:
    twice = list_holds_resolved_twice(session)
    return _finding("no hold resolved twice", len(twice), [f"hold {hold_id}" for hold_id in twice])


def _remainders_follow_pieces(session: Session) -> Finding:
    checked, strayed = list_strayed_remainders(session)
    rule = "left of a hold = granted - taken by pieces"
    return _finding(rule, checked, [f"hold {hold_id}" for hold_id in strayed])


def _calls_are_charged_once(session: Session) -> Finding:
    broken = [
        f"call {call_id}: {standing} charges stand"
        for call_id, standing in list_calls_charged_twice(session)
    ]
    return _finding("one charge stands for a call", len(broken), broken)


def _usage_is_found_by_time(session: Session) -> Finding:
    broken = [f"usage {usage_id}" for usage_id in list_unnoted(session, limit=MAX_SHOWN)]
    return _finding("usage is found by when it occurred", len(broken), broken)


def _outcome_rollups_equal_outcomes(session: Session) -> Finding:
    broken = find_broken_rollups(session)
    return _finding("rollups of outcomes = outcomes", len(broken), broken)


def _statements_say_what_they_said(session: Session) -> Finding:
    checked = check_statements(session)
    broken = [fault for each in checked for fault in each.faults]
    return _finding("closed statements = their digests, totals and invoices", len(checked), broken)


def _finding(rule: str, checked: int, broken: list[str]) -> Finding:
    return Finding(rule, checked, tuple(broken[:MAX_SHOWN]))

"""Budgets as code: apply them as new versions, and show how they stand.

It refuses to count (``counting.py``) and to forecast (``forecasts.py``). A carry that is not final
yet is worked out here as it is there, from the same counters and by the same rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allowances import carry_into
from tokenbudget.domain.budget_tree import find_overcommitted
from tokenbudget.domain.budgets import Budget, BudgetStanding, BudgetWindow, Unit
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.domain.holds import Notice
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import MEASURES, RollupSum, cover
from tokenbudget.formats.budgets import (
    BudgetDraft,
    Plan,
    describe_budget,
    overcommitment_sentence,
)
from tokenbudget.services.alerts import resolve_lifted
from tokenbudget.services.counting import key_text, split_and_operation, split_values_of
from tokenbudget.services.owners import OwnersApplied, write_entries
from tokenbudget.services.rulebook import budget_of, load_budgets, with_allowances
from tokenbudget.store.budgets import (
    CounterKey,
    add_counters,
    change_rules,
    last_usage_id,
    list_budget_versions,
    list_counters,
    list_most_used,
    list_past_counters,
    sum_days,
)
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.rollups import find_dimension_sets, sum_rollups
from tokenbudget.store.tables import BudgetRow, CounterRow

MAX_SEEDED_WINDOWS: Final = 1_000
LATEST_USAGE: Final = timedelta(days=2)
CHILDREN_EXCEED_PARENT: Final = "children_exceed_parent"
MAX_OPERATIONS_SHOWN: Final = 20
"""How many operations a budget shows that counts each of them, those that used most."""

COUNTING_FIELDS: Final = ("selector", "split_by", "unit", "window", "timezone", "baseline")
SEEDING_FIELDS: Final = ("valid_from", "valid_to", "rollover")
"""Fields of which a change may need counters that are not there yet."""

MEASURE_INDEX: Final = {name: place for place, name in enumerate(MEASURES)}


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """What applying a budget did or would do: ``created``, ``changed`` or ``unchanged``.

    ``warnings`` are of children that exceed their parent.
    """

    action: str
    budget: Budget
    changed_fields: tuple[str, ...]
    standings: tuple[BudgetStanding, ...]
    warnings: tuple[Notice, ...] = ()


def apply_budgets(
    database: Database,
    drafts: Sequence[BudgetDraft],
    *,
    now: datetime,
    dry_run: bool = False,
    strict: bool = False,
) -> list[BudgetChange]:
    """Give what changes, having written a new version of each budget that differs, all or none.

    Budgets that are not among the drafts stay as they are. Counters of a window under way, or of
    the days that a rolling one looks back on, start from what the ledger already holds (baseline
    ``window``) or from zero (``creation``). Where children exceed their parent, the changes warn of
    it; if ``strict``, that is a Conflict.
    """
    with database.transaction(is_kept=not dry_run) as session:
        change_rules(session)
        return _apply_all(session, drafts, now=now, strict=strict)


def apply_plan(
    database: Database, plan: Plan, *, now: datetime, dry_run: bool = False, strict: bool = False
) -> tuple[OwnersApplied, list[BudgetChange]]:
    """Give what becomes of the owners and the budgets of a plan, all of both applied, or none.

    What the plan does not name stays as it is. Raises InvalidInput naming the entry and the rule,
    and Conflict where children exceed their parent, if ``strict``.
    """
    with database.transaction(is_kept=not dry_run) as session:
        change_rules(session)
        owners = write_entries(session, plan.owners, now=now)
        changes = _apply_all(session, plan.budgets, now=now, strict=strict)
    return owners, changes


def create_budget(
    database: Database, draft: BudgetDraft, *, now: datetime, strict: bool = False
) -> BudgetChange:
    """Give the new budget; the same content again changes nothing, other content is a Conflict."""
    with database.transaction() as session:
        change_rules(session)
        [change] = _apply_all(session, [draft], now=now, strict=strict)
        if change.action == "changed":
            raise Conflict(
                f"budget {draft.id!r} exists with other content; PUT makes a new version"
            )
    return change


def get_budget(database: Database, budget_id: str) -> Budget:
    """Give the version in force; raises NotFound."""
    return list_versions(database, budget_id)[-1]


def list_versions(database: Database, budget_id: str) -> list[Budget]:
    """Give every version, oldest first; raises NotFound."""
    with database.reading() as session:
        versions = [budget_of(row) for row in list_budget_versions(session, budget_id)]
    if not versions:
        raise NotFound(f"budget {budget_id!r} does not exist")
    return versions


def list_budgets(database: Database) -> list[Budget]:
    """Give the version in force of every budget, by id."""
    with database.reading() as session:
        return list(load_budgets(session))


def list_standings(
    database: Database, *, now: datetime, budget_id: str | None = None
) -> list[BudgetStanding]:
    """Give how the current window of every budget stands, a standing a counter.

    A budget without a split that nothing has counted in yet stands at zero. A window that rolls
    stands at the sum of its days, with no forecast since it never ends. Where each operation has a
    window, those that used most are told, at most ``MAX_OPERATIONS_SHOWN``.
    """
    with database.reading() as session:
        budgets = [budget for budget in load_budgets(session) if budget_id in (None, budget.id)]
        return _standings(session, budgets, now)


def _apply_all(
    session: Session, drafts: Sequence[BudgetDraft], *, now: datetime, strict: bool
) -> list[BudgetChange]:
    known = {budget.id: budget for budget in load_budgets(session)}
    changes = [_apply_one(session, draft, known.get(draft.id), now) for draft in drafts]
    changed = [change.budget for change in changes if change.action == "changed"]
    resolve_lifted(session, changed, now=now)
    known.update((change.budget.id, change.budget) for change in changes)
    exceeded = find_overcommitted(list(known.values()), now)
    warned = [
        replace(
            change,
            warnings=tuple(
                Notice(CHILDREN_EXCEED_PARENT, overcommitment_sentence(each))
                for each in exceeded
                if each.concerns(change.budget.id)
            ),
        )
        for change in changes
    ]
    sentences = [notice.detail for change in warned for notice in change.warnings]
    if strict and sentences:
        raise Conflict("; ".join(dict.fromkeys(sentences)), rule=CHILDREN_EXCEED_PARENT)
    return warned


def _apply_one(
    session: Session, draft: BudgetDraft, known: Budget | None, now: datetime
) -> BudgetChange:
    wanted = _wire_of(draft, known, now)
    present = describe_budget(known) if known is not None else {}
    changed_fields = tuple(name for name in wanted if wanted[name] != present.get(name))
    if known is not None and not changed_fields:
        return BudgetChange("unchanged", known, (), _standing_now(session, known, now))
    recounts = known is None or bool(set(changed_fields) & set(COUNTING_FIELDS))
    row = _budget_row(draft, known, recounts=recounts, now=now)
    if recounts and draft.window.per_operation:
        row["after_usage_id"] = last_usage_id(session)
    insert_rows(session, BudgetRow, [row])
    [budget] = with_allowances(session, [budget_of(BudgetRow.model_validate(row))])
    if recounts or set(changed_fields) & set(SEEDING_FIELDS):
        # Counters that are there already stay as they are.
        add_counters(session, _seeded_counters(session, budget, now))
    action = "created" if known is None else "changed"
    return BudgetChange(action, budget, changed_fields, _standing_now(session, budget, now))


def _wire_of(draft: BudgetDraft, known: Budget | None, now: datetime) -> dict[str, Any]:
    wire = describe_budget(draft)
    if draft.valid_from is None and known is not None:
        # Leaving valid_from out means "since it began", not "since this apply".
        wire["valid_from"] = describe_budget(known)["valid_from"]
    return wire


def _budget_row(
    draft: BudgetDraft, known: Budget | None, *, recounts: bool, now: datetime
) -> dict[str, Any]:
    version = 1 if known is None else known.version + 1
    began = now if known is None else known.valid_from
    return {
        "id": draft.id,
        "version": version,
        "counting_version": version if recounts or known is None else known.counting_version,
        "selector": {name: sorted(draft.selector[name]) for name in sorted(draft.selector)},
        "split_by": list(draft.split_by),
        "unit": draft.unit.value,
        "limit_quantity": draft.limit,
        "window": draft.window_text,
        "timezone": draft.window.timezone,
        "mode": draft.mode.value,
        "thresholds": [str(threshold) for threshold in draft.thresholds],
        "threshold_on": draft.threshold_on.value,
        "overdraft": draft.overdraft,
        "baseline": "window" if draft.counts_from_window else "creation",
        "fail_mode": "open" if draft.fails_open else "closed",
        "rollover": asdict(draft.rollover) if draft.rollover is not None else None,
        "after_usage_id": 0 if known is None else known.after_usage_id,
        "owner": draft.owner,
        "channels": list(draft.channels),
        "valid_from": draft.valid_from or began,
        "valid_to": draft.valid_to,
        "recorded_at": now,
    }


def _seeded_counters(session: Session, budget: Budget, now: datetime) -> list[dict[str, Any]]:
    """Give the counters of the windows under way, with what the ledger already holds of them."""
    windows = _windows_under_way(budget, now)
    held_already = _spent_by_split(session, budget, windows)
    rows = []
    for place, window in enumerate(windows):
        if budget.rollover is not None and not budget.split_by and window.contains(now):
            # A window that nothing is ever spent in has a carry to leave, too.
            held_already[place].setdefault((), 0)
        for split, spent in held_already[place].items():
            rows.append(
                {
                    "budget_id": budget.id,
                    "counting_version": budget.counting_version,
                    "split_key": key_text(split),
                    "window_start": window.start,
                    "window_end": window.end,
                    "settled": spent if budget.counts_from_window else 0,
                    "held": 0,
                    "baseline": 0 if budget.counts_from_window else spent,
                }
            )
    return rows


def _windows_under_way(budget: Budget, now: datetime) -> list[Period]:
    """Give the windows that count, from the start of validity to the latest usage there can be.

    None where each operation or each minute has a window of its own, since rollups do not tell them
    apart: these count from zero.
    """
    if budget.window.per_operation or budget.window.is_rate:
        windows = []
    elif budget.window.fixed is not None:
        windows = [budget.window.fixed]
    elif budget.window.calendar is not None:
        calendar = _calendar_windows(budget.window, min(budget.valid_from, now), now + LATEST_USAGE)
        windows = list(islice(calendar, MAX_SEEDED_WINDOWS + 1))
    else:
        windows = []
    if len(windows) > MAX_SEEDED_WINDOWS:
        raise InvalidInput(
            f"budget {budget.id!r}: valid_from reaches back over more than "
            f"{MAX_SEEDED_WINDOWS} windows"
        )
    return [window for window in windows if budget.counts_window(window)]


def _calendar_windows(window: BudgetWindow, begin: datetime, end: datetime) -> Iterator[Period]:
    """Give the windows from the first that the limit applies to at ``begin`` until ``end``."""
    span = window.span_at(begin)
    period = window.period_at(span.start) if span is not None else None
    while period is not None and period.start < end:
        yield period
        period = window.period_at(period.end)


def _spent_by_split(
    session: Session, budget: Budget, windows: Sequence[Period]
) -> dict[int, dict[tuple[str, ...], int]]:
    """Give, by place of the window and split values, what the rollups hold for the budget."""
    sums = list(sum_rollups(session, cover(windows)))
    dimensions = find_dimension_sets(session, {item.dimension_set_id for item in sums})
    spent: dict[int, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for item in sums:
        if budget.matches(dimensions[item.dimension_set_id]):
            split = budget.split_values(dimensions[item.dimension_set_id])
            spent[item.piece][split] += measured_by(budget.unit, item)
    return spent


def measured_by(unit: Unit, item: RollupSum) -> int:
    """Give a rollup's sum in a budget's unit."""
    if unit is Unit.MONEY:
        return item.sums[MEASURE_INDEX["effective_nanos"]]
    if unit is Unit.TOKENS:
        return item.sums[MEASURE_INDEX["input_tokens"]] + item.sums[MEASURE_INDEX["output_tokens"]]
    return item.sums[MEASURE_INDEX["requests"]]


def _standing_now(session: Session, budget: Budget, now: datetime) -> tuple[BudgetStanding, ...]:
    return tuple(_standings(session, [budget], now))


def _standings(session: Session, budgets: Sequence[Budget], now: datetime) -> list[BudgetStanding]:
    by_budget: dict[tuple[str, int], list[tuple[CounterRow, int | None]]] = defaultdict(list)
    counted_ids = {budget.id for budget in budgets if not budget.window.per_operation}
    for counter, forecast in list_counters(session, now, budget_ids=counted_ids):
        by_budget[counter.budget_id, counter.counting_version].append((counter, forecast))
    standings: list[BudgetStanding] = []
    for budget in budgets:
        if budget.window.rolling_days:
            standings.extend(_rolling_standings(session, budget, now))
            continue
        if budget.window.per_operation:
            standings.extend(_operation_standings(session, budget, now))
            continue
        counted = by_budget.get((budget.id, budget.counting_version), [])
        for counter, forecast in counted:
            carry = _carry_of(session, budget, counter)
            standing = _standing_of(budget, counter, now, carry=carry)
            standings.append(replace(standing, forecast=forecast))
        period = budget.period_counted_at(now)
        if not counted and not budget.split_by and period is not None:
            standings.append(_standing_of(budget, *_untouched(session, budget, period, now)))
    return standings


def _untouched(
    session: Session, budget: Budget, period: Period, now: datetime
) -> tuple[CounterRow, datetime, int]:
    """Give the counter that a window without one would get, now, and its carry."""
    counter = CounterRow(
        budget_id=budget.id,
        counting_version=budget.counting_version,
        split_key=key_text(()),
        window_start=period.start,
        window_end=period.end,
    )
    return counter, now, _carry_of(session, budget, counter)


def _carry_of(session: Session, budget: Budget, counter: CounterRow) -> int:
    """Give what a counter's window has of those before it: the final figure, or as they stand."""
    if budget.rollover is None:
        return 0
    if counter.carry is not None:
        return counter.carry
    key = CounterKey(
        counter.budget_id, counter.counting_version, counter.split_key, counter.window_start
    )
    past = [window for _, window in list_past_counters(session, key)]
    return carry_into(counter.window_start, past, budget.terms, budget.window.period_at)


def _rolling_standings(session: Session, budget: Budget, now: datetime) -> list[BudgetStanding]:
    """Give how a budget whose window rolls stands, by the sums that checks decide on."""
    span = budget.window.span_at(now)
    if span is None or budget.period_counted_at(now) is None:
        return []
    sums = sum_days(session, budget.id, budget.counting_version, since=span.start)
    if not sums and not budget.split_by:
        sums = [(key_text(()), 0, 0)]
    raised = budget.raised_at(now)
    return [
        BudgetStanding(
            budget=budget,
            split=split_values_of(split_key),
            period=span,
            settled=settled,
            held=held,
            headroom=budget.limit + raised - settled - held,
            forecast=None,
            raised=raised,
        )
        for split_key, settled, held in sums
    ]


def _operation_standings(session: Session, budget: Budget, now: datetime) -> list[BudgetStanding]:
    counters = list_most_used(
        session, budget.id, budget.counting_version, limit=MAX_OPERATIONS_SHOWN
    )
    return [_standing_of(budget, counter, now) for counter in counters]


def _standing_of(
    budget: Budget, counter: CounterRow, now: datetime, carry: int = 0
) -> BudgetStanding:
    split, operation_ref = split_and_operation(budget, counter.split_key)
    raised = budget.raised_at(now)
    return BudgetStanding(
        budget=budget,
        split=split,
        period=Period(counter.window_start, counter.window_end),
        settled=counter.settled,
        held=counter.held,
        headroom=budget.limit + carry + raised - counter.settled - counter.held,
        forecast=None,
        carry=carry,
        raised=raised,
        operation_ref=operation_ref,
    )

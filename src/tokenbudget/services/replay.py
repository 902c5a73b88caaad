"""What proposed budgets would have done to the calls of a period.

It owns where the budgets begin and how much of the ledger is in memory at once. It refuses to
decide on a call (``domain/replay.py``) and to write anything.

The budgets begin with the period as if they were created then: of the windows under way they count
what the ledger held by that instant, or nothing (baseline ``creation``), and a budget that names no
``valid_from`` is in force from then on. No other budget takes part, and what budgets in force then
really denied is not in the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import polars as pl
from sqlmodel import Session

from tokenbudget.domain.budgets import Budget
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import QUARTER_HOUR, Period, from_micros, to_micros
from tokenbudget.domain.replay import Replay, Replayer
from tokenbudget.domain.rollups import cover
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.frames.replay import calls_frame, calls_of
from tokenbudget.services.budgets import measured_by
from tokenbudget.store.db import Database
from tokenbudget.store.replay import list_calls, list_fixed_costs, list_used_quarter_hours
from tokenbudget.store.rollups import find_dimension_sets, sum_rollups

CALLS_PER_PART: Final = 100_000
"""How many calls are in memory at once: some fifty megabytes."""


def replay_budgets(
    database: Database,
    drafts: Sequence[BudgetDraft],
    period: Period,
    *,
    max_requests: int | None = None,
    advance: Callable[[int], None] | None = None,
    calls_per_part: int = CALLS_PER_PART,
) -> Replay:
    """Give what the budgets would have done together to every call of the period.

    The period begins and ends on quarter-hours. ``advance`` is told how many calls were decided on.
    Raises InvalidInput when the period holds more than ``max_requests`` requests, and for a budget
    that cannot be replayed. Raises of limits take no part.
    """
    for draft in drafts:
        _require_replayable(draft)
    with database.reading() as session:
        used = list_used_quarter_hours(session, period)
        _require_few(used, max_requests)
        budgets = [_budget_from(draft, period.start) for draft in drafts]
        replayer = Replayer(budgets)
        _seed(session, replayer, budgets, period.start)
        for calls in _calls(session, used, calls_per_part):
            unknown = replayer.unknown_sets(calls["dimension_set_id"].unique())
            replayer.learn(find_dimension_sets(session, unknown))
            replayer.play(calls_of(calls))
            if advance is not None:
                advance(calls.height)
    return replayer.replay(period)


def _require_replayable(draft: BudgetDraft) -> None:
    """Raise InvalidInput for what the sums and calls of the ledger cannot be replayed by."""
    if draft.window.per_operation:
        raise InvalidInput(
            f"budget {draft.id!r}: window {draft.window_text!r} is not replayed: rollups do not "
            "tell operations apart",
            field="window",
        )
    if draft.rollover is not None:
        raise InvalidInput(
            f"budget {draft.id!r}: rollover is not replayed; without it the limit is",
            field="rollover",
        )


def _require_few(used: Iterable[tuple[datetime, int]], max_requests: int | None) -> None:
    requests = sum(count for _, count in used)
    if max_requests is not None and requests > max_requests:
        raise InvalidInput(
            f"from and to span {requests} requests; at most {max_requests} are replayed here: "
            "name a shorter period, or run tokenbudget budgets replay",
            field="to",
        )


def _budget_from(draft: BudgetDraft, start: datetime) -> Budget:
    """Give the budget as it would be if it had been created at the instant."""
    return Budget(
        id=draft.id,
        version=1,
        counting_version=1,
        selector=draft.selector,
        split_by=draft.split_by,
        unit=draft.unit,
        limit=draft.limit,
        window=draft.window,
        window_text=draft.window_text,
        mode=draft.mode,
        thresholds=draft.thresholds,
        threshold_on=draft.threshold_on,
        overdraft=draft.overdraft,
        counts_from_window=draft.counts_from_window,
        fails_open=draft.fails_open,
        owner=draft.owner,
        channels=draft.channels,
        valid_from=draft.valid_from or start,
        valid_to=draft.valid_to,
    )


def _seed(session: Session, replayer: Replayer, budgets: Iterable[Budget], start: datetime) -> None:
    """Let each budget count what the ledger held of its window under way."""
    begun: dict[Period, list[Budget]] = defaultdict(list)
    for budget in budgets:
        for window in _begun_before(budget, start) if budget.counts_from_window else ():
            begun[window].append(budget)
    for window, counting in sorted(begun.items()):
        passed = Period(window.start, min(window.end, start))
        sums = list(sum_rollups(session, cover([passed])))
        dimensions = find_dimension_sets(session, {item.dimension_set_id for item in sums})
        for budget in counting:
            matching = [item for item in sums if budget.matches(dimensions[item.dimension_set_id])]
            spent: dict[tuple[str, ...], int] = defaultdict(int)
            for item in matching:
                split = budget.split_values(dimensions[item.dimension_set_id])
                spent[split] += measured_by(budget.unit, item)
            replayer.seed(budget.id, window, spent)


def _begun_before(budget: Budget, start: datetime) -> Iterator[Period]:
    """Give the window under way, or all days that roll, if they began earlier and count."""
    span = budget.window.span_at(start)
    window = None if span is None else budget.window.period_at(span.start)
    while window is not None and window.start < start:
        if budget.counts_window(window):
            yield window
        window = budget.window.period_at(window.end)


def _calls(
    session: Session, used: Sequence[tuple[datetime, int]], calls_per_part: int
) -> Iterator[pl.DataFrame]:
    """Give all calls and fixed costs of the quarter-hours in order, part by part."""
    for part in _parts(used, calls_per_part):
        yield from _calls_in(session, part, calls_per_part)


def _parts(used: Sequence[tuple[datetime, int]], calls_per_part: int) -> Iterator[Period]:
    """Give stretches of time that hold about so many calls each, one quarter-hour at least."""
    begun: datetime | None = None
    end = None
    held = 0
    for start, requests in used:
        if begun is not None and end is not None and held + requests > calls_per_part:
            yield Period(begun, end)
            begun, held = None, 0
        begun = begun or start
        end = start + QUARTER_HOUR
        held += requests
    if begun is not None and end is not None:
        yield Period(begun, end)


def _calls_in(session: Session, part: Period, calls_per_part: int) -> Iterator[pl.DataFrame]:
    """Give the calls and fixed costs of a part in order, halved for as long as they are too many.

    Requests only tell about how many calls there are: a call may be none, or many.
    """
    first, behind = to_micros(part.start), to_micros(part.end)
    limit = calls_per_part + 1 if behind - first > 1 else None
    fixed = list_fixed_costs(session, part)
    calls = calls_frame([*([fixed] if fixed else []), *list_calls(session, part, limit=limit)])
    if limit is None or calls.height - len(fixed) < limit:
        yield calls
        return
    middle = from_micros((first + behind) // 2)
    for half in (Period(part.start, middle), Period(middle, part.end)):
        yield from _calls_in(session, half, calls_per_part)

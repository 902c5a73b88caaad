"""Replays on the wire and in words: which budgets and period are asked for, and what is told.

It owns the sentences. It refuses to know how a replay is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final

from tokenbudget.domain.budgets import Mode
from tokenbudget.domain.costs import LATEST_END
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import EPOCH, Period, format_instant, parse_instant, zone
from tokenbudget.domain.replay import BudgetReplay, CallSums, Replay, SplitReplay, WindowReplay
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.formats.budgets import BudgetDraft, format_quantity, parse_budget
from tokenbudget.formats.display import count_text, counted_text, moment_text, nanos_text

REPLAY_FIELDS: Final = ("budgets", "from", "to")
MAX_BUDGETS: Final = 100
"""How many budgets one request may replay: each may decide on every call."""

ACTIONS: Final = {Mode.HARD: "denied", Mode.SOFT: "warned", Mode.SHADOW: "recorded"}
"""What a budget would have done to a call that it has no room for."""

ENDINGS: Final = {
    Mode.HARD: "{cost} saved",
    Mode.SOFT: "which cost {cost}",
    Mode.SHADOW: "which cost {cost}",
}
VERBS: Final = {
    Mode.HARD: "denied",
    Mode.SOFT: "warned of",
    Mode.SHADOW: "recorded, and let through,",
}


def parse_replay(body: Mapping[str, Any], *, timezone: str) -> tuple[list[BudgetDraft], Period]:
    """Give the budgets and the period of a request.

    ``timezone`` is the zone of budgets and days that name none. Raises InvalidInput naming the
    field, the budget and the rule.
    """
    for name in body:
        if name not in REPLAY_FIELDS:
            raise InvalidInput(f"unknown field {name!r}", field=name)
    bounds = [body.get(name) for name in ("from", "to")]
    for name, bound in zip(("from", "to"), bounds, strict=True):
        if not isinstance(bound, str):
            raise InvalidInput(f"{name} must be a day or a time of RFC 3339", field=name)
    period = parse_replay_period(str(bounds[0]), str(bounds[1]), timezone=timezone)
    return _parse_budgets(body.get("budgets"), timezone), period


def parse_replay_period(start_text: str, end_text: str, *, timezone: str) -> Period:
    """Give the period from a day or time to before another, days being those of the zone.

    Raises InvalidInput naming ``from`` or ``to`` when one cannot be read or lies on no
    quarter-hour, or when they are the wrong way round.
    """
    start = _bound_of(start_text, "from", timezone)
    end = _bound_of(end_text, "to", timezone)
    if start >= end:
        raise InvalidInput(f"to {end_text} must be after from {start_text}", field="to")
    return Period(start, end)


def describe_replay(told: Replay, *, currency: str, timezone: str) -> dict[str, Any]:
    """Give the wire form: the calls there were, those denied, and what each budget did.

    Of the sentences, that of all budgets tells the time in the zone, each other in its budget's.
    """
    return {
        "from": format_instant(told.period.start),
        "to": format_instant(told.period.end),
        "currency": currency,
        "seen": describe_sums(told.seen),
        "denied": describe_sums(told.denied),
        "saved": format_nanos(told.denied.nanos),
        "sentence": replay_sentence(told, currency=currency, timezone=timezone),
        "budgets": [
            _describe_budget(each, period=told.period, currency=currency) for each in told.budgets
        ],
    }


def describe_sums(sums: CallSums) -> dict[str, Any]:
    """Give the wire form of calls: how many, what they cost and used, the first and the last."""
    return {
        "calls": sums.calls,
        "cost": format_nanos(sums.nanos),
        "tokens": sums.tokens,
        "requests": sums.requests,
        "first_at": _text(sums.first_at),
        "last_at": _text(sums.last_at),
    }


def budget_sentence(told: BudgetReplay, *, period: Period, currency: str) -> str:
    """Give in words what one budget would have done, the time in the budget's zone."""
    budget, refused = told.budget, told.refused
    if budget.valid_from >= period.end or (budget.valid_to or period.end) <= period.start:
        return f"Budget {budget.id} is not in force in that period."
    verb = VERBS[budget.mode]
    seen = counted_text(told.seen.calls, "call")
    if not refused.calls or refused.first_at is None:
        return f"Budget {budget.id} would have {verb} none of {seen}."
    first = _moment(refused.first_at, budget.window.timezone)
    ending = ENDINGS[budget.mode].format(cost=nanos_text(refused.nanos, currency))
    counted = f"{count_text(refused.calls)} of {seen}"
    unpriced = f", {count_text(told.unpriced)} of them without a price" if told.unpriced else ""
    return f"Budget {budget.id} would have {verb} {counted}{unpriced}, first on {first}, {ending}."


def replay_sentence(told: Replay, *, currency: str, timezone: str) -> str:
    """Give in words what the budgets would have denied together, the time in the zone."""
    seen = counted_text(told.seen.calls, "call")
    denied = told.denied
    if not denied.calls or denied.first_at is None:
        return f"Together they would have denied none of {seen}."
    first = _moment(denied.first_at, timezone)
    saved = nanos_text(denied.nanos, currency)
    counted = f"{count_text(denied.calls)} of {seen}"
    return f"Together they would have denied {counted}, first on {first}, {saved} saved."


def _parse_budgets(given: object, timezone: str) -> list[BudgetDraft]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_BUDGETS:
        raise InvalidInput(f"budgets must list 1 to {MAX_BUDGETS} budgets", field="budgets")
    drafts: dict[str, BudgetDraft] = {}
    for number, entry in enumerate(given, start=1):
        draft = parse_budget(entry, where=f"budget {number}", timezone=timezone)
        if draft.id in drafts:
            raise InvalidInput(f"budget {number}: id {draft.id!r} is used twice", field="budgets")
        drafts[draft.id] = draft
    return list(drafts.values())


def _bound_of(text: str, name: str, timezone: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        bound = parse_instant(text, field=name)
    else:
        bound = datetime.combine(day, time(), tzinfo=zone(timezone))
    if not EPOCH <= bound <= LATEST_END:
        raise InvalidInput(f"{name} {text} must lie between 1970 and 2200", field=name)
    if bound != quarter_hour_at(bound):
        raise InvalidInput(f"{name} {text} must lie on a quarter-hour", field=name)
    return bound.astimezone(UTC)


def _describe_budget(told: BudgetReplay, *, period: Period, currency: str) -> dict[str, Any]:
    budget, refused = told.budget, told.refused
    return {
        "budget": budget.id,
        "mode": budget.mode.value,
        "unit": budget.unit.value,
        "limit": format_quantity(budget.limit, budget.unit),
        "window": budget.window_text,
        "timezone": budget.window.timezone,
        "seen": describe_sums(told.seen),
        **{action: refused.calls if mode is budget.mode else 0 for mode, action in ACTIONS.items()},
        "refused": describe_sums(refused),
        "unpriced": told.unpriced,
        "saved": format_nanos(refused.nanos if budget.mode is Mode.HARD else 0),
        "windows": [_describe_window(each) for each in told.windows],
        "window_count": told.window_count,
        "splits": [_describe_split(each, budget.split_by) for each in told.splits],
        "split_count": told.split_count,
        "sentence": budget_sentence(told, period=period, currency=currency),
    }


def _describe_window(told: WindowReplay) -> dict[str, Any]:
    return {
        "window_start": format_instant(told.period.start),
        "resets_at": format_instant(told.period.end),
        "counters": told.counters,
        "refused": describe_sums(told.refused),
    }


def _describe_split(told: SplitReplay, names: tuple[str, ...]) -> dict[str, Any]:
    split = dict(zip(names, told.split, strict=True))
    return {"split": split, "refused": describe_sums(told.refused)}


def _moment(instant: datetime, timezone: str) -> str:
    return f"{moment_text(instant, timezone)} {timezone}"


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)

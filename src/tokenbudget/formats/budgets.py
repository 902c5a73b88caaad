"""Budgets as the API and ``budgets.toml`` spell them (contract: Budgets).

One model, the same words in both.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec

from tokenbudget.domain.allowances import Rollover
from tokenbudget.domain.budget_tree import Overcommitment
from tokenbudget.domain.budgets import (
    BASIS_POINTS,
    LIFETIME,
    Budget,
    BudgetWindow,
    Mode,
    ThresholdOn,
    Unit,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos, parse_decimal, parse_nanos
from tokenbudget.domain.owners import OwnerEntry
from tokenbudget.domain.periods import Period, Window, format_instant, parse_instant, zone
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.formats.owners import parse_owners
from tokenbudget.formats.wire import plain_fault, require_no_nul

MAX_THRESHOLDS: Final = 20
MAX_CHILDREN_NAMED: Final = 5
MIN_THRESHOLD: Final = Decimal(1) / BASIS_POINTS
MAX_THRESHOLD: Final = 100
USUAL_THRESHOLDS: Final = (Decimal("0.5"), Decimal("0.8"), Decimal("1"))
MAX_COUNT: Final = 10**18
UNSUPPORTED_SELECTORS: Final = frozenset({"owner", "cost_center"})
FISCAL_WINDOW: Final = re.compile(r"^(?P<window>year|quarter):(?P<month>0[1-9]|1[0-2])(?![\s\S])")
"""A fiscal year that begins with that month, or its quarters."""

ROLLING_WINDOW: Final = re.compile(r"^rolling:(?P<days>[1-9][0-9]{0,2})d(?![\s\S])")
MAX_ROLLING_DAYS: Final = 366
OPERATION_WINDOW: Final = "operation"

# An id stands in paths and headers, where only ASCII is safe; "$" would let a last newline in.
ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*(?![\s\S])"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=ID_PATTERN)]


class RolloverShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a rollover: how much may be carried over, left or overspent.

    Quantities are those of the budget's unit; ``max_carry`` None means as much as the limit.
    """

    max_carry: Any = None
    max_debt: Any = 0


class BudgetShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of one budget; only id, limit and window are required.

    Quantities are text, integers or decimals, and times text or TOML's own: unions that are told
    apart further in.
    """

    id: Name
    limit: Any
    window: str
    selector: dict[str, str | list[str]] = {}
    split_by: list[str] = []
    unit: Literal["money", "tokens", "requests"] = "money"
    timezone: str | None = None
    mode: Literal["hard", "soft", "shadow"] = "soft"
    thresholds: Annotated[tuple[Decimal, ...], msgspec.Meta(max_length=MAX_THRESHOLDS)] | None = (
        None
    )
    on: Literal["actual", "committed", "forecast"] = "committed"
    rollover: RolloverShape | None = None
    overdraft: Any = 0
    baseline: Literal["window", "creation"] = "window"
    fail_mode: Literal["closed", "open"] = "closed"
    owner: str | None = None
    channels: list[str] = []
    valid_from: Any = None
    valid_to: Any = None


@dataclass(frozen=True, slots=True)
class BudgetDraft:
    """A budget as written, before the ledger gives it a version.

    ``valid_from`` None means from now.
    """

    id: str
    selector: Mapping[str, frozenset[str]]
    split_by: tuple[str, ...]
    unit: Unit
    limit: int
    window: BudgetWindow
    window_text: str
    mode: Mode
    thresholds: tuple[int, ...]
    threshold_on: ThresholdOn
    overdraft: int
    counts_from_window: bool
    fails_open: bool
    owner: str | None
    channels: tuple[str, ...]
    valid_from: datetime | None
    valid_to: datetime | None
    rollover: Rollover | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file of budgets holds: the budgets, and the owners that answer for them."""

    budgets: list[BudgetDraft]
    owners: list[OwnerEntry]


def parse_budgets_toml(text: str, *, file_name: str, timezone: str) -> list[BudgetDraft]:
    """Give the budgets of a file of ``[[budget]]`` tables.

    Raises InvalidInput naming file, budget and field.
    """
    document = _document_of(text, file_name, known={"budget"})
    return _budgets_of(document, file_name, timezone)


def parse_plan_toml(text: str, *, file_name: str, timezone: str) -> Plan:
    """Give the budgets and owners of a file of ``[[budget]]`` and ``[[owner]]`` tables.

    Raises InvalidInput naming file, entry and field.
    """
    document = _document_of(text, file_name, known={"budget", "owner"})
    owners = parse_owners({"owner": document.get("owner", [])}, where=file_name)
    return Plan(_budgets_of(document, file_name, timezone), owners)


def _document_of(text: str, file_name: str, *, known: Collection[str]) -> dict[str, Any]:
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InvalidInput(
            f"{file_name}: {unknown[0]!r} is not known; budgets are [[budget]] tables"
        )
    return document


def _budgets_of(document: Mapping[str, Any], file_name: str, timezone: str) -> list[BudgetDraft]:
    entries = document.get("budget", [])
    if not isinstance(entries, list):
        raise InvalidInput(f"{file_name}: budgets are [[budget]] tables, with two brackets")
    drafts: dict[str, BudgetDraft] = {}
    for number, entry in enumerate(entries, start=1):
        draft = parse_budget(entry, where=f"{file_name}: budget {number}", timezone=timezone)
        if draft.id in drafts:
            raise InvalidInput(f"{file_name}: budget {number}: id {draft.id!r} is used twice")
        drafts[draft.id] = draft
    return list(drafts.values())


def parse_budget(entry: object, *, where: str, timezone: str) -> BudgetDraft:
    """Give the budget of one decoded object; ``timezone`` is the default zone."""
    try:
        shape = msgspec.convert(entry, BudgetShape)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, 'budget')}") from None
    try:
        require_no_nul(shape)
        return _draft_of(shape, timezone)
    except InvalidInput as error:
        raise InvalidInput(f"{where} ({shape.id}): {error.detail}") from None


def require_rolled_up(drafts: Iterable[BudgetDraft], unrolled_tags: Collection[str]) -> None:
    """Raise InvalidInput when a budget counts by a tag that is kept on usage but not in rollups."""
    for draft in drafts:
        unrolled = sorted({*draft.selector, *draft.split_by} & set(unrolled_tags))
        if unrolled:
            raise InvalidInput(
                f"budget {draft.id!r}: {unrolled[0]!r} cannot be counted by, because "
                "TOKENBUDGET_UNROLLED_TAGS names it"
            )


def describe_budget(budget: Budget | BudgetDraft) -> dict[str, Any]:
    """Give the wire form of a budget; what it leaves out is None."""
    return {
        "id": budget.id,
        "selector": describe_selector(budget.selector),
        "split_by": list(budget.split_by),
        "unit": budget.unit.value,
        "limit": format_quantity(budget.limit, budget.unit),
        "window": budget.window_text,
        "timezone": budget.window.timezone,
        "mode": budget.mode.value,
        "thresholds": [share_of(threshold) for threshold in budget.thresholds],
        "on": budget.threshold_on.value,
        "rollover": _describe_rollover(budget.rollover, budget.unit),
        "overdraft": format_quantity(budget.overdraft, budget.unit),
        "baseline": "window" if budget.counts_from_window else "creation",
        "fail_mode": "open" if budget.fails_open else "closed",
        "owner": budget.owner,
        "channels": list(budget.channels),
        "valid_from": format_instant(budget.valid_from) if budget.valid_from else None,
        "valid_to": format_instant(budget.valid_to) if budget.valid_to else None,
    }


def _describe_rollover(rollover: Rollover | None, unit: Unit) -> dict[str, str | None] | None:
    if rollover is None:
        return None
    max_carry = rollover.max_carry
    return {
        "max_carry": None if max_carry is None else format_quantity(max_carry, unit),
        "max_debt": format_quantity(rollover.max_debt, unit),
    }


def describe_selector(selector: Mapping[str, frozenset[str]]) -> dict[str, str | list[str]]:
    """Give the wire form of a selector: one value as a text, more as a list."""
    return {name: _one_or_list(selector[name]) for name in sorted(selector)}


def format_quantity(quantity: int, unit: Unit) -> str:
    """Give a limit, settled or held as text.

    A decimal amount for money, an integer for tokens and requests.
    """
    return format_nanos(quantity) if unit is Unit.MONEY else str(quantity)


def overcommitment_sentence(found: Overcommitment) -> str:
    """Give the sentence that children exceed their parent, with both figures."""
    parent, children = found.parent, found.children
    named = ", ".join(child.id for child in children[:MAX_CHILDREN_NAMED])
    others = len(children) - MAX_CHILDREN_NAMED
    more = f" and {others} more" if others > 0 else ""
    allows = "allows" if len(children) == 1 else "allow together"
    total, limit = (format_quantity(each, parent.unit) for each in (found.total, parent.limit))
    return f"{named}{more} {allows} {total}, more than the {limit} of their parent {parent.id}"


def share_of(basis_points: int) -> Decimal:
    """Give a threshold as a share of the limit, exactly."""
    return (Decimal(basis_points) / BASIS_POINTS).normalize()


def format_threshold(basis_points: int) -> str:
    """Give a threshold as the text of its share of the limit, such as ``0.8``."""
    return format(share_of(basis_points), "f")


def parse_threshold(text: str) -> int:
    """Give the basis points of a threshold that ``format_threshold`` wrote."""
    return int(Decimal(text) * BASIS_POINTS)


def parse_window(text: str, timezone: str) -> BudgetWindow:
    """Give the window; raises InvalidInput for one that is unknown or not available."""
    zone(timezone)
    if text in list(Window):
        return BudgetWindow(Window(text), None, timezone)
    fiscal = FISCAL_WINDOW.match(text)
    if fiscal is not None:
        return BudgetWindow(Window(fiscal["window"]), None, timezone, int(fiscal["month"]))
    if text == "lifetime":
        return BudgetWindow(None, LIFETIME, timezone)
    if text.startswith("range:"):
        return BudgetWindow(None, _parse_range(text, timezone), timezone)
    if text.startswith("rolling:"):
        return BudgetWindow(Window.DAY, None, timezone, rolling_days=_parse_rolling(text))
    if text == OPERATION_WINDOW:
        return BudgetWindow(None, LIFETIME, timezone, per_operation=True)
    others = ("year:MM", "quarter:MM", "rolling:Nd", "lifetime", "range:START/END", "operation")
    known = ", ".join([*Window, *others])
    raise InvalidInput(f"window {text!r} is not one of {known}", field="window")


def _draft_of(shape: BudgetShape, default_timezone: str) -> BudgetDraft:
    unit = Unit(shape.unit)
    valid_from = parse_budget_instant(shape.valid_from, "valid_from")
    valid_to = parse_budget_instant(shape.valid_to, "valid_to")
    if valid_from is not None and valid_to is not None and valid_from >= valid_to:
        raise InvalidInput("valid_to must be after valid_from", field="valid_to")
    window = parse_window(shape.window, shape.timezone or default_timezone)
    _require_fitting(shape, window)
    return BudgetDraft(
        id=shape.id,
        selector=parse_selector(shape.selector),
        split_by=_split_of(shape.split_by),
        unit=unit,
        limit=parse_quantity(shape.limit, unit, "limit"),
        window=window,
        window_text=shape.window,
        mode=Mode(shape.mode),
        thresholds=_thresholds_of(shape.thresholds, window),
        threshold_on=ThresholdOn(shape.on),
        overdraft=parse_quantity(shape.overdraft, unit, "overdraft"),
        counts_from_window=shape.baseline == "window",
        fails_open=shape.fail_mode == "open",
        owner=shape.owner,
        channels=tuple(shape.channels),
        valid_from=valid_from,
        valid_to=valid_to,
        rollover=_rollover_of(shape.rollover, unit),
    )


def _require_fitting(shape: BudgetShape, window: BudgetWindow) -> None:
    """Raise InvalidInput when a budget asks of its window what such a window cannot give."""
    is_calendar = window.calendar is not None and not window.rolling_days and not window.is_rate
    if shape.rollover is not None and not is_calendar:
        raise InvalidInput(
            f"rollover needs a calendar window of an hour or longer, not {shape.window!r}",
            field="rollover",
        )
    has_end = is_calendar or (window.fixed is not None and window.fixed.end < LIFETIME.end)
    if ThresholdOn(shape.on) is ThresholdOn.FORECAST and not has_end:
        raise InvalidInput(
            f"on {shape.on!r} needs a window that ends, and not within a minute, "
            f"not {shape.window!r}",
            field="on",
        )


def _rollover_of(shape: RolloverShape | None, unit: Unit) -> Rollover | None:
    if shape is None:
        return None
    max_carry = shape.max_carry
    return Rollover(
        None if max_carry is None else parse_quantity(max_carry, unit, "rollover.max_carry"),
        parse_quantity(shape.max_debt, unit, "rollover.max_debt"),
    )


def parse_selector(selector: Mapping[str, str | list[str]]) -> dict[str, frozenset[str]]:
    """Give the accepted values by dimension or tag; raises InvalidInput naming the condition."""
    conditions: dict[str, frozenset[str]] = {}
    for name, accepted in selector.items():
        dimension = _dimension_of(name, "selector")
        if dimension in conditions:
            raise InvalidInput(f"selector names {dimension!r} twice", field="selector")
        values = [accepted] if isinstance(accepted, str) else accepted
        if not values or "" in values:
            raise InvalidInput(f"selector.{name} needs at least one value, none of them empty")
        conditions[dimension] = frozenset(values)
    return conditions


def _split_of(names: list[str]) -> tuple[str, ...]:
    dimensions = tuple(_dimension_of(name, "split_by") for name in names)
    if len(set(dimensions)) != len(dimensions):
        raise InvalidInput("split_by names a dimension twice", field="split_by")
    return dimensions


def _dimension_of(name: str, field: str) -> str:
    """Give the dimension or tag that ``team`` or ``tag:team`` names."""
    if name in UNSUPPORTED_SELECTORS:
        raise InvalidInput(f"{field} {name!r} is not available: budgets match what a call carries")
    dimension = name.removeprefix("tag:")
    if not dimension:
        raise InvalidInput(f"{field} {name!r} names no dimension", field=field)
    return dimension


def parse_quantity(value: object, unit: Unit, field: str) -> int:
    """Give a quantity of a budget's unit, zero or more; raises InvalidInput naming the field."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidInput(
            f"{field} must be a decimal number, not {type(value).__name__}", field=field
        )
    if unit is Unit.MONEY:
        quantity = parse_nanos(value, field=field)
    else:
        quantity = _count_of(parse_decimal(value, field=field), unit, field)
    if quantity < 0:
        raise InvalidInput(f"{field} {value} is negative", field=field)
    return quantity


def _count_of(value: Decimal, unit: Unit, field: str) -> int:
    if not -MAX_COUNT <= value <= MAX_COUNT:
        raise InvalidInput(f"{field} {value} is out of range", field=field)
    if value % 1:
        raise InvalidInput(f"{field} {value} must be a whole number of {unit.value}", field=field)
    return int(value)


def _thresholds_of(thresholds: tuple[Decimal, ...] | None, window: BudgetWindow) -> tuple[int, ...]:
    if thresholds is None:
        # Where none are named, a rate has none: it would alert anew each minute.
        thresholds = () if window.is_rate else USUAL_THRESHOLDS
    basis_points = []
    for threshold in thresholds:
        in_range = threshold.is_finite() and MIN_THRESHOLD <= threshold <= MAX_THRESHOLD
        if not in_range or threshold * BASIS_POINTS % 1:
            raise InvalidInput(
                f"threshold {threshold} must be above 0, at most {MAX_THRESHOLD}, "
                f"in steps of {MIN_THRESHOLD}"
            )
        basis_points.append(int(threshold * BASIS_POINTS))
    return tuple(sorted(set(basis_points)))


def _parse_range(text: str, timezone: str) -> Period:
    start_text, separator, end_text = text.removeprefix("range:").partition("/")
    if not separator:
        raise InvalidInput(f"window {text!r} must be range:START/END", field="window")
    start, end = (_range_bound(bound, timezone) for bound in (start_text, end_text))
    if start >= end:
        raise InvalidInput(f"window {text!r} must end after it starts", field="window")
    return Period(start, end)


def _parse_rolling(text: str) -> int:
    """Give the days that roll, today included."""
    rolling = ROLLING_WINDOW.match(text)
    days = int(rolling["days"]) if rolling is not None else 0
    if not 1 <= days <= MAX_ROLLING_DAYS:
        raise InvalidInput(
            f"window {text!r} must be rolling:Nd, the last N days, N from 1 to {MAX_ROLLING_DAYS}",
            field="window",
        )
    return days


def _range_bound(text: str, timezone: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"window bound {text!r} is not a date or time", field="window") from None
    bound = value if value.tzinfo is not None else value.replace(tzinfo=zone(timezone))
    if not LIFETIME.start <= bound <= LIFETIME.end:
        raise InvalidInput(f"window bound {text!r} is out of range", field="window")
    if bound != quarter_hour_at(bound):
        # Rollups tell quarter-hours apart, no less.
        raise InvalidInput(f"window bound {text!r} must lie on a quarter-hour", field="window")
    return bound.astimezone(UTC)


def parse_budget_instant(value: object, field: str) -> datetime | None:
    """Give an instant of a budget, None for none; raises InvalidInput naming the field."""
    if value is None:
        return None
    if not isinstance(value, str | date):
        raise InvalidInput(f"{field} must be a time, not {type(value).__name__}", field=field)
    instant = parse_instant(str(value), field=field)
    if not LIFETIME.contains(instant):
        raise InvalidInput(f"{field} {value} is out of range", field=field)
    return instant


def _one_or_list(values: frozenset[str]) -> str | list[str]:
    return next(iter(values)) if len(values) == 1 else sorted(values)

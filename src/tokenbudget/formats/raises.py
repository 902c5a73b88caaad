"""Raises of budgets as the API and the command line spell them.

It owns their shape. It refuses to know whether the budget exists: its unit is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from tokenbudget.domain.allowances import Raise
from tokenbudget.domain.budgets import Unit
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity, parse_budget_instant, parse_quantity
from tokenbudget.formats.wire import plain_fault, require_no_nul

MAX_REASON_LENGTH: Final = 500

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON_LENGTH)]


class RaiseShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a raise; ``valid_from`` may be left out and means now."""

    amount: Any
    valid_to: Any
    reason: Reason
    valid_from: Any = None


@dataclass(frozen=True, slots=True)
class RaiseDraft:
    """A raise as asked for; ``amount`` is in the budget's unit, ``valid_from`` None means now."""

    amount: int
    valid_from: datetime | None
    valid_to: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RaiseView:
    """A raise with its history; ``ended_at`` and ``ended_by`` are None unless it was ended.

    ``terms`` is the raise as it counts, ``asked_until`` the end that was asked for.
    """

    budget_id: str
    unit: Unit
    terms: Raise
    asked_until: datetime
    reason: str
    key_id: str
    recorded_at: datetime
    ended_at: datetime | None
    ended_by: str | None


def describe_raise(view: RaiseView, now: datetime) -> dict[str, Any]:
    """Give the wire form of a raise, and whether it counts now."""
    return {
        "id": view.terms.id,
        "budget": view.budget_id,
        "unit": view.unit.value,
        "amount": format_quantity(view.terms.amount, view.unit),
        "valid_from": format_instant(view.terms.valid_from),
        "valid_to": format_instant(view.asked_until),
        "reason": view.reason,
        "in_force": view.terms.is_in_force(now),
        "recorded_at": format_instant(view.recorded_at),
        "recorded_by": view.key_id or None,
        "ended_at": format_instant(view.ended_at) if view.ended_at else None,
        "ended_by": view.ended_by or None,
    }


def parse_raise(entry: object, unit: Unit) -> RaiseDraft:
    """Give the raise of one decoded object; raises InvalidInput naming the field and the rule."""
    try:
        shape = msgspec.convert(entry, RaiseShape)
    except msgspec.ValidationError as error:
        raise InvalidInput(plain_fault(error, "raise")) from None
    require_no_nul(shape)
    amount = parse_quantity(shape.amount, unit, "amount")
    if amount == 0:
        raise InvalidInput("amount must be above zero", field="amount")
    valid_to = parse_budget_instant(shape.valid_to, "valid_to")
    if valid_to is None:
        raise InvalidInput("valid_to is needed: a raise is for a time", field="valid_to")
    valid_from = parse_budget_instant(shape.valid_from, "valid_from")
    return RaiseDraft(amount, valid_from, valid_to, shape.reason)

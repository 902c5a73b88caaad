"""Re-attributions on the wire: the period that is asked for, and what would move or has moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant, parse_instant
from tokenbudget.domain.reattribution import Reattribution, UsePeriod
from tokenbudget.formats.rerating import describe_delta, describe_owner_key

PERIOD_FIELDS: Final = ("start", "end")


def parse_use_period(body: Mapping[str, Any]) -> UsePeriod:
    """Give the period of a request; raises InvalidInput naming the field and the rule."""
    for name in body:
        if name not in PERIOD_FIELDS:
            raise InvalidInput(f"unknown field {name!r}", field=name)
    return UsePeriod(*(_instant(body, name) for name in PERIOD_FIELDS))


def describe_reattribution(shown: Reattribution, *, currency: str) -> dict[str, Any]:
    """Give the wire form: what moves in all, what has moved so far, and who gains or loses."""
    return {
        "id": shown.reattribution_id,
        "state": shown.state.value,
        "start": _text(shown.period.start),
        "end": _text(shown.period.end),
        "digest": shown.digest,
        "currency": currency,
        "proposed": describe_delta(shown.proposed),
        "applied": describe_delta(shown.applied),
        "stale": describe_delta(shown.stale),
        "deltas": [
            {**describe_owner_key(key), **describe_delta(delta)}
            for key, delta in shown.deltas.items()
        ],
        "created_at": format_instant(shown.created_at),
        "created_by": shown.created_by,
        "approved_at": _text(shown.approved_at),
        "approved_by": shown.approved_by,
        "applied_at": _text(shown.applied_at),
    }


def _instant(body: Mapping[str, Any], name: str) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a text", field=name)
    return parse_instant(value, field=name)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)

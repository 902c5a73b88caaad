"""Re-ratings on the wire: the scope that is asked for, and what would move or has moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import format_instant, parse_instant
from tokenbudget.domain.reattribution import OwnerKey
from tokenbudget.domain.rerating import (
    USUAL_REASONS,
    CostDelta,
    DeltaKey,
    Reason,
    Rerate,
    RerateScope,
)

SCOPE_FIELDS: Final = ("reasons", "provider", "model", "start", "end")


def parse_scope(body: Mapping[str, Any]) -> RerateScope:
    """Give the scope of a request; raises InvalidInput naming the field and the rule."""
    for name in body:
        if name not in SCOPE_FIELDS:
            raise InvalidInput(f"unknown field {name!r}", field=name)
    instants = {
        name: parse_instant(text, field=name)
        for name in ("start", "end")
        if (text := _text(body, name)) is not None
    }
    return RerateScope(
        reasons=_reasons(body.get("reasons")),
        provider=_text(body, "provider"),
        model=_text(body, "model"),
        start=instants.get("start"),
        end=instants.get("end"),
    )


def describe_scope(scope: RerateScope) -> dict[str, Any]:
    """Give the wire form, every field present."""
    return {
        "reasons": sorted(scope.reasons),
        "provider": scope.provider,
        "model": scope.model,
        "start": _instant_text(scope.start),
        "end": _instant_text(scope.end),
    }


def describe_rerate(rerate: Rerate, *, currency: str) -> dict[str, Any]:
    """Give the wire form: what was proposed, applied and left alone, and who bears it."""
    return {
        "id": rerate.rerate_id,
        "state": rerate.state.value,
        "scope": describe_scope(rerate.scope),
        "is_automatic": rerate.is_automatic,
        "price_list": rerate.price_list_version,
        "digest": rerate.digest,
        "currency": currency,
        "proposed": describe_delta(rerate.proposed),
        "applied": describe_delta(rerate.applied),
        "stale": describe_delta(rerate.stale),
        "deltas": [
            {**describe_key(key), **describe_delta(delta)} for key, delta in rerate.deltas.items()
        ],
        "created_at": format_instant(rerate.created_at),
        "approved_at": _instant_text(rerate.approved_at),
        "applied_at": _instant_text(rerate.applied_at),
    }


def describe_delta(delta: CostDelta) -> dict[str, Any]:
    """Give the wire form of a difference; amounts are decimal strings that may be negative."""
    return {
        "usages": delta.usages,
        "list_cost": format_nanos(delta.list_nanos),
        "contracted_cost": format_nanos(delta.contracted_nanos),
        "effective_cost": format_nanos(delta.effective_nanos),
    }


def describe_key(key: DeltaKey) -> dict[str, Any]:
    """Give the wire form of what a difference is shown by; the period is like ``2026-11``."""
    return {**describe_owner_key(key), "reason": key.reason.value}


def describe_owner_key(key: DeltaKey | OwnerKey) -> dict[str, Any]:
    """Give the wire form of who a difference is of and when; the period is like ``2026-11``."""
    year, month = divmod(key.accounting_period, 100)
    return {
        "team": key.team,
        "feature": key.feature,
        "tenant": key.tenant,
        "accounting_period": f"{year:04d}-{month:02d}",
    }


def _instant_text(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _reasons(given: object) -> frozenset[Reason]:
    if given is None:
        return USUAL_REASONS
    known = [reason.value for reason in Reason]
    if not isinstance(given, list) or not all(each in known for each in given):
        raise InvalidInput(f"reasons must list some of {', '.join(known)}", field="reasons")
    return frozenset(Reason(each) for each in given)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidInput(f"{name} must be a text", field=name)
    return value

"""What was decided and what is not settled yet, as the API spells it."""

from __future__ import annotations

from typing import Any, Final

from tokenbudget.domain.decisions import KeptDecision, KeptDecisions
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.unsettled import OpenCall, OpenCalls

CALL: Final = "call"
EXPIRED_HOLD: Final = "expired_hold"


def describe_kept_decisions(page: KeptDecisions, *, currency: str) -> dict[str, Any]:
    """Give a page of decisions as one JSON object."""
    return {
        "currency": currency,
        "decisions": [_describe_kept(each) for each in page.items],
        "omitted_denials": page.omitted,
        "next": page.next_cursor,
    }


def describe_open_calls(page: OpenCalls, *, currency: str) -> dict[str, Any]:
    """Give a page of calls and holds of unknown outcome as one JSON object."""
    return {
        "currency": currency,
        "unsettled": [_describe_open(each) for each in page.items],
        "totals": {
            "calls": page.calls,
            "provisional_cost": format_nanos(page.provisional_nanos),
            "expired_holds": page.expired_holds,
        },
        "next": page.next_cursor,
    }


def _describe_kept(kept: KeptDecision) -> dict[str, Any]:
    return {
        "id": kept.decision_id,
        "decided_at": format_instant(kept.decided_at),
        "key": kept.key_id or None,
        "decision": kept.decision,
        "reasons": list(kept.reasons),
        "tags": dict(kept.tags),
        "provider": kept.provider or None,
        "model": kept.model or None,
        "requests": kept.requests,
        "estimate": _money(kept.estimate_nanos),
        "budget": kept.budget_id,
        "budget_version": kept.budget_version,
        "hold_id": kept.hold_id,
        "dry_run": kept.is_dry_run,
    }


def _describe_open(call: OpenCall) -> dict[str, Any]:
    return {
        "kind": EXPIRED_HOLD if call.usage_id is None else CALL,
        "event": None if call.usage_id is None else str(call.usage_id),
        "hold_id": call.hold_id,
        "since": format_instant(call.since),
        "team": call.team,
        "feature": call.feature,
        "provider": call.provider or None,
        "model": call.model or None,
        "requests": call.requests,
        "estimate": _money(call.estimate_nanos),
        "provisional_cost": _money(call.provisional_nanos),
    }


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)

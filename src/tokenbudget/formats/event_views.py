"""Single usages as the wire spells them: parameters in, one object a usage out.

It owns names and shapes; it refuses to find usage. Money is a decimal string in the ledger
currency, null where it is unknown; ids are text that says nothing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenbudget.domain.allocation import CALL_DIMENSIONS, TAG_DIMENSIONS
from tokenbudget.domain.costs import CostFilter
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.event_queries import (
    USUAL_PAGE_EVENTS,
    ChargeRecord,
    EventHistory,
    EventPage,
    EventQuery,
    EventRecord,
    OperationTotals,
    quantity_differences,
)
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import Period, format_instant, parse_instant
from tokenbudget.domain.usage import Basis
from tokenbudget.formats.costs import parse_filters

VERSION_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class EventQueryText:
    """The parameters of a question as they were written."""

    start: str | None = None
    end: str | None = None
    filter: Sequence[str] = ()
    operation_id: str | None = None
    trace_id: str | None = None
    response_id: str | None = None
    hold_id: str | None = None
    source: str | None = None
    event_id: str | None = None
    status: str | None = None
    basis: str | None = None
    flag: str | None = None
    counting: bool = True
    limit: int = USUAL_PAGE_EVENTS
    cursor: str | None = None


def parse_event_query(text: EventQueryText) -> EventQuery:
    """Give the question; raises InvalidInput naming what is wrong."""
    filters = parse_filters(text.filter)
    if text.status is not None:
        filters = (*filters, CostFilter("status", (text.status,)))
    return EventQuery(
        period=_period_of(text.start, text.end),
        filters=filters,
        operation_ref=text.operation_id,
        response_ref=text.response_id,
        hold_id=text.hold_id,
        source=text.source,
        event_ref=text.event_id,
        trace_ref=text.trace_id,
        basis=_basis_of(text.basis),
        flag=text.flag,
        is_counting=text.counting,
        limit=text.limit,
        cursor=text.cursor,
    )


def describe_page(page: EventPage, *, currency: str) -> dict[str, Any]:
    """Give a page as one JSON object."""
    return {
        "currency": currency,
        "events": [describe_event(record) for record in page.records],
        "next": page.next_cursor,
    }


def describe_event(record: EventRecord) -> dict[str, Any]:
    """Give a usage: envelope, quantities, tags with the step that gave each, and its charge."""
    dimensions = record.dimensions
    envelope = {name: getattr(dimensions, name) for name in CALL_DIMENSIONS}
    return {
        "id": str(record.usage_id),
        "source": record.source,
        "event_id": record.event_ref,
        "revision": record.revision,
        "occurred_at": format_instant(record.occurred_at),
        "recorded_at": format_instant(record.recorded_at),
        **envelope,
        "attempt": record.attempt,
        "operation_id": record.operation_ref,
        "trace_id": record.trace_ref,
        "span_id": record.span_ref,
        "response_id": record.response_ref,
        "request_model": record.request_model,
        "hold_id": record.hold_id,
        "latency_ms": record.latency_ms,
        "time_to_first_token_ms": record.time_to_first_token_ms,
        "cache_hit": record.is_cache_hit,
        "usage": None if record.quantities is None else dict(record.quantities),
        "tags": _tags(record),
        "resolved_by": dict(dimensions.resolved_by),
        "witness": record.witness.name.lower(),
        "call_id": str(record.call_id),
        "counts": record.is_counting,
        "charge": None if record.charge is None else _standing(record.charge),
        "reported_cost": _money(record.reported_nanos),
        "reported_difference": _money(record.reported_difference),
        "flags": list(record.flags),
    }


def describe_history(history: EventHistory, *, currency: str) -> dict[str, Any]:
    """Give an event with its revisions, the movements of its call's money and its witnesses."""
    counting = history.counting
    spent = sum(each.effective_nanos or 0 for each in history.charges)
    return {
        "currency": currency,
        "event": describe_event(history.record),
        "revisions": [describe_event(each) for each in history.revisions],
        "witnesses": [_describe_witness(each, counting) for each in history.witnesses],
        "charges": [describe_charge(each) for each in history.charges],
        "effective_cost": None if _is_unpriced(counting) else _money(spent),
    }


def _is_unpriced(counting: EventRecord | None) -> bool:
    charge = None if counting is None else counting.charge
    return charge is not None and charge.effective_nanos is None


def describe_charge(charge: ChargeRecord) -> dict[str, Any]:
    """Give one movement of money, with what it is and where it counts."""
    dimensions = charge.dimensions
    reverses = charge.reverses_usage_id
    return {
        "usage_id": str(charge.usage_id),
        "sequence": charge.sequence,
        "kind": _kind_of(charge),
        "reverses": None if reverses is None else str(reverses),
        **_standing(charge),
        "rerate_id": charge.rerate_id,
        "reattribution_id": charge.reattribution_id,
        "moved_to": None
        if dimensions is None
        else {name: getattr(dimensions, name) for name in TAG_DIMENSIONS},
    }


def describe_operation(totals: OperationTotals, *, currency: str) -> dict[str, Any]:
    """Give what one user operation took."""
    return {
        "currency": currency,
        "operation_id": totals.operation_ref,
        "attempts": totals.attempts,
        "retries": totals.retries,
        "failed": totals.failed,
        "unpriced": totals.unpriced,
        "list_cost": _money(totals.list_nanos),
        "contracted_cost": _money(totals.contracted_nanos),
        "effective_cost": _money(totals.effective_nanos),
        "waste": _money(totals.waste_nanos),
        "started_at": format_instant(totals.started_at),
        "ended_at": format_instant(totals.ended_at),
        "events": [describe_event(each) for each in totals.records],
    }


def _describe_witness(record: EventRecord, counting: EventRecord | None) -> dict[str, Any]:
    is_other = counting is not None and counting.usage_id != record.usage_id
    return {
        "id": str(record.usage_id),
        "kind": record.witness.name.lower(),
        "source": record.source,
        "event_id": record.event_ref,
        "revision": record.revision,
        "recorded_at": format_instant(record.recorded_at),
        "counts": record.is_counting,
        "usage": None if record.quantities is None else dict(record.quantities),
        "reported_cost": _money(record.reported_nanos),
        "usage_difference": quantity_differences(record, counting)
        if counting is not None and is_other
        else {},
        "reported_difference": _money(_reported_difference(record, counting)),
        "flags": list(record.flags),
    }


def _reported_difference(record: EventRecord, counting: EventRecord | None) -> int | None:
    """Give what a witness says the call cost, less what it is charged."""
    charge = None if counting is None else counting.charge
    if record.reported_nanos is None or charge is None or charge.effective_nanos is None:
        return None
    return record.reported_nanos - charge.effective_nanos


def _standing(charge: ChargeRecord) -> dict[str, Any]:
    price = charge.price
    version = charge.list_version
    period = charge.accounting_period
    return {
        "basis": charge.basis.value,
        "list_cost": _money(charge.list_nanos),
        "contracted_cost": _money(charge.contracted_nanos),
        "effective_cost": _money(charge.effective_nanos),
        "accounting_period": f"{period // 100:04d}-{period % 100:02d}",
        "price": None
        if price is None
        else {
            "id": str(price.row_id),
            "provider": price.provider,
            "model": price.model,
            "origin": price.origin,
            "valid_from": None if price.valid_from is None else format_instant(price.valid_from),
            "valid_to": None if price.valid_to is None else format_instant(price.valid_to),
        },
        "price_list": None if version is None else version[:VERSION_DIGITS],
        "flags": list(charge.flags),
    }


def _kind_of(charge: ChargeRecord) -> str:
    """Give what moved the money: a usage, its taking back, a re-rating or another owner."""
    if charge.rerate_id is not None:
        return "rerate"
    if charge.reverses_usage_id not in (None, charge.usage_id):
        return "reversal"
    is_moved = charge.reattribution_id is not None or charge.dimensions is not None
    return "retag" if is_moved or charge.is_reversal else "charge"


def _tags(record: EventRecord) -> dict[str, str]:
    dimensions = record.dimensions
    named = {name: getattr(dimensions, name) for name in TAG_DIMENSIONS}
    present = {name: value for name, value in named.items() if value is not None}
    return {**present, **dimensions.tags, **record.unrolled_tags}


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)


def _period_of(start: str | None, end: str | None) -> Period | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise InvalidInput(f"{missing} is missing: start and end go together", field=missing)
    first, behind = parse_instant(start, field="start"), parse_instant(end, field="end")
    if first >= behind:
        raise InvalidInput("end must be after start", field="end")
    return Period(first, behind)


def _basis_of(text: str | None) -> Basis | None:
    if text is None:
        return None
    if text not in {each.value for each in Basis}:
        known = ", ".join(each.value for each in Basis)
        raise InvalidInput(f"basis {text!r} is not one of {known}", field="basis")
    return Basis(text)

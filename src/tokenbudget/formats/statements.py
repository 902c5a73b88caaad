"""Statements on the wire and in CSV: headers, rows, totals and differences.

It owns names, columns and cells; it refuses to know how a statement is worked out. Money is a
decimal string in the currency that stands beside it, months are like ``2026-09``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month, parse_month
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.statements import (
    LINE_DIMENSIONS,
    Refusal,
    StatedInvoice,
    StatedTotal,
    StatementHeader,
    StatementLine,
)
from tokenbudget.formats.spreadsheets import Cell, write_csv
from tokenbudget.formats.wire import UNSTORABLE

MAX_GRACE_HOURS: Final = 24 * 31
CLOSE_FIELDS: Final = ("period", "grace_hours")
RESTATE_FIELDS: Final = ("reason",)
LINE_COLUMNS: Final = (
    "row_number",
    "service_month",
    "corrects",
    *LINE_DIMENSIONS[1:],
    "requests",
    "tokens",
    "metered_cost",
    "amount",
)


@dataclass(frozen=True, slots=True)
class CloseDraft:
    """A month that is asked to be closed; ``grace_hours`` None is the usual grace."""

    month: int
    grace_hours: int | None


def parse_close(body: Mapping[str, Any]) -> CloseDraft:
    """Give what a request to close asks for; raises InvalidInput naming the field and the rule."""
    _require_known(body, CLOSE_FIELDS)
    period, grace_hours = body.get("period"), body.get("grace_hours")
    if not isinstance(period, str):
        raise InvalidInput("period must be a text such as 2026-09", field="period")
    is_count = type(grace_hours) is int and 0 <= grace_hours <= MAX_GRACE_HOURS
    if grace_hours is not None and not is_count:
        raise InvalidInput(
            f"grace_hours must be a whole number from 0 to {MAX_GRACE_HOURS}", field="grace_hours"
        )
    return CloseDraft(parse_month(period), grace_hours)


def parse_reason(body: Mapping[str, Any]) -> str:
    """Give why a month is to be restated; raises InvalidInput naming the field and the rule."""
    _require_known(body, RESTATE_FIELDS)
    reason = body.get("reason")
    if not isinstance(reason, str) or UNSTORABLE.search(reason):
        raise InvalidInput("reason must be a text that can be stored", field="reason")
    return reason


def describe_header(header: StatementHeader) -> dict[str, Any]:
    """Give a statement without its rows; ``corrections`` is what its total holds of other months.

    ``invoiced`` has a row for each account's invoices, and for each change of earlier ones.
    """
    own = sum(
        each.invoice.amount_nanos for each in header.invoices if each.service_month == header.month
    )
    return {
        "id": header.statement_id,
        "period": format_month(header.month),
        "version": header.version,
        "state": header.state.value,
        "currency": header.currency,
        "total": format_nanos(header.total_nanos),
        "corrections": format_nanos(header.total_nanos - own),
        "invoiced": [_describe_invoice(each) for each in header.invoices],
        "rules_version": header.rules_version,
        "known_at": format_instant(header.known_at),
        "recorded_at": format_instant(header.recorded_at),
        "recorded_by": header.recorded_by,
        "grace_ends_at": _instant_text(header.grace_ends_at),
        "closed_at": _instant_text(header.closed_at),
        "approved_by": header.approved_by,
        "reason": header.reason,
        "notes": [describe_refusal(note) for note in header.notes],
        "digest": header.digest,
    }


def describe_refusal(refusal: Refusal) -> dict[str, str | None]:
    """Give why something cannot be closed: code, detail, and by how much where that is known."""
    nanos = refusal.amount_nanos
    return {
        "code": refusal.code,
        "detail": refusal.detail,
        "amount": None if nanos is None else format_nanos(nanos),
    }


def describe_totals(
    totals: Iterable[StatedTotal], dimension: str
) -> list[dict[str, str | int | None]]:
    """Give what rows add up to by a dimension, whose name is the first field."""
    return [
        {
            dimension: total.value,
            "amount": format_nanos(total.amount_nanos),
            "metered_cost": format_nanos(total.metered_nanos),
            "requests": total.requests,
            "tokens": total.tokens,
        }
        for total in totals
    ]


def describe_line(number: int, line: StatementLine) -> dict[str, Cell]:
    """Give a row of a statement as one JSON object."""
    return dict(zip(LINE_COLUMNS, line_cells(number, line), strict=True))


def line_cells(number: int, line: StatementLine) -> Sequence[Cell]:
    """Give the cells of a row in the order of ``LINE_COLUMNS``; None is absent."""
    key, metered = line.key, line.metered_nanos
    return (
        number,
        format_month(key.service_month),
        line.corrects,
        *(None if value is None else str(value) for value in key[1:]),
        line.requests,
        line.tokens,
        None if metered is None else format_nanos(metered),
        format_nanos(line.amount_nanos),
    )


def lines_csv(lines: Iterable[tuple[int, StatementLine]]) -> str:
    """Give numbered rows as CSV."""
    return write_csv(LINE_COLUMNS, (line_cells(number, line) for number, line in lines))


def _describe_invoice(stated: StatedInvoice) -> dict[str, Any]:
    return {
        "service_month": format_month(stated.service_month),
        "provider": stated.invoice.provider,
        "account": stated.invoice.account,
        "amount": format_nanos(stated.invoice.amount_nanos),
        "is_billed": stated.invoice.is_billed,
    }


def _instant_text(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _require_known(body: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in body:
        if name not in known:
            raise InvalidInput(f"unknown field {name!r}", field=name)

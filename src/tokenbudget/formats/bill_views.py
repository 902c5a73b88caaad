"""Bill imports and bill lines on the wire.

It owns their shapes; amounts are decimal texts with every digit of the bill. It refuses to read
files (``bills``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import NANO_DIGITS
from tokenbudget.domain.months import format_month
from tokenbudget.domain.periods import format_instant


class Line(Protocol):
    """What is told of a bill line."""

    row_number: int
    folded_rows: int
    provider: str
    account: str
    project: str | None
    api_key: str | None
    model: str | None
    usage_type: str | None
    description: str | None
    category: str
    is_correction: bool
    billing_month: int
    period_start: datetime
    period_end: datetime
    quantity: str | None
    unit: str | None
    billed_amount: str
    list_nanos: int | None
    effective_amount: str | None
    currency: str
    invoice_ref: str | None
    tags: dict[str, str]
    superseded_by: str | None


class Stored(Protocol):
    """What is told of an import."""

    id: str
    source: str
    file_name: str
    sha256: str
    account: str | None
    line_count: int
    imported_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    withdrawal_reason: str | None


def describe_import(stored: Stored, *, superseded_lines: int) -> dict[str, Any]:
    """Give an import; ``superseded_lines`` of its own are no longer in force.

    ``account`` is the one of lines that name none, None where every line names its own.
    """
    withdrawn_at = stored.withdrawn_at
    return {
        "id": stored.id,
        "source": stored.source,
        "file_name": stored.file_name,
        "sha256": stored.sha256,
        "account": stored.account,
        "lines": stored.line_count,
        "superseded_lines": superseded_lines,
        "imported_at": format_instant(stored.imported_at),
        "withdrawn_at": None if withdrawn_at is None else format_instant(withdrawn_at),
        "withdrawn_by": stored.withdrawn_by,
        "withdrawal_reason": stored.withdrawal_reason,
    }


def parse_withdrawal(body: Mapping[str, Any]) -> str:
    """Give why an import is withdrawn; raises InvalidInput naming the field and the rule."""
    unknown = sorted(body.keys() - {"reason"})
    if unknown:
        raise InvalidInput(f"{unknown[0]} is not a field of a withdrawal", field=unknown[0])
    reason = body.get("reason")
    if not isinstance(reason, str):
        raise InvalidInput("reason must be a text", field="reason")
    return reason


def describe_totals(totals: Mapping[str, Decimal]) -> list[dict[str, str]]:
    """Give exact sums, one for each currency."""
    return [
        {"amount": format(amount, "f"), "currency": currency} for currency, amount in totals.items()
    ]


def describe_line(line: Line) -> dict[str, Any]:
    """Give a bill line as it was told."""
    return {
        "row_number": line.row_number,
        "folded_rows": line.folded_rows,
        "provider": line.provider,
        "account": line.account,
        "project": line.project,
        "api_key": line.api_key,
        "model": line.model,
        "usage_type": line.usage_type,
        "description": line.description,
        "category": line.category,
        "is_correction": line.is_correction,
        "billing_month": format_month(line.billing_month),
        "period_start": format_instant(line.period_start),
        "period_end": format_instant(line.period_end),
        "quantity": line.quantity,
        "unit": line.unit,
        "billed_cost": line.billed_amount,
        "list_cost": _nanos_text(line.list_nanos),
        "effective_cost": line.effective_amount or line.billed_amount,
        "currency": line.currency,
        "invoice_ref": line.invoice_ref,
        "tags": line.tags,
        "superseded_by": line.superseded_by,
    }


def _nanos_text(nanos: int | None) -> str | None:
    return None if nanos is None else format(Decimal(nanos).scaleb(-NANO_DIGITS), "f")

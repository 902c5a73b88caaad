"""What a statement carries: its own month, and what became of months that are closed.

It owns the rule of corrections: what is known of a month now, less what has been stated of it, row
by row. It refuses to know where either comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tokenbudget.domain.months import format_month, shift_month
from tokenbudget.domain.owners import OwnerTree
from tokenbudget.domain.statements import (
    Invoice,
    LineKey,
    MonthAllocation,
    Refusal,
    StatedInvoice,
    StatementLine,
)

CORRECTED_MONTHS: Final = 24
"""So many closed months before the one that is stated are looked at for corrections."""

NOT_TIED: Final = "not_tied"

InvoiceKey = tuple[int, str, str, bool]


@dataclass(frozen=True, slots=True)
class MonthContent:
    """Rows and invoices of one statement, or of what is known or was stated of one month."""

    lines: tuple[StatementLine, ...] = ()
    invoices: tuple[StatedInvoice, ...] = ()

    def __add__(self, other: MonthContent) -> MonthContent:
        """Give both together."""
        return MonthContent(self.lines + other.lines, self.invoices + other.invoices)

    @property
    def total_nanos(self) -> int:
        """Give the sum of the rows."""
        return sum(line.amount_nanos for line in self.lines)


@dataclass(slots=True)
class _Measures:
    amount_nanos: int = 0
    requests: int = 0
    tokens: int = 0
    metered: list[int] = field(default_factory=list)

    def add(self, line: StatementLine, sign: int) -> None:
        self.amount_nanos += sign * line.amount_nanos
        self.requests += sign * line.requests
        self.tokens += sign * line.tokens
        if line.metered_nanos is not None:
            self.metered.append(sign * line.metered_nanos)

    @property
    def is_nothing(self) -> bool:
        return not (self.amount_nanos or self.requests or self.tokens or sum(self.metered))

    def line(self, key: LineKey, corrects: str | None) -> StatementLine:
        metered_nanos = sum(self.metered) if self.metered else None
        return StatementLine(
            key, self.amount_nanos, metered_nanos, self.requests, self.tokens, corrects
        )


def content_of(allocation: MonthAllocation, tree: OwnerTree) -> MonthContent:
    """Give what is known of a month as rows and invoices; the tree gives cost centres."""
    month = allocation.month
    lines = (
        StatementLine(
            LineKey(
                month,
                cost.bearer.team,
                cost.bearer.feature,
                cost.bearer.tenant,
                tree.cost_center_of(cost.bearer.team),
                cost.provider,
                cost.account,
                cost.model,
                cost.origin,
                cost.method,
                cost.rule,
            ),
            cost.amount_nanos,
            cost.metered_nanos,
            cost.requests,
            cost.tokens,
        )
        for cost in allocation.costs
    )
    invoices = tuple(StatedInvoice(month, invoice) for invoice in allocation.invoices)
    return difference(MonthContent(tuple(lines), invoices), MonthContent())


def difference(
    now: MonthContent, stated: MonthContent, *, corrects: str | None = None
) -> MonthContent:
    """Give what has to be stated so that what was stated becomes what is known now.

    Rows are compared by their whole key; those that say the same are left out, and so are invoices.
    The order is that of what is known, with what is gone behind it. ``corrects`` is the id of the
    statement that the rows correct, None for rows of their own month.
    """
    rows: dict[LineKey, _Measures] = {}
    for content, sign in ((now, 1), (stated, -1)):
        for line in content.lines:
            rows.setdefault(line.key, _Measures()).add(line, sign)
    lines = [each.line(key, corrects) for key, each in rows.items() if not each.is_nothing]
    return MonthContent(
        tuple(lines),
        _invoice_changes(now.invoices, stated.invoices),
    )


def find_untied(content: MonthContent) -> list[Refusal]:
    """Give a refusal for each account and month whose rows do not add up to its invoices."""
    rest: dict[tuple[int, str, str], int] = {}
    for line in content.lines:
        key = (line.key.service_month, line.key.provider, line.key.account)
        rest[key] = rest.get(key, 0) + line.amount_nanos
    for stated in content.invoices:
        key = (stated.service_month, stated.invoice.provider, stated.invoice.account)
        rest[key] = rest.get(key, 0) - stated.invoice.amount_nanos
    return [
        Refusal(
            NOT_TIED,
            f"{format_month(month)}: what is allocated of {provider} account {account!r} is not"
            " what was invoiced",
            nanos,
        )
        for (month, provider, account), nanos in sorted(rest.items())
        if nanos
    ]


def corrected_months(
    closed: Mapping[int, str], *, month: int, limit: int = CORRECTED_MONTHS
) -> list[int]:
    """Give the closed months, oldest first, that the statement of ``month`` looks back to.

    ``closed`` has the id of the statement in force by month.
    """
    first = shift_month(month, -limit)
    return sorted(each for each in closed if first <= each < month)


def in_order(content: MonthContent) -> MonthContent:
    """Give the same with its rows and invoices in the order they are kept in."""
    return replace(
        content,
        lines=tuple(sorted(content.lines, key=lambda line: line.order)),
        invoices=tuple(sorted(content.invoices, key=_invoice_order)),
    )


def _invoice_changes(
    now: Iterable[StatedInvoice], stated: Iterable[StatedInvoice]
) -> tuple[StatedInvoice, ...]:
    sums: dict[InvoiceKey, int] = {}
    for invoices, sign in ((now, 1), (stated, -1)):
        for each in invoices:
            key = _invoice_key(each)
            sums[key] = sums.get(key, 0) + sign * each.invoice.amount_nanos
    changes = [
        StatedInvoice(month, Invoice(provider, account, nanos, is_billed))
        for (month, provider, account, is_billed), nanos in sums.items()
        if nanos
    ]
    return tuple(sorted(changes, key=_invoice_order))


def _invoice_key(stated: StatedInvoice) -> InvoiceKey:
    invoice = stated.invoice
    return stated.service_month, invoice.provider, invoice.account, invoice.is_billed


def _invoice_order(stated: StatedInvoice) -> tuple[int, str, str, bool]:
    month, provider, account, is_billed = _invoice_key(stated)
    return -month, provider, account, not is_billed

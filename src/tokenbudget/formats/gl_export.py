"""A statement as one balanced journal for the general ledger, in CSV.

It owns lines, sides and texts of the journal; it refuses to change what was stated. Debits are
expenses by cost centre, credits the liabilities of providers' invoices, and both add up to the
same, to the cent. Dates are ISO, decimals have a point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import format_month, month_period
from tokenbudget.domain.statements import (
    StatedInvoice,
    Statement,
    StatementLine,
    StatementState,
)
from tokenbudget.formats.gl_accounts import GlAccounts
from tokenbudget.formats.spreadsheets import write_csv
from tokenbudget.formats.statement_words import ORIGIN_WORDS, decimal_text, month_words

COLUMNS: Final = (
    "line",
    "period",
    "posting_date",
    "cost_center",
    "account_code",
    "debit",
    "credit",
    "currency",
    "description",
    "statement",
    "reference",
)
POSTED: Final = (StatementState.CLOSED, StatementState.SUPERSEDED)


class Posting(NamedTuple):
    """What is added up into one line of the journal; the other side is that of invoices."""

    is_correction: bool
    service_month: int
    is_other_side: bool
    cost_center: str
    account_code: str
    subject: str
    reference: str


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal as CSV; ``total`` is that of each side.

    ``suspended`` are what no account is for, ``uncentered`` the teams without a cost centre.
    """

    text: str
    total: str
    suspended: tuple[str, ...]
    uncentered: tuple[str, ...]


@dataclass(slots=True)
class _Book:
    accounts: GlAccounts
    sums: dict[Posting, int] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    uncentered: set[str] = field(default_factory=set)

    def add(self, posting: Posting, nanos: int) -> None:
        """Add to a line: debits are positive, credits negative."""
        self.sums[posting] = self.sums.get(posting, 0) + nanos

    def suspend(self, subject: str) -> str:
        """Give the account for what none is for, having noted what that was."""
        self.suspended.add(subject)
        return self.accounts.suspense


def compose_journal(
    statement: Statement, accounts: GlAccounts, *, before: Statement | None = None
) -> Journal:
    """Give the journal of a statement that was closed.

    ``before`` is the version that it took the place of and that was posted: the journal is then
    what changes. Raises Conflict for a statement that never was in force, and for one whose rows
    do not add up to its invoices.
    """
    header = statement.header
    if header.state not in POSTED:
        raise Conflict(f"{header.name} is {header.state.value}: only what was closed is posted")
    book = _Book(accounts)
    _post(book, statement, 1)
    if before is not None:
        _post(book, before, -1)
    if sum(book.sums.values()):
        raise Conflict(f"{header.name} does not balance: rows do not add up to the invoices")
    postings = [(posting, nanos) for posting, nanos in sorted(book.sums.items()) if nanos]
    debit = sum(nanos for _, nanos in postings if nanos > 0)
    return Journal(
        text=write_csv(COLUMNS, _cells(postings, statement, before)),
        total=decimal_text(debit, header.currency),
        suspended=tuple(sorted(book.suspended)),
        uncentered=tuple(sorted(book.uncentered)),
    )


def _post(book: _Book, statement: Statement, sign: int) -> None:
    """Debit every row, and credit every invoice."""
    corrected = {line.key.service_month: line.corrects for line in statement.lines if line.corrects}
    for line in statement.lines:
        book.add(_expense(book, line), sign * line.amount_nanos)
    for stated in statement.header.invoices:
        posting = _other_side(book, stated, corrected.get(stated.service_month))
        book.add(posting, -sign * stated.invoice.amount_nanos)


def _expense(book: _Book, line: StatementLine) -> Posting:
    key = line.key
    subject = f"{ORIGIN_WORDS[key.origin]} {key.provider}"
    account = book.accounts.find("expense", key.origin, key.provider)
    center = key.cost_center or ""
    if not center:
        book.uncentered.add(key.team)
        subject = f"{subject}, team {key.team}"
    return Posting(
        is_correction=line.corrects is not None,
        service_month=key.service_month,
        is_other_side=False,
        cost_center=center,
        account_code=account or book.suspend(f"expense {key.origin.value} {key.provider}"),
        subject=subject,
        reference=line.corrects or _place(key.provider, key.account),
    )


def _other_side(book: _Book, stated: StatedInvoice, corrects: str | None) -> Posting:
    invoice = stated.invoice
    kind = "liability" if invoice.is_billed else "internal"
    account = book.accounts.find(kind, None, invoice.provider)
    name = "Invoice" if invoice.is_billed else "Own capacity"
    return Posting(
        is_correction=corrects is not None,
        service_month=stated.service_month,
        is_other_side=True,
        cost_center="",
        account_code=account or book.suspend(f"{kind} {invoice.provider}"),
        subject=f"{name} {_place(invoice.provider, invoice.account)}",
        reference=corrects or _place(invoice.provider, invoice.account),
    )


def _place(provider: str, account: str) -> str:
    return f"{provider}/{account}" if account else provider


def _cells(
    postings: Iterable[tuple[Posting, int]], statement: Statement, before: Statement | None
) -> Iterator[tuple[str | int, ...]]:
    header = statement.header
    posting_date = (month_period(header.month).end - timedelta(days=1)).date().isoformat()
    for number, (posting, nanos) in enumerate(postings, start=1):
        amount = decimal_text(abs(nanos), header.currency)
        yield (
            number,
            format_month(header.month),
            posting_date,
            posting.cost_center,
            posting.account_code,
            amount if nanos > 0 else "",
            amount if nanos < 0 else "",
            header.currency,
            _description(posting, before),
            header.statement_id,
            posting.reference
            if before is None or posting.is_correction
            else before.header.statement_id,
        )


def _description(posting: Posting, before: Statement | None) -> str:
    month = month_words(posting.service_month)
    if posting.is_correction:
        return f"Correction of {month}: {posting.subject}"
    if before is not None:
        return f"Restatement of {month}, version {before.header.version}: {posting.subject}"
    return f"{posting.subject}, {month}"

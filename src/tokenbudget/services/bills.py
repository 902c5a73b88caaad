"""Importing providers' bills: it owns idempotency, what supersedes what, and all-or-nothing.

It refuses shapes (``formats/bills``) and comparison with the ledger (``reconciliation.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from sqlmodel import Session

from tokenbudget.domain.money import decimal_to_nanos
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import ZERO, add_exactly, billed_period
from tokenbudget.formats.bills import (
    BillFormat,
    BillLine,
    EmptyPeriod,
    detect_format,
    get_format,
    refuse_file,
)
from tokenbudget.store import bills as store
from tokenbudget.store.db import ROWS_PER_STATEMENT, Database

IMPORT_NAMESPACE: Final = UUID("7c1f6b1e-52c0-5a53-9a53-0d5b8a1c6b5e")

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class BillImport:
    """What came of one file.

    ``is_new`` is false when the same bytes were imported before: then nothing was stored and
    ``totals`` is empty. ``superseded_lines`` counts earlier lines this file restates. ``totals``
    are the exact sums by currency.
    """

    file_name: str
    source: str
    import_id: str
    is_new: bool
    line_count: int
    superseded_lines: int
    totals: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class _BillFile:
    path: Path
    format: BillFormat
    sha256: str
    account: str

    @property
    def import_id(self) -> str:
        return str(uuid5(IMPORT_NAMESPACE, self.sha256))


@dataclass(slots=True)
class _Tally:
    line_count: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)
    restated: set[tuple[str, Period]] = field(default_factory=set)

    def count(self, entry: BillLine | EmptyPeriod, account: str) -> None:
        self.restated.add((account, billed_period(entry.period)))
        if isinstance(entry, BillLine):
            self.line_count += 1
            total = self.totals.get(entry.currency, ZERO)
            self.totals[entry.currency] = add_exactly(total, entry.billed)


def import_bills(
    database: Database,
    paths: Sequence[Path],
    *,
    now: datetime,
    source: str | None = None,
    account: str = "",
    advance: Advance = lambda _count: None,
) -> list[BillImport]:
    """Give what came of each file, in the order given; all of them are stored, or none.

    The source is told from the content unless it is named. ``account`` is used for lines whose bill
    does not name theirs. A file replaces, for its source, account and each UTC day it covers, what
    earlier files said, the files before it in the same call too; what it replaces is kept. The same
    bytes are imported once. ``advance`` is told the number of lines read, now and then.

    Raises BadFile, naming file, row, column and rule, or InvalidInput for a source nobody knows.
    """
    files = [_open_bill(path, source, account) for path in paths]
    with database.transaction() as session:
        store.lock_imports(session)
        return [_import_bill(session, file, now, advance) for file in files]


def _open_bill(path: Path, source: str | None, account: str) -> _BillFile:
    bill_format = None if source is None else get_format(source)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _BillFile(path, bill_format or detect_format(path), sha256, account)
    except OSError as error:
        raise refuse_file(path, f"cannot be read: {error.strerror}") from None


def _import_bill(session: Session, file: _BillFile, now: datetime, advance: Advance) -> BillImport:
    name, source = file.path.name, file.format.source
    earlier = store.find_import(session, sha256=file.sha256)
    if earlier is not None:
        return BillImport(name, earlier.source, earlier.id, False, earlier.line_count, 0, {})
    store.append_import(
        session,
        {
            "id": file.import_id,
            "source": source,
            "file_name": name,
            "sha256": file.sha256,
            "line_count": 0,
            "imported_at": now,
        },
    )
    tally = _append_lines(session, file, advance)
    store.set_line_count(session, import_id=file.import_id, line_count=tally.line_count)
    superseded_lines = sum(
        store.supersede_lines(
            session, source=source, account=account, period=period, import_id=file.import_id
        )
        for account, period in sorted(tally.restated)
    )
    totals = dict(sorted(tally.totals.items()))
    return BillImport(
        name, source, file.import_id, True, tally.line_count, superseded_lines, totals
    )


def _append_lines(session: Session, file: _BillFile, advance: Advance) -> _Tally:
    tally = _Tally()
    for entries in _batches(file.format.read(file.path)):
        rows = []
        for entry in entries:
            account = entry.account or file.account
            tally.count(entry, account)
            if isinstance(entry, BillLine):
                rows.append(_line_row(entry, file, account))
        store.append_lines(session, rows)
        advance(len(rows))
    return tally


def _batches(
    entries: Iterable[BillLine | EmptyPeriod],
) -> Iterator[list[BillLine | EmptyPeriod]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, ROWS_PER_STATEMENT)):
        yield batch


def _line_row(line: BillLine, file: _BillFile, account: str) -> dict[str, object]:
    return {
        "import_id": file.import_id,
        "row_number": line.row_number,
        "source": file.format.source,
        "provider": line.provider,
        "account": account,
        "project": line.project,
        "api_key": line.api_key,
        "model": line.model,
        "usage_type": line.usage_type,
        "description": line.description,
        "category": line.category.value,
        "is_correction": line.is_correction,
        "billing_month": line.billing_month,
        "folded_rows": 1,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "quantity": None if line.quantity is None else format(line.quantity, "f"),
        "unit": line.unit,
        "billed_amount": format(line.billed, "f"),
        "billed_nanos": decimal_to_nanos(line.billed),
        "list_nanos": None if line.listed is None else decimal_to_nanos(line.listed),
        "effective_amount": None if line.effective is None else format(line.effective, "f"),
        "invoice_ref": line.invoice_ref,
        "currency": line.currency,
        "tags": dict(line.tags),
    }

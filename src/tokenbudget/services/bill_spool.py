"""What was read of a bill and waits to be stored: rows by the column, in memory or in a file.

It owns that order of work: a file is read to its end, and found sound, before the database is
locked. It refuses to decide what counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from tokenbudget.domain.money import decimal_to_nanos
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import billed_period
from tokenbudget.domain.variances import ZERO, add_exactly
from tokenbudget.formats.bills import BillEntry, BillLine, EmptyPeriod, Replaces, UsageLine
from tokenbudget.store.bills import Restated

ROWS_PER_PART: Final = 4_000
MAX_MEMORY_BYTES: Final = 64 * 1024 * 1024
LENGTH_BYTES: Final = 4
CACHED_PERIODS: Final = 4_096
LINES: Final = "lines"
USAGE: Final = "usage"

USAGE_UNITS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""Units that have a column of their own in ``provider_usage``."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, dict[str, list[Any]]])
_daily = lru_cache(CACHED_PERIODS)(billed_period)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose rows they are; ``account`` is that of entries which do not name theirs."""

    import_id: str
    source: str
    account: str
    replaces: Replaces


@dataclass(slots=True)
class BillSpool:
    """The rows of one import, with their count, their exact totals and what they restate.

    ``lends_account`` tells that some entry does not name its account.
    """

    origin: Origin
    line_count: int = 0
    lends_account: bool = False
    totals: dict[str, Decimal] = field(default_factory=dict)
    restated: set[Restated] = field(default_factory=set)
    _file: SpooledTemporaryFile[bytes] = field(default_factory=lambda: _spool_file())
    _open: dict[str, list[dict[str, object]]] = field(
        default_factory=lambda: {LINES: [], USAGE: []}
    )

    def __enter__(self) -> Self:
        """Give itself; leaving the block gives the file up."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file up."""
        self._file.close()

    def take(self, entries: Iterable[BillEntry]) -> Iterator[int]:
        """Keep the entries; it gives the number of rows kept whenever a part is full."""
        for entry in entries:
            self._take_one(entry)
            for kind, rows in self._open.items():
                if len(rows) >= ROWS_PER_PART:
                    yield self._write(kind)
        for kind, rows in self._open.items():
            if rows:
                yield self._write(kind)

    def parts(self) -> Iterator[tuple[str, Mapping[str, list[Any]]]]:
        """Give what was kept, by the column, each part with its kind, in order."""
        self._file.seek(0)
        while length := int.from_bytes(self._file.read(LENGTH_BYTES), "big"):
            yield _decoder.decode(self._file.read(length))

    def _take_one(self, entry: BillEntry) -> None:
        account = entry.account or self.origin.account
        self.lends_account |= not entry.account
        day = _daily(entry.period)
        match entry:
            case BillLine():
                self.line_count += 1
                total = self.totals.get(entry.currency, ZERO)
                self.totals[entry.currency] = add_exactly(total, entry.billed)
                self._restate(account, entry.billing_month, day)
                self._open[LINES].append(_line_row(entry, self.origin, account))
            case UsageLine():
                self.line_count += 1
                self.restated.add(Restated(account, None, day))
                self._open[USAGE].append(_usage_row(entry, self.origin, account))
            case EmptyPeriod():
                self.restated.add(Restated(account, None, day))

    def _restate(self, account: str, month: int, day: Period) -> None:
        is_month = self.origin.replaces is Replaces.MONTH
        self.restated.add(Restated(account, month, None if is_month else day))

    def _write(self, kind: str) -> int:
        rows = self._open[kind]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        content = _encoder.encode((kind, columns))
        self._file.write(len(content).to_bytes(LENGTH_BYTES, "big"))
        self._file.write(content)
        count = len(rows)
        rows.clear()
        return count


def _spool_file() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(MAX_MEMORY_BYTES)


def _line_row(line: BillLine, origin: Origin, account: str) -> dict[str, object]:
    return {
        "import_id": origin.import_id,
        "row_number": line.row_number,
        "folded_rows": line.folded_rows,
        "source": origin.source,
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


def _usage_row(line: UsageLine, origin: Origin, account: str) -> dict[str, object]:
    others = {unit: count for unit, count in line.quantities.items() if unit not in USAGE_UNITS}
    return {
        "import_id": origin.import_id,
        "row_number": line.row_number,
        "source": origin.source,
        "provider": line.provider,
        "account": account,
        "project": line.project,
        "api_key": line.api_key,
        "model": line.model,
        "service_tier": line.service_tier,
        "region": line.region,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "requests": line.requests,
        **{unit: line.quantities.get(unit) for unit in USAGE_UNITS},
        "other_units": others,
        "tags": dict(line.tags),
    }

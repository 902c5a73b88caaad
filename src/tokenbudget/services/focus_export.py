"""Writing a period as a FOCUS file: one snapshot of the ledger, streamed to a file that is whole.

It owns the order of rows and the snapshot; it refuses columns (``formats/focus_rows.py``) and the
amounts of parts (``domain/focus.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.focus import (
    NO_TERMS,
    CostSource,
    DaySums,
    ExportedUsage,
    PriceTerms,
    take_apart,
)
from tokenbudget.domain.months import month_at
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rollups import ONE_DAY
from tokenbudget.formats.focus import FileKind, write_focus
from tokenbudget.formats.focus_columns import DEFAULT_VERSION, columns_of
from tokenbudget.formats.focus_rows import Cells, RowBuilder
from tokenbudget.services.focus_months import Months, iterate_charges, read_months
from tokenbudget.services.focus_terms import terms_of
from tokenbudget.store.db import Database
from tokenbudget.store.focus import find_price_rows, iterate_days
from tokenbudget.store.rollups import find_dimension_sets

DAYS_AT_ONCE: Final = 5_000
"""How many rollups of a day are looked up together."""

MAX_KNOWN: Final = 50_000
"""How many dimension sets, and how many price rows, are remembered while a file is written."""

MAX_PERIOD: Final = timedelta(days=1_100)
FILE_MODE: Final = 0o644

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class FocusQuestion:
    """What is exported: whole UTC days, in a version of FOCUS and an encoding."""

    period: Period
    kind: FileKind
    version: str = DEFAULT_VERSION


@dataclass(slots=True)
class FocusExport:
    """What came of it; ``unpriced_requests`` have rows without cost, though they are not free.

    ``is_invoiced`` tells whether every month is closed, so that billed cost is what was invoiced.
    """

    rows: int = 0
    unpriced_requests: int = 0
    is_invoiced: bool = False


def export_focus(
    database: Database,
    question: FocusQuestion,
    out: Path,
    *,
    price_list: PriceList,
    advance: Advance = lambda _count: None,
) -> FocusExport:
    """Write the file, in place of one that is there, and give what came of it.

    The file appears whole or not at all. ``advance`` is told the number of rollups and charges
    read, now and then. Raises NotFound, and writes nothing, when nothing was used or invoiced in
    the period; InvalidInput for a period, version or place that cannot be written.
    """
    columns_of(question.version)
    if question.period.end - question.period.start > MAX_PERIOD:
        raise InvalidInput(f"an export covers at most {MAX_PERIOD.days} days", field="to")
    try:
        with NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as created:
            unfinished = Path(created.name)
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        with database.reading() as session:
            reading = _Reading(session, question.period, price_list, advance)
            with closing(reading.rows()) as rows:
                written = write_focus(
                    unfinished, rows, version=question.version, kind=question.kind
                )
        if not written:
            raise _nothing_in(question.period)
        unfinished.chmod(FILE_MODE)
        unfinished.replace(out)
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        unfinished.unlink(missing_ok=True)
    reading.result.rows = written
    return reading.result


@dataclass(slots=True)
class _Reading:
    session: Session
    period: Period
    price_list: PriceList
    advance: Advance
    result: FocusExport = field(default_factory=FocusExport)
    dimensions: dict[int, DimensionSet] = field(default_factory=dict)
    terms: dict[int, PriceTerms] = field(default_factory=dict)

    def rows(self) -> Generator[Cells, None, None]:
        """Give the rows of usage by day, then those of the charges beside it."""
        currency = self.price_list.currency
        months = read_months(self.session, self.period, self.price_list)
        self.result.is_invoiced = months.are_invoiced
        builder = RowBuilder(currency)
        with closing(iterate_days(self.session, months.reading_period)) as days:
            while batch := list(islice(days, DAYS_AT_ONCE)):
                self._look_up(batch)
                for day in batch:
                    yield from map(builder.usage_row, self._usage(day, months))
                self.advance(len(batch))
        with closing(iterate_charges(self.session, months, currency)) as charges:
            for charge in charges:
                yield builder.charge_row(charge)
                self.advance(1)

    def _usage(self, day: DaySums, months: Months) -> Iterable[ExportedUsage]:
        dimensions = self.dimensions[day.dimension_set_id]
        terms = self.terms.get(day.price_row_id, NO_TERMS)
        month = month_at(day.starts_at)
        closed = months.closed.get(month)
        billed = closed.next_billed(dimensions, day.effective_nanos) if closed else None
        if not self.period.contains(day.starts_at):
            return
        self.result.unpriced_requests += day.unpriced_requests
        provider = dimensions.provider
        account = months.names.account_of(month, provider)
        invoice_ref = months.invoice_ref(month, provider, None)
        prefix = f"{day.starts_at:%Y%m%d}/{day.dimension_set_id}/{day.price_row_id}"
        period, source = Period(day.starts_at, day.starts_at + ONE_DAY), _source_of(day, terms)
        for part in take_apart(day, terms, billed):
            yield ExportedUsage(
                key=f"{prefix}/{part.meter}",
                day=period,
                dimensions=dimensions,
                terms=terms,
                part=part,
                source=source,
                account=account,
                invoice_ref=invoice_ref,
            )

    def _look_up(self, days: Sequence[DaySums]) -> None:
        """Learn the dimension sets and prices of these days that are not known yet."""
        if len(self.dimensions) > MAX_KNOWN:
            self.dimensions.clear()
        if len(self.terms) > MAX_KNOWN:
            self.terms.clear()
        set_ids = {day.dimension_set_id for day in days} - self.dimensions.keys()
        self.dimensions.update(find_dimension_sets(self.session, set_ids))
        price_row_ids = {day.price_row_id for day in days} - self.terms.keys() - {0}
        found = find_price_rows(self.session, price_row_ids)
        self.terms.update((number, terms_of(row)) for number, row in found.items())


def _source_of(day: DaySums, terms: PriceTerms) -> CostSource:
    if terms.is_share:
        return CostSource.COMMITMENT
    return CostSource.UNPRICED if day.unpriced_requests else CostSource.METERED


def _nothing_in(period: Period) -> NotFound:
    first, end = period.start.date(), period.end.date()
    return NotFound(
        f"nothing was used or invoiced from {first} until {end}, so no file was written"
    )


def _unwritable(out: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{out} cannot be written: {error.strerror or error}", field="out")

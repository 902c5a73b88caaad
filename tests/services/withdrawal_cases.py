"""What tests of taking imports back share: bills of a shape of their own, and a model of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from tests.services.bill_cases import NOW
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import (
    BillEntry,
    BillFormat,
    BillLine,
    EmptyPeriod,
    Replaces,
    UsageLine,
)
from tokenbudget.services.bills import BillImport, Delivery, import_bills, import_delivery
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillLineRow, ProviderUsageRow

MIDNIGHT = datetime(2026, 8, 1, tzinfo=UTC)
SOURCE = "contoso"


class Told(NamedTuple):
    """One entry of a bill: cents of some days from one of August on, tokens, or nothing at all."""

    account: str
    first: int
    days: int = 1
    cents: int | None = 0
    tokens: int | None = None
    month: int = 202608

    @property
    def period(self) -> Period:
        """Give the days it is told of."""
        start = MIDNIGHT + timedelta(days=self.first - 1)
        return Period(start, start + timedelta(days=self.days))

    def entry(self, row_number: int) -> BillEntry:
        """Give the entry as a reader would."""
        if self.tokens is not None:
            counts = {"input_tokens": self.tokens}
            return UsageLine(row_number, "acme", self.account, self.period, counts)
        if self.cents is None:
            return EmptyPeriod(self.account, self.period)
        return BillLine(
            row_number=row_number,
            provider="acme",
            account=self.account,
            period=self.period,
            category=ChargeCategory.USAGE,
            billed=Decimal(self.cents) / 100,
            currency="USD",
            model="plain",
            month=self.month,
        )


def format_of(source: str = SOURCE, replaces: Replaces = Replaces.DAY) -> BillFormat:
    """Give the format of a bill that is a list of what is told."""
    return BillFormat(source, lambda _head: False, _read, replaces)


def _read(path: Path) -> Iterator[BillEntry]:
    for row_number, told in enumerate(json.loads(path.read_text())["told"], start=1):
        yield Told(*told).entry(row_number)


def write_bill(path: Path, *told: Told) -> Path:
    """Write a bill; the file's name is part of its bytes, so that no two are the same."""
    path.write_text(json.dumps({"name": path.name, "told": told}))
    return path


def bring(
    database: Database,
    path: Path,
    *,
    account: str = "",
    shape: BillFormat | None = None,
    part_of: Sequence[str] | None = None,
) -> BillImport:
    """Import one file, as a part of a delivery where that is named."""
    chosen = shape or format_of()
    if part_of is None:
        [imported] = import_bills(database, [path], now=NOW, source=chosen, account=account)
    else:
        delivery = Delivery([path], source=chosen, account=account, part_of=part_of)
        [imported] = import_delivery(database, delivery, now=NOW)
    return imported


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the ledger, and by which import it is superseded."""

    import_id: str
    row_number: int
    superseded_by: str | None


def rows_of(database: Database, source: str = SOURCE) -> set[Kept]:
    """Give every row of a source with what supersedes it."""
    found: set[Kept] = set()
    with database.reading() as session:
        for model in (BillLineRow, ProviderUsageRow):
            row = table_of(model)
            statement = sa.select(row.c.import_id, row.c.row_number, row.c.superseded_by)
            for kept in session.connection().execute(statement.where(row.c.source == source)):
                found.add(Kept(*kept))
    return found


@dataclass(frozen=True, slots=True)
class Imported:
    """An import as the model knows it."""

    import_id: str
    told: Sequence[Told]
    part_of: frozenset[str]
    replaces: Replaces

    def rows(self) -> Iterator[tuple[int, Told]]:
        """Give what has a row, with its number."""
        for number, told in enumerate(self.told, start=1):
            if told.cents is not None or told.tokens is not None:
                yield number, told

    def restates(self, row: Told, owner: str) -> bool:
        """Tell whether it supersedes a row of an earlier import."""
        is_spared = owner in self.part_of
        return not is_spared and any(self._covers(told, row) for told in self.told)

    def _covers(self, told: Told, row: Told) -> bool:
        if told.account != row.account:
            return False
        is_line = told.tokens is None and told.cents is not None
        if is_line and row.tokens is None and told.month != row.month:
            return False
        if is_line and self.replaces is Replaces.MONTH:
            return True
        if told.days == 1:
            return row.days == 1 and row.first == told.first
        return (told.first, told.days) == (row.first, row.days)


def replay(imports: Sequence[Imported]) -> set[Kept]:
    """Give the rows as importing one after the other would leave them."""
    kept: dict[tuple[str, int], tuple[Told, str | None]] = {}
    for each in imports:
        for (owner, number), (row, superseded_by) in kept.items():
            if superseded_by is None and each.restates(row, owner):
                kept[owner, number] = (row, each.import_id)
        for number, told in each.rows():
            kept[each.import_id, number] = (told, None)
    return {
        Kept(owner, number, superseded_by) for (owner, number), (_, superseded_by) in kept.items()
    }


def in_force(database: Database, names: Callable[[str], str]) -> list[str]:
    """Give the names of the imports that have rows in force, in order."""
    return sorted({names(row.import_id) for row in rows_of(database) if row.superseded_by is None})

"""Looking at what was imported: it owns pages of imports and of their lines.

It refuses to import (``bills.py``) and to compare (``reconciliation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.store import bill_listing as store
from tokenbudget.store.db import Database
from tokenbudget.store.tables import BillImportRow, BillLineRow

MAX_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import as stored, and how many of its rows later imports have superseded."""

    row: BillImportRow
    superseded_lines: int


@dataclass(frozen=True, slots=True)
class ImportPage:
    """Imports, newest first; ``next_cursor`` is None on the last page."""

    records: Sequence[ImportRecord]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LinePage:
    """Lines of one import in the order of storing; ``next_cursor`` is None on the last page."""

    lines: Sequence[BillLineRow]
    next_cursor: str | None


def list_imports(database: Database, *, cursor: str | None, limit: int) -> ImportPage:
    """Give a page of imports; raises InvalidInput for a cursor of no page or a limit out of bounds.

    How many rows were superseded takes a look at all rows of the page's imports.
    """
    _require_limit(limit)
    before = None
    if cursor is not None:
        micros, import_id = decode_cursor(cursor, length=2)
        if not isinstance(micros, int) or not isinstance(import_id, str):
            raise _strange_cursor()
        before = (from_micros(micros), import_id)
    with database.reading() as session:
        rows = store.list_imports(session, before=before, limit=limit + 1)
        page = rows[:limit]
        counts = store.count_superseded(session, [row.id for row in page])
    records = [ImportRecord(row, counts.get(row.id, 0)) for row in page]
    if len(rows) <= limit:
        return ImportPage(records, None)
    last = page[-1]
    return ImportPage(records, encode_cursor([to_micros(last.imported_at), last.id]))


def get_import(database: Database, import_id: str) -> ImportRecord:
    """Give one import; raises NotFound."""
    with database.reading() as session:
        row = store.get_import(session, import_id)
        if row is None:
            raise NotFound(f"there is no import of bills {import_id!r}", id=import_id)
        return ImportRecord(row, store.count_superseded(session, [import_id]).get(import_id, 0))


def list_lines(database: Database, import_id: str, *, cursor: str | None, limit: int) -> LinePage:
    """Give a page of an import's bill lines; raises NotFound and, as for imports, InvalidInput."""
    _require_limit(limit)
    after_id = 0
    if cursor is not None:
        [place] = decode_cursor(cursor, length=1)
        if not isinstance(place, int):
            raise _strange_cursor()
        after_id = place
    with database.reading() as session:
        if store.get_import(session, import_id) is None:
            raise NotFound(f"there is no import of bills {import_id!r}", id=import_id)
        rows = store.list_lines(session, import_id, after_id=after_id, limit=limit + 1)
    page = rows[:limit]
    next_cursor = encode_cursor([page[-1].id]) if len(rows) > limit else None
    return LinePage(page, next_cursor)


def _require_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit must be between 1 and {MAX_PAGE}", field="limit")


def _strange_cursor() -> InvalidInput:
    return InvalidInput("cursor is not one that a page of this list gave", field="cursor")

"""Two ways of importing the same file, and ledgers told without the ids that differ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.builders import rows_of
from tokenbudget.formats.event_files import PLAIN_READING, Reading, read_pieces
from tokenbudget.services.bulk_import import Counts, EventImport, FaultyRow, begin_import, door_of
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.piece_reading import prepare_piece
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage
from tokenbudget.store.db import Database
from tokenbudget.store.tables import (
    ChargeRow,
    CounterRow,
    DimensionSetRow,
    PriceRow,
    RollupRow,
    SourceRow,
    UsageRow,
)

TOLERANCE = timedelta(days=1)
Fault = tuple[int, str, str]
Told = tuple[Counts, list[Fault]]


def import_by_table(
    ledger: Ledger, path: Path, fingerprint: str = "f", reading: Reading = PLAIN_READING
) -> Told:
    """Import a file with whole tables at once and give the counts and the rows at fault."""
    importing = begin_import(ledger, fingerprint, path.name)
    return finish_by_table(importing, path, reading)


def finish_by_table(importing: EventImport, path: Path, reading: Reading = PLAIN_READING) -> Told:
    """Import what is left of a file."""
    faults: list[FaultyRow] = []
    for piece in read_pieces(path, reading, after_row=importing.counts.last_row):
        door = door_of(importing.ledger, TOLERANCE)
        importing.record(prepare_piece(piece, door), door, faults.extend)
    importing.finish()
    told = sorted((each.row, each.rejection.code, each.rejection.detail) for each in faults)
    return importing.counts, told


def import_one_by_one(ledger: Ledger, path: Path, reading: Reading = PLAIN_READING) -> Told:
    """Import a file event by event and give the counts and the rows at fault."""
    accepted = duplicates = unpriced = last_row = 0
    faults: list[Fault] = []
    for piece in read_pieces(path, reading):
        items = piece.items(door_of(ledger, TOLERANCE))
        [answer] = ledger.apply([RecordUsage(items, Caller())])
        assert isinstance(answer, RecordAnswer)
        accepted += answer.accepted
        duplicates += answer.duplicates
        unpriced += answer.unpriced
        last_row = piece.rows[-1]
        faults += [(piece.rows[each.index], each.code, each.detail) for each in answer.rejected]
    return Counts(last_row, accepted, duplicates, unpriced, len(faults)), sorted(faults)


def ledger_view(database: Database) -> dict[str, list[Any]]:
    """Give usage, charges, rollups and counters by what they mean, in an order of their own."""
    sources = {row["id"]: row["name"] for row in rows_of(database, SourceRow)}
    sets = {row["id"]: _set_view(row) for row in rows_of(database, DimensionSetRow)}
    prices = {row["id"]: row["digest"] for row in rows_of(database, PriceRow)}
    usages = rows_of(database, UsageRow)
    names = {
        row["id"]: (sources[row["source_id"]], row["event_ref"], row["revision"]) for row in usages
    }
    return {
        "usage": _sorted(
            {
                **{name: value for name, value in row.items() if name not in ("id", "source_id")},
                "name": names[row["id"]],
                "call_id": names.get(row["call_id"]),
                "dimension_set_id": sets[row["dimension_set_id"]],
            }
            for row in usages
        ),
        "charges": _sorted(
            {
                **row,
                "usage_id": names[row["usage_id"]],
                "price_row_id": prices.get(row["price_row_id"]),
                "reverses_usage_id": names.get(row["reverses_usage_id"]),
                "dimension_set_id": sets.get(row["dimension_set_id"]),
            }
            for row in rows_of(database, ChargeRow)
        ),
        "rollups": _sorted(
            {
                **row,
                "dimension_set_id": sets[row["dimension_set_id"]],
                "price_row_id": prices.get(row["price_row_id"]),
            }
            for row in rows_of(database, RollupRow)
        ),
        "counters": _sorted(
            {name: value for name, value in row.items() if name != "id"}
            for row in rows_of(database, CounterRow)
        ),
    }


def _set_view(row: sa.RowMapping) -> str:
    return repr(sorted((name, _plain(value)) for name, value in row.items() if name != "id"))


def _plain(value: object) -> object:
    return sorted(value.items()) if isinstance(value, dict) else value


def _sorted(rows: Any) -> list[Any]:
    told: Sequence[Any] = [
        tuple((name, _plain(value)) for name, value in sorted(row.items())) for row in rows
    ]
    return sorted(told, key=repr)

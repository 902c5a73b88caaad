"""Everything append-only.

Sources, dimension sets, usage, charges and price rows, and the rollups derived from them.

Ids of usage are given out inside the writing transaction. Rows are written in key order, so that
two writers on one PostgreSQL cannot lock each other out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.allocation import DIMENSIONS, DimensionSet
from tokenbudget.domain.rollups import MEASURES
from tokenbudget.store.db import (
    ROWS_PER_STATEMENT,
    add_to_rows,
    insert_new_rows,
    insert_rows,
    is_sqlite,
    table_of,
)
from tokenbudget.store.tables import (
    ChargeRow,
    DimensionSetRow,
    PriceListRow,
    PriceRow,
    RollupRow,
    SourceRow,
    UsageRow,
)

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedUsage:
    """One revision of an event that stands in the ledger."""

    event_ref: str
    usage_id: int
    revision: int
    content_hash: int


def intern_sources(session: Session, names: Collection[str]) -> dict[str, int]:
    """Give the id of every source, adding those not seen before."""
    rows = [{"name": name} for name in sorted(names)]
    insert_new_rows(session, SourceRow, rows)
    found = session.exec(select(SourceRow.name, SourceRow.id).where(col(SourceRow.name).in_(names)))
    return {name: source_id for name, source_id in found if source_id is not None}


def digest_of(dimensions: DimensionSet) -> str:
    """Give the identity of a dimension set.

    The same values give the same digest in every process.
    """
    values = [getattr(dimensions, name) for name in DIMENSIONS]
    canonical = json.dumps(
        [values, dimensions.is_retry, dict(dimensions.tags), dict(dimensions.resolved_by)],
        sort_keys=True,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def intern_dimension_sets(
    session: Session, dimension_sets: Iterable[DimensionSet]
) -> dict[str, int]:
    """Give the id of every dimension set by its digest, adding those not seen before."""
    by_digest = {digest_of(dimensions): dimensions for dimensions in dimension_sets}
    rows = [
        {
            "digest": digest,
            **{name: getattr(by_digest[digest], name) for name in DIMENSIONS},
            "is_retry": by_digest[digest].is_retry,
            "tags": dict(by_digest[digest].tags),
            "resolved_by": dict(by_digest[digest].resolved_by),
        }
        for digest in sorted(by_digest)
    ]
    insert_new_rows(session, DimensionSetRow, rows)
    return _ids_by_digest(session, DimensionSetRow, list(by_digest))


def _ids_by_digest(
    session: Session, model: type[DimensionSetRow | PriceRow], digests: Sequence[str]
) -> dict[str, int]:
    table = table_of(model)
    found: dict[str, int] = {}
    for start in range(0, len(digests), ROWS_PER_STATEMENT):
        chunk = digests[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(table.c.digest, table.c.id).where(table.c.digest.in_(chunk))
        found.update((digest, row_id) for digest, row_id in session.connection().execute(statement))
    return found


def next_usage_ids(session: Session, count: int) -> list[int]:
    """Give ids for new usage.

    On SQLite the write lock, on PostgreSQL a sequence keeps them unique.
    """
    connection = session.connection()
    if is_sqlite(session):
        table = table_of(UsageRow)
        last = connection.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0
        return list(range(last + 1, last + 1 + count))
    statement = sa.text("SELECT nextval('usage_id_seq') FROM generate_series(1, :count)")
    return list(connection.execute(statement, {"count": count}).scalars())


def append_usage(session: Session, rows: Sequence[Row]) -> int:
    """Add usage rows, passing over events already recorded, and give how many were new."""
    ordered = sorted(rows, key=lambda row: (row["source_id"], row["event_ref"], row["revision"]))
    return insert_new_rows(session, UsageRow, ordered)


def find_recorded(
    session: Session, source_id: int, event_refs: Sequence[str]
) -> list[RecordedUsage]:
    """Give every recorded revision of these events."""
    table = table_of(UsageRow)
    found: list[RecordedUsage] = []
    for start in range(0, len(event_refs), ROWS_PER_STATEMENT):
        chunk = event_refs[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(
            table.c.event_ref, table.c.id, table.c.revision, table.c.content_hash
        ).where(table.c.source_id == source_id, table.c.event_ref.in_(chunk))
        rows = session.connection().execute(statement)
        found.extend(RecordedUsage(*row) for row in rows)
    return found


def append_charges(session: Session, rows: Sequence[Row]) -> None:
    """Add charge rows."""
    insert_rows(session, ChargeRow, rows)


def list_charged_usage(
    session: Session, usage_ids: Sequence[int]
) -> list[tuple[UsageRow, ChargeRow]]:
    """Give usage with the charge that stands for it, by usage id.

    That is the last one that takes nothing back.
    """
    statement = (
        select(UsageRow, ChargeRow)
        .join(ChargeRow, col(ChargeRow.usage_id) == col(UsageRow.id))
        .where(col(UsageRow.id).in_(usage_ids), col(ChargeRow.reverses_usage_id).is_(None))
        .order_by(col(UsageRow.id), col(ChargeRow.sequence))
    )
    return list({usage.id: (usage, charge) for usage, charge in session.exec(statement)}.values())


def add_rollups(session: Session, rows: Sequence[Row]) -> None:
    """Add quantities and amounts to their rollup rows, in key order."""
    ordered = sorted(
        rows,
        key=lambda row: (
            row["grain_seconds"],
            row["starts_at"],
            row["dimension_set_id"],
            row["price_row_id"],
        ),
    )
    add_to_rows(session, RollupRow, ordered, added=MEASURES)


def intern_price_list(session: Session, sha256: str, *, now: datetime) -> int:
    """Give the id of this version of the price book, recording it when it is new."""
    insert_new_rows(session, PriceListRow, [{"sha256": sha256, "recorded_at": now}])
    statement = select(PriceListRow.id).where(PriceListRow.sha256 == sha256)
    price_list_id = session.exec(statement).one()
    if price_list_id is None:
        raise AssertionError("a stored price list has an id")
    return price_list_id


def intern_price_rows(session: Session, rows: Sequence[Row]) -> dict[str, int]:
    """Give the id of every price row by digest, recording those not seen before."""
    insert_new_rows(session, PriceRow, sorted(rows, key=lambda row: str(row["digest"])))
    return _ids_by_digest(session, PriceRow, [str(row["digest"]) for row in rows])

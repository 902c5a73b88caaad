"""Everything append-only.

Sources, dimension sets, usage, charges and price rows, and the rollups derived from them.

Ids of usage are given out inside the writing transaction. Rows are written in key order, so that
two writers on one PostgreSQL cannot lock each other out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.allocation import DIMENSIONS, DimensionSet
from tokenbudget.domain.rollups import MEASURES
from tokenbudget.store.columns import Columns, add_columns, append_columns
from tokenbudget.store.db import (
    ROWS_PER_STATEMENT,
    add_to_rows,
    insert_new_rows,
    is_sqlite,
    table_of,
)
from tokenbudget.store.partitions import give_ids
from tokenbudget.store.stretches import note_stretches
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
ROLLUP_COLUMNS: Final = (
    "grain_seconds",
    "starts_at",
    "dimension_set_id",
    "price_row_id",
    *MEASURES,
)


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
        [
            values,
            dimensions.is_retry,
            dimensions.api_key,
            dict(dimensions.tags),
            dict(dimensions.resolved_by),
        ],
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
            "api_key": by_digest[digest].api_key,
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
    """Give ids for new usage, rising; they are not dense.

    On SQLite the write lock, on PostgreSQL a sequence keeps them unique.
    """
    connection = session.connection()
    if not is_sqlite(session):
        return give_ids(connection, count)
    table = table_of(UsageRow)
    last = connection.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0
    return list(range(last + 1, last + 1 + count))


def append_usage(session: Session, columns: Columns) -> None:
    """Add rows of usage, at least one, and note where they are found by when they occurred."""
    append_columns(session, table_of(UsageRow), columns)
    note_stretches(session, zip(columns["id"], columns["occurred_at"], strict=True))


def find_content_hashes(session: Session, usage_ids: Collection[int]) -> dict[int, int]:
    """Give the content hash of each usage."""
    table = table_of(UsageRow)
    ordered = sorted(usage_ids)
    found: dict[int, int] = {}
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(table.c.id, table.c.content_hash).where(table.c.id.in_(chunk))
        found.update(
            (row_id, found_hash) for row_id, found_hash in session.connection().execute(statement)
        )
    return found


def append_charges(session: Session, columns: Columns) -> None:
    """Add charges, at least one."""
    append_columns(session, table_of(ChargeRow), columns)


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


def add_rollup_sums(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add sums to their rollups, in key order; each row holds the values of ROLLUP_COLUMNS.

    ``starts_at`` is in microseconds since 1970. No key comes twice.
    """
    if rows:
        columns = dict(zip(ROLLUP_COLUMNS, zip(*sorted(rows), strict=True), strict=True))
        add_columns(session, table_of(RollupRow), columns, MEASURES, is_stored=True)


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

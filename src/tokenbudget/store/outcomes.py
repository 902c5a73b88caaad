"""Outcomes and their rollups. It owns their rows; it refuses to know where they count."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tokenbudget.domain.outcomes import OutcomeSum
from tokenbudget.domain.rollups import Segment
from tokenbudget.store.db import ROWS_PER_STATEMENT, add_to_rows, insert_rows, table_of
from tokenbudget.store.event_queries import are_of_operations
from tokenbudget.store.outcome_tables import OutcomeRollupRow, OutcomeRow
from tokenbudget.store.tables import UsageRow

Row: TypeAlias = Mapping[str, Any]

ROLLUPS: Final = table_of(OutcomeRollupRow)
OUTCOMES: Final = table_of(OutcomeRow)
ROLLUP_KEY: Final = ("grain_seconds", "name", "starts_at", "dimension_set_id")


def find_outcome_hashes(
    session: Session, identities: Collection[tuple[int, str]]
) -> dict[tuple[int, str], int]:
    """Give the content hash of each outcome (source id, event ref) that is recorded."""
    found: dict[tuple[int, str], int] = {}
    ordered = sorted(identities)
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(
            OUTCOMES.c.source_id, OUTCOMES.c.event_ref, OUTCOMES.c.content_hash
        ).where(
            OUTCOMES.c.source_id.in_({source_id for source_id, _ in chunk}),
            OUTCOMES.c.event_ref.in_([event_ref for _, event_ref in chunk]),
        )
        for source_id, event_ref, content_hash in session.connection().execute(statement):
            found[source_id, event_ref] = content_hash
    return found


def append_outcomes(session: Session, rows: Sequence[Row]) -> None:
    """Add outcomes, in order of identity.

    An IntegrityError tells that another writer has just added one of them.
    """
    ordered = sorted(rows, key=lambda row: (row["source_id"], row["event_ref"]))
    insert_rows(session, OutcomeRow, ordered)


def list_operations_usage(session: Session, operation_refs: Collection[str]) -> list[UsageRow]:
    """Give the usage of these operations."""
    found: list[UsageRow] = []
    ordered = sorted(operation_refs)
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[start : start + ROWS_PER_STATEMENT]
        found += session.exec(select(UsageRow).where(are_of_operations(session, chunk)))
    return found


def lock_waiting(session: Session, *, after_id: int, limit: int) -> list[OutcomeRow]:
    """Give outcomes that wait for their operation, by id, locked for this writer."""
    statement = (
        select(OutcomeRow)
        .where(col(OutcomeRow.is_waiting).is_(True), col(OutcomeRow.id) > after_id)
        .order_by(col(OutcomeRow.id))
        .limit(limit)
        .with_for_update()
    )
    return list(session.exec(statement))


def place_outcomes(session: Session, places: Mapping[int, int]) -> None:
    """Let each outcome (by id) count under a dimension set, and wait no more."""
    statement = (
        sa.update(OUTCOMES)
        .where(OUTCOMES.c.id == sa.bindparam("outcome_id"))
        .values(dimension_set_id=sa.bindparam("set_id"), is_waiting=False)
    )
    rows = [{"outcome_id": key, "set_id": places[key]} for key in sorted(places)]
    if rows:
        session.connection().execute(statement, rows)


def add_outcome_rollups(session: Session, rows: Iterable[Row]) -> None:
    """Add outcomes to their rollup rows, in key order."""
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in ROLLUP_KEY))
    add_to_rows(session, OutcomeRollupRow, ordered, added=("outcomes", "value_nanos"))


def sum_outcomes(
    session: Session, segments: Iterable[Segment], names: Collection[str]
) -> Iterator[OutcomeSum]:
    """Give the sums of each segment, name and dimension set that has any."""
    connection = session.connection()
    for segment in segments:
        statement = (
            sa.select(
                ROLLUPS.c.dimension_set_id,
                ROLLUPS.c.name,
                sa.cast(sa.func.sum(ROLLUPS.c.value_nanos), sa.BigInteger),
            )
            .where(
                ROLLUPS.c.grain_seconds == segment.grain_seconds,
                ROLLUPS.c.name.in_(sorted(names)),
                ROLLUPS.c.starts_at >= segment.period.start,
                ROLLUPS.c.starts_at < segment.period.end,
            )
            .group_by(ROLLUPS.c.dimension_set_id, ROLLUPS.c.name)
        )
        for set_id, name, value in connection.execute(statement):
            yield OutcomeSum(segment.piece, set_id, name, value)


def list_operation_outcomes(
    session: Session, operation_ref: str, *, limit: int
) -> list[OutcomeRow]:
    """Give the outcomes of one user operation, by id."""
    statement = (
        select(OutcomeRow)
        .where(col(OutcomeRow.operation_ref) == operation_ref)
        .order_by(col(OutcomeRow.id))
        .limit(limit)
    )
    return list(session.exec(statement))


def sum_recorded_outcomes(session: Session) -> dict[tuple[str, int], tuple[int, int]]:
    """Give (count, billionths) of all outcomes by name and dimension set; this scans them."""
    statement = sa.select(
        OUTCOMES.c.name,
        OUTCOMES.c.dimension_set_id,
        sa.func.count(),
        sa.func.sum(OUTCOMES.c.value_nanos),
    ).group_by(OUTCOMES.c.name, OUTCOMES.c.dimension_set_id)
    rows = session.connection().execute(statement)
    return {(name, set_id): (count, int(value)) for name, set_id, count, value in rows}


def sum_all_outcome_rollups(
    session: Session, grain_seconds: int
) -> dict[tuple[str, int], tuple[int, int]]:
    """Give (count, billionths) of all rollups of a grain by name and dimension set."""
    statement = (
        sa.select(
            ROLLUPS.c.name,
            ROLLUPS.c.dimension_set_id,
            sa.func.sum(ROLLUPS.c.outcomes),
            sa.func.sum(ROLLUPS.c.value_nanos),
        )
        .where(ROLLUPS.c.grain_seconds == grain_seconds)
        .group_by(ROLLUPS.c.name, ROLLUPS.c.dimension_set_id)
    )
    rows = session.connection().execute(statement)
    return {(name, set_id): (int(count), int(value)) for name, set_id, count, value in rows}

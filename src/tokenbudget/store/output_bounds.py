"""How much output calls have, in SQL: counted by day, and what follows from it.

It owns which usage is read, and how far; it refuses to know what a bucket is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.db import add_to_rows, insert_new_rows, insert_rows, table_of
from tokenbudget.store.event_tables import UsageStretchRow
from tokenbudget.store.output_tables import OutputBoundRow, OutputCountRow, OutputProgressRow
from tokenbudget.store.stretches import IDS_PER_BLOCK
from tokenbudget.store.tables import UsageRow

COUNTS: Final = table_of(OutputCountRow)
BOUNDS: Final = table_of(OutputBoundRow)
PROGRESS: Final = table_of(OutputProgressRow)
USAGE: Final = table_of(UsageRow)


class OutputKey(NamedTuple):
    """What a bound is asked by; ``feature`` is empty for calls without one."""

    provider: str
    model: str
    feature: str


class CountedKey(NamedTuple):
    """One bucket of the calls of a day."""

    day: datetime
    key: OutputKey
    up_to: int


class CallOutput(NamedTuple):
    """The output of one call; ``request_model`` is None where it was that of the dimensions."""

    usage_id: int
    occurred_at: datetime
    dimension_set_id: int
    request_model: str | None
    output_tokens: int | None
    other_units: Mapping[str, int] | None


def find_last_counted(session: Session) -> int | None:
    """Give the last usage that is counted, None before the first count."""
    statement = sa.select(PROGRESS.c.last_usage_id)
    last: int | None = session.connection().execute(statement).scalar()
    return last


def find_last_computed(session: Session) -> datetime | None:
    """Give when bounds were last worked out, None when they never were."""
    last: datetime | None = session.connection().execute(sa.select(PROGRESS.c.computed_at)).scalar()
    return last


def id_before(session: Session, since: datetime) -> int:
    """Give an id of usage before all that occurred since the instant, 0 when there is none."""
    table = table_of(UsageStretchRow)
    statement = sa.select(sa.func.min(table.c.block)).where(table.c.starts_at >= since)
    block: int | None = session.connection().execute(statement).scalar()
    return block * IDS_PER_BLOCK - 1 if block else 0


def list_outputs(
    session: Session, *, after: int, recorded_before: datetime, limit: int
) -> list[CallOutput]:
    """Give the usages behind an id, in order of id, up to the first that is too young.

    Revisions and further witnesses of a call are among them, with output None.
    """
    is_first = sa.and_(USAGE.c.revision == 0, USAGE.c.call_id.is_(None))
    statement = (
        sa.select(
            USAGE.c.id,
            USAGE.c.occurred_at,
            USAGE.c.dimension_set_id,
            USAGE.c.request_model,
            sa.case((is_first, USAGE.c.output_tokens)).label("output_tokens"),
            USAGE.c.other_units,
            USAGE.c.recorded_at,
        )
        .where(USAGE.c.id > after)
        .order_by(USAGE.c.id)
        .limit(limit)
    )
    found = []
    for *facts, recorded_at in session.connection().execute(statement):
        if recorded_at >= recorded_before:
            break
        found.append(CallOutput(*facts))
    return found


def add_counts(session: Session, calls: Mapping[CountedKey, int], *, last_usage_id: int) -> None:
    """Add calls to their buckets, and note the last usage that is counted now."""
    rows = [
        {
            "day": counted.day,
            **counted.key._asdict(),
            "up_to": counted.up_to,
            "calls": calls[counted],
        }
        for counted in sorted(calls)
    ]
    add_to_rows(session, OutputCountRow, rows, added=("calls",))
    insert_new_rows(session, OutputProgressRow, [{"id": 1, "last_usage_id": last_usage_id}])
    session.connection().execute(sa.update(PROGRESS).values(last_usage_id=last_usage_id))


def forget_counts(session: Session, before: datetime) -> None:
    """Let go of the days before the instant."""
    session.connection().execute(sa.delete(COUNTS).where(COUNTS.c.day < before))


def sum_counts(session: Session) -> dict[OutputKey, dict[int, int]]:
    """Give the calls of all days by bucket."""
    calls = sa.cast(sa.func.sum(COUNTS.c.calls), sa.BigInteger)
    names = [COUNTS.c[name] for name in (*OutputKey._fields, "up_to")]
    sums: dict[OutputKey, dict[int, int]] = {}
    for *key, up_to, total in session.connection().execute(
        sa.select(*names, calls).group_by(*names)
    ):
        sums.setdefault(OutputKey(*key), {})[up_to] = int(total)
    return sums


def replace_bounds(
    session: Session, bounds: Iterable[tuple[OutputKey, int, int]], *, now: datetime
) -> None:
    """Put these bounds (key, tokens, calls) in place of all earlier ones."""
    connection = session.connection()
    connection.execute(sa.delete(BOUNDS))
    rows = [
        {**key._asdict(), "tokens": tokens, "calls": calls} for key, tokens, calls in sorted(bounds)
    ]
    insert_rows(session, OutputBoundRow, rows)
    connection.execute(sa.update(PROGRESS).values(computed_at=now))


def list_bounds(session: Session) -> list[tuple[OutputKey, int, int]]:
    """Give every bound as (key, tokens, calls)."""
    statement: sa.Select[Any] = sa.select(BOUNDS)
    return [
        (OutputKey(row.provider, row.model, row.feature), row.tokens, row.calls)
        for row in session.connection().execute(statement)
    ]

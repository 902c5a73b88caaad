"""What true-up reads: tokens metered, tokens reported, and calls both estimated and measured.

It owns the queries; it refuses to compare and every write. Metered tokens are read from the daily
rollups. Of usage only what tells of calls that are told of more than once is read, by its index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.domain.true_up import MeteredUsage, ProviderUsage, Quantities
from tokenbudget.store.db import ROWS_PER_STATEMENT, table_of
from tokenbudget.store.tables import DimensionSetRow, ProviderUsageRow, RollupRow, UsageRow

USAGE = table_of(UsageRow)


class Telling(NamedTuple):
    """One usage of a call that is told of more than once; ``call_id`` is its first usage."""

    call_id: int
    usage_id: int
    model: str
    input_tokens: int | None
    flags: str | None
    witness: int


def iterate_metered_usage(session: Session, period: Period) -> Iterator[MeteredUsage]:
    """Give what was metered by provider, model, account and UTC day."""
    rollup, dimensions = table_of(RollupRow), table_of(DimensionSetRow)
    keys = (dimensions.c.provider, dimensions.c.model, rollup.c.starts_at, dimensions.c.account)
    sums = [
        _sum(column)
        for column in (rollup.c.input_tokens, rollup.c.output_tokens, rollup.c.requests)
    ]
    statement = (
        sa.select(*keys, *sums)
        .select_from(rollup.join(dimensions, rollup.c.dimension_set_id == dimensions.c.id))
        .where(
            rollup.c.grain_seconds == DAY_SECONDS,
            rollup.c.starts_at >= period.start,
            rollup.c.starts_at < period.end,
        )
        .group_by(*keys)
        # Usage that was revised away leaves rollups of nothing behind.
        .having(sa.or_(*(each != 0 for each in sums)))
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    for provider, model, day, account, *counts in session.connection().execute(statement):
        yield MeteredUsage(provider, model, day, account, Quantities(*counts))


def iterate_provider_usage(
    session: Session, period: Period, *, without: Collection[str]
) -> Iterator[ProviderUsage]:
    """Give what is in force of what providers say, but for these sources, in UTC days.

    Lines that tell neither tokens nor requests are left out.
    """
    usage = table_of(ProviderUsageRow)
    columns = (
        usage.c.provider,
        usage.c.model,
        usage.c.period_start,
        usage.c.input_tokens,
        usage.c.output_tokens,
        usage.c.requests,
        usage.c.account,
        usage.c.project,
        usage.c.api_key,
    )
    told = (usage.c.input_tokens, usage.c.output_tokens, usage.c.requests)
    statement = (
        sa.select(*columns)
        .where(
            usage.c.superseded_by.is_(None),
            usage.c.period_start >= period.start,
            usage.c.period_start < period.end,
            usage.c.source.not_in(sorted(without)),
            sa.or_(*(column.is_not(None) for column in told)),
        )
        .order_by(usage.c.id)
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    for provider, model, start, given, made, requests, *names in session.connection().execute(
        statement
    ):
        day = window_at(Window.DAY, start, "UTC").start
        quantities = Quantities(given or 0, made or 0, requests)
        yield ProviderUsage(provider, model, day, quantities, *names)


def list_tellings(session: Session, period: Period, *, limit: int) -> list[Telling]:
    """Give all that is told of the calls of the period that are told of more than once.

    ``limit`` bounds how many further tellings are looked at, the latest ones.
    """
    further = (
        sa.select(USAGE.c.id, USAGE.c.call_id)
        .where(
            USAGE.c.call_id.is_not(None),
            USAGE.c.occurred_at >= period.start,
            USAGE.c.occurred_at < period.end,
        )
        .order_by(USAGE.c.id.desc())
        .limit(limit)
    )
    ids: set[int] = set()
    for usage_id, call_id in session.connection().execute(further):
        ids |= {usage_id, call_id}
    return [telling for chunk in _chunks(ids) for telling in _list_tellings(session, chunk)]


def _list_tellings(session: Session, ids: Collection[int]) -> list[Telling]:
    dimensions = table_of(DimensionSetRow)
    call_id = sa.func.coalesce(USAGE.c.call_id, USAGE.c.id)
    statement = (
        sa.select(
            call_id,
            USAGE.c.id,
            dimensions.c.model,
            USAGE.c.input_tokens,
            USAGE.c.flags,
            USAGE.c.witness,
        )
        .select_from(USAGE.join(dimensions, USAGE.c.dimension_set_id == dimensions.c.id))
        .where(USAGE.c.id.in_(ids))
        .order_by(USAGE.c.id)
    )
    return [Telling(*row) for row in session.connection().execute(statement)]


def _chunks(ids: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        yield ordered[start : start + ROWS_PER_STATEMENT]


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    # PostgreSQL sums BIGINT to NUMERIC; the cast keeps integers and refuses what does not fit.
    return sa.cast(sa.func.sum(column), sa.BigInteger)

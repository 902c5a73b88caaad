"""Sums of primary facts, for comparing what is derived with what it is derived from. It may scan.

Nothing else does.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.budgets import Counter
from tokenbudget.domain.periods import Period
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import (
    ChargeRow,
    CommitmentShareRow,
    CounterRow,
    CounterTransferRow,
    HoldResolutionRow,
    HoldRow,
    RollupRow,
    UsageRow,
)

Sums = dict[int, tuple[int, int]]


def sum_charges(session: Session) -> Sums:
    """Give (effective nanos, input tokens) of charged usage by dimension set, less reversals."""
    charges, usage = table_of(ChargeRow), table_of(UsageRow)
    # A reversal takes back what stood under the dimensions of the usage it reverses.
    origin = sa.func.coalesce(charges.c.reverses_usage_id, charges.c.usage_id)
    sign = sa.case((charges.c.reverses_usage_id.is_(None), 1), else_=-1)
    set_id = sa.func.coalesce(charges.c.dimension_set_id, usage.c.dimension_set_id)
    statement = (
        sa.select(
            set_id,
            sa.func.sum(sa.func.coalesce(charges.c.effective_nanos, 0)),
            sa.func.sum(sign * sa.func.coalesce(usage.c.input_tokens, 0)),
        )
        .join(usage, usage.c.id == origin)
        .group_by(set_id)
    )
    return _sums(session, statement)


def list_calls_charged_twice(session: Session) -> list[tuple[int, int]]:
    """Give calls, by their first usage, for which other than none or one charge stands."""
    charges, usage = table_of(ChargeRow), table_of(UsageRow)
    origin = sa.func.coalesce(charges.c.reverses_usage_id, charges.c.usage_id)
    call_id = sa.func.coalesce(usage.c.call_id, usage.c.id)
    standing = sa.func.sum(sa.case((charges.c.reverses_usage_id.is_(None), 1), else_=-1))
    statement = (
        sa.select(call_id, standing)
        .join(usage, usage.c.id == origin)
        .group_by(call_id)
        .having(standing.not_in([0, 1]))
        .order_by(call_id)
    )
    return [(row[0], int(row[1])) for row in session.connection().execute(statement)]


def sum_shares(session: Session) -> dict[int, int]:
    """Give the shares of commitments in nanos by dimension set."""
    table = table_of(CommitmentShareRow)
    nanos = sa.cast(sa.func.sum(table.c.nanos), sa.BigInteger)
    statement = sa.select(table.c.dimension_set_id, nanos).group_by(table.c.dimension_set_id)
    rows = session.connection().execute(statement)
    return {dimension_set_id: int(total) for dimension_set_id, total in rows}


def sum_rollups_by_dimension_set(session: Session, grain_seconds: int) -> Sums:
    """Give (effective nanos, input tokens) by dimension set of all rollups of one grain."""
    table = table_of(RollupRow)
    statement = (
        sa.select(
            table.c.dimension_set_id,
            sa.func.sum(sa.cast(table.c.effective_nanos, sa.BigInteger)),
            sa.func.sum(table.c.input_tokens),
        )
        .where(table.c.grain_seconds == grain_seconds)
        .group_by(table.c.dimension_set_id)
    )
    return _sums(session, statement)


def list_all_counters(session: Session) -> list[tuple[Counter, int]]:
    """Give every counter with its baseline."""
    table = table_of(CounterRow)
    return [
        (
            Counter(
                id=row.id,
                budget_id=row.budget_id,
                counting_version=row.counting_version,
                split_key=row.split_key,
                period=Period(row.window_start, row.window_end),
                settled=row.settled,
                held=row.held,
            ),
            row.baseline,
        )
        for row in session.connection().execute(sa.select(table))
    ]


def sum_transfers(session: Session) -> dict[int, int]:
    """Give what transfers added to each counter, negative where they took away."""
    table = table_of(CounterTransferRow)
    moved: dict[int, int] = {}
    statement = sa.select(table.c.to_counter_id, table.c.from_counter_id, table.c.quantity)
    for to_id, from_id, quantity in session.connection().execute(statement):
        moved[to_id] = moved.get(to_id, 0) + quantity
        if from_id is not None:
            moved[from_id] = moved.get(from_id, 0) - quantity
    return moved


def sum_open_holds(session: Session) -> dict[int, int]:
    """Give what open holds hold of each counter: the primary fact behind ``held``."""
    table = table_of(HoldRow)
    held: dict[int, int] = {}
    statement = sa.select(table.c.grants).where(table.c.state == "held")
    for grants in session.connection().execute(statement).scalars():
        for counter_id, quantity in grants:
            held[counter_id] = held.get(counter_id, 0) + quantity
    return held


def list_holds_resolved_twice(session: Session) -> list[str]:
    """Give holds with more resolutions than one.

    An expired hold that settled late has two by right.
    """
    table = table_of(HoldResolutionRow)
    statement = (
        sa.select(table.c.hold_id)
        .where(table.c.kind != "expired")
        .group_by(table.c.hold_id)
        .having(sa.func.count() > 1)
    )
    return list(session.connection().execute(statement).scalars())


def _sums(session: Session, statement: sa.Select[Any]) -> Sums:
    rows = session.connection().execute(statement)
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}

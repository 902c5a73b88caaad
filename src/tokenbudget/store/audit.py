"""Sums of primary facts, for comparing what is derived with what it is derived from. It may scan.

Nothing else does.
"""

from __future__ import annotations

from typing import Any, Final

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
    HoldPieceRow,
    HoldResolutionRow,
    HoldRow,
    RollupRow,
    UsageRow,
)

Sums = dict[int, tuple[int, int]]
NOTHING_TAKEN: Final = (0, 0, 0, 0)


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
    """Give what open holds hold of each counter: the primary fact behind ``held``.

    That is what was granted, less what pieces have taken.
    """
    table = table_of(HoldRow)
    taken = sum_open_pieces(session)
    held: dict[int, int] = {}
    statement = sa.select(table.c.id, table.c.grants).where(table.c.state == "held")
    for hold_id, grants in session.connection().execute(statement):
        pieces = taken.get(hold_id, NOTHING_TAKEN)
        for counter_id, quantity, unit in grants:
            held[counter_id] = held.get(counter_id, 0) + quantity - pieces[unit]
    return held


def sum_open_pieces(session: Session) -> dict[str, tuple[int, ...]]:
    """Give, by open hold, what its pieces have taken: nanos, tokens, requests, and how many."""
    holds, pieces = table_of(HoldRow), table_of(HoldPieceRow)
    taken = [pieces.c.taken_nanos, pieces.c.taken_tokens, pieces.c.taken_requests]
    statement = (
        sa.select(pieces.c.hold_id, *(sa.func.sum(each) for each in taken), sa.func.count())
        .join(holds, holds.c.id == pieces.c.hold_id)
        .where(holds.c.state == "held")
        .group_by(pieces.c.hold_id)
    )
    rows = session.connection().execute(statement)
    return {hold_id: tuple(int(each) for each in sums) for hold_id, *sums in rows}


def list_strayed_remainders(session: Session) -> tuple[int, list[str]]:
    """Give how many open holds settle by pieces, and those whose columns say otherwise than these.

    What is left is compared in the units of its grants, since in others nothing was granted.
    """
    table = table_of(HoldRow)
    taken = sum_open_pieces(session)
    statement = (
        sa.select(
            table.c.id,
            table.c.grants,
            table.c.pieces_settled,
            table.c.remaining_nanos,
            table.c.remaining_tokens,
            table.c.remaining_requests,
        )
        .where(table.c.state == "held", table.c.remaining_nanos.is_not(None))
        .order_by(table.c.id)
    )
    rows = session.connection().execute(statement).all()
    strayed = []
    for hold_id, grants, count, *left in rows:
        pieces = taken.get(hold_id, NOTHING_TAKEN)
        is_left = all(quantity - pieces[unit] == left[unit] for _, quantity, unit in grants)
        if count != pieces[-1] or not is_left:
            strayed.append(hold_id)
    return len(rows), strayed


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

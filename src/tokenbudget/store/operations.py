"""Which operation usage belongs to, and what operations were charged. It refuses to count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.db import table_of
from tokenbudget.store.tables import ChargeRow, UsageRow

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)


class OperationCharge(NamedTuple):
    """One signed movement of the ledger by usage that names an operation.

    ``usage_id`` is the usage that was charged, also where it is taken back (``sign`` -1).
    """

    usage_id: int
    operation_ref: str
    dimension_set_id: int
    sign: int
    nanos: int
    tokens: int
    requests: int


def find_operations(session: Session, *, first: int, last: int) -> dict[int, str]:
    """Give the operation of each usage in a range of ids that names one; both ends included."""
    statement = sa.select(USAGE.c.id, USAGE.c.operation_ref).where(
        USAGE.c.id >= first, USAGE.c.id <= last, USAGE.c.operation_ref.is_not(None)
    )
    return {row[0]: row[1] for row in session.connection().execute(statement) if row[1]}


def list_operation_charges(session: Session, *, after: int) -> list[OperationCharge]:
    """Give all that usage with ids above ``after`` which names an operation was charged. It scans.

    Unpriced usage was charged zero nanos here, as counters have it.
    """
    # What is taken back stood under the dimensions, and for the operation, of the usage charged.
    origin = sa.func.coalesce(CHARGES.c.reverses_usage_id, CHARGES.c.usage_id)
    statement = (
        sa.select(
            USAGE.c.id,
            USAGE.c.operation_ref,
            sa.func.coalesce(CHARGES.c.dimension_set_id, USAGE.c.dimension_set_id),
            sa.case((CHARGES.c.reverses_usage_id.is_(None), 1), else_=-1),
            sa.func.coalesce(CHARGES.c.effective_nanos, 0),
            sa.func.coalesce(USAGE.c.input_tokens, 0) + sa.func.coalesce(USAGE.c.output_tokens, 0),
            USAGE.c.other_units,
        )
        .join(USAGE, USAGE.c.id == origin)
        .where(USAGE.c.id > after, USAGE.c.operation_ref.is_not(None))
    )
    rows: Iterable[Sequence[Any]] = session.connection().execute(statement)
    return [_charge_of(row) for row in rows if row[1]]


def _charge_of(row: Sequence[Any]) -> OperationCharge:
    usage_id, operation_ref, set_id, sign, nanos, tokens, other_units = row
    requests = (other_units or {}).get("requests", 1)
    return OperationCharge(usage_id, operation_ref, set_id, sign, nanos, tokens, requests)

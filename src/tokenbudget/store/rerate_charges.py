"""Charges in bulk: those that stand and may be rated again, and the pairs that replace them.

It owns whatever is read and written by the million, as plain rows. It refuses to rate, and to know
what was proposed or approved (``rerating.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.rerating import ChargedRow, RerateScope
from tokenbudget.domain.usage import COMMON_UNITS
from tokenbudget.store.coding import BASIS_CODES, BASIS_WORDS
from tokenbudget.store.db import ROWS_PER_STATEMENT, is_sqlite, table_of
from tokenbudget.store.tables import (
    ChargeRow,
    CounterTransferRow,
    DimensionSetRow,
    PriceRow,
    RollupRow,
    UsageRow,
)

Row: TypeAlias = Mapping[str, Any]

USAGE: Final = table_of(UsageRow)
CHARGES: Final = table_of(ChargeRow)
ROLLUPS: Final = table_of(RollupRow)
DIMENSIONS: Final = table_of(DimensionSetRow)
PAIR_COLUMNS: Final = (
    "usage_id",
    "sequence",
    "basis",
    "price_row_id",
    "price_list_id",
    "list_nanos",
    "contracted_nanos",
    "effective_nanos",
    "accounting_period",
    "reverses_usage_id",
    "rerate_id",
    "dimension_set_id",
    "flags",
)
OTHER_CHARGES: Final = CHARGES.alias("other_charges")
BASIS_WORD: Final = sa.case(
    BASIS_WORDS, value=sa.type_coerce(CHARGES.c.basis, sa.SmallInteger)
).label("basis")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which standing charges to read: rated by one of these price rows, or unpriced, or both."""

    scope: RerateScope
    price_row_ids: Collection[int]
    has_unpriced: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a usage moved in another counter than the one its time falls in, if there is one."""

    usage_id: int
    from_counter_id: int | None
    to_counter_id: int


def list_charged_rows(session: Session) -> list[ChargedRow]:
    """Give every price row that charges may name."""
    table = table_of(PriceRow)
    statement = sa.select(table.c.id, table.c.digest, table.c.provider, table.c.model)
    return [ChargedRow(*row) for row in session.connection().execute(statement)]


def list_candidates(
    session: Session, selection: Selection, *, after: int, up_to: int | None, limit: int
) -> Sequence[Sequence[Any]]:
    """Give selected usage with the charge that stands for it, by usage id, at most ``limit``.

    Left out is what a later revision or another witness replaced, and what a gateway answered from
    its own cache, which is free at any price. The columns are those of ``CANDIDATE_SCHEMA`` in
    frames/rerating.
    """
    selected = [_is_selected(selection), *_is_in_scope(selection.scope), *stands()]
    selected.append(USAGE.c.cache_hit.is_(None))
    bounds = [CHARGES.c.usage_id > after]
    if up_to is not None:
        bounds.append(CHARGES.c.usage_id <= up_to)
    statement = (
        sa.select(*_candidate_columns())
        .join(USAGE, USAGE.c.id == CHARGES.c.usage_id)
        .where(*bounds, *selected)
        .order_by(CHARGES.c.usage_id)
        .limit(limit)
    )
    result = session.connection().execute(statement)
    # As the driver gives them: an object a row would cost more than the query does.
    rows = result.cursor.fetchall()
    result.close()
    return rows


def _candidate_columns() -> list[sa.ColumnElement[Any]]:
    return [
        CHARGES.c.usage_id,
        sa.type_coerce(USAGE.c.occurred_at, sa.BigInteger),
        sa.func.coalesce(CHARGES.c.dimension_set_id, USAGE.c.dimension_set_id),
        CHARGES.c.dimension_set_id.label("charge_set_id"),
        USAGE.c.flags,
        CHARGES.c.sequence,
        BASIS_WORD,
        CHARGES.c.price_row_id,
        CHARGES.c.price_list_id,
        CHARGES.c.list_nanos,
        CHARGES.c.contracted_nanos,
        CHARGES.c.effective_nanos,
        CHARGES.c.accounting_period,
        *(USAGE.c[unit] for unit in COMMON_UNITS),
        sa.cast(USAGE.c.other_units, sa.Text),
    ]


def _is_selected(selection: Selection) -> sa.ColumnElement[bool]:
    has_cost = CHARGES.c.effective_nanos.is_not(None)
    kinds: list[sa.ColumnElement[bool]] = []
    if selection.price_row_ids:
        kinds.append(has_cost & CHARGES.c.price_row_id.in_(sorted(selection.price_row_ids)))
    if selection.has_unpriced:
        kinds.append(CHARGES.c.effective_nanos.is_(None))
    return sa.or_(sa.false(), *kinds)


def _is_in_scope(scope: RerateScope) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [CHARGES.c.usage_id > scope.after_usage_id]
    if scope.start is not None:
        conditions.append(USAGE.c.occurred_at >= scope.start)
    if scope.end is not None:
        conditions.append(USAGE.c.occurred_at < scope.end)
    named = {"provider": scope.provider, "model": scope.model}
    wanted = [DIMENSIONS.c[name] == value for name, value in named.items() if value is not None]
    if wanted:
        conditions.append(USAGE.c.dimension_set_id.in_(sa.select(DIMENSIONS.c.id).where(*wanted)))
    return conditions


def stands() -> list[sa.ColumnElement[bool]]:
    """Give the conditions that a charge, joined with its usage, is the one that stands for it."""
    is_followed = sa.exists().where(
        OTHER_CHARGES.c.usage_id == CHARGES.c.usage_id,
        OTHER_CHARGES.c.sequence > CHARGES.c.sequence,
        # Its second charge may take back what an earlier revision was charged.
        sa.func.coalesce(OTHER_CHARGES.c.reverses_usage_id, CHARGES.c.usage_id)
        == CHARGES.c.usage_id,
    )
    is_revised = sa.exists().where(
        OTHER_CHARGES.c.reverses_usage_id == CHARGES.c.usage_id,
        OTHER_CHARGES.c.reverses_usage_id != OTHER_CHARGES.c.usage_id,
    )
    return [
        CHARGES.c.reverses_usage_id.is_(None),
        ~is_followed,
        ~is_revised,
    ]


def list_dimensions(session: Session, ids: Collection[int]) -> Sequence[Sequence[Any]]:
    """Give these dimension sets; the columns are those of ``DIMENSION_SCHEMA``."""
    names = ("provider", "model", "service_tier", "region", "account", "team", "feature", "tenant")
    columns = [DIMENSIONS.c.id, *(DIMENSIONS.c[name] for name in names)]
    ordered = sorted(ids)
    found: list[Sequence[Any]] = []
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[start : start + ROWS_PER_STATEMENT]
        statement = sa.select(*columns).where(DIMENSIONS.c.id.in_(chunk))
        found.extend(session.connection().execute(statement))
    return found


def append_charge_pairs(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add charges in the order given; each row holds the columns of PAIR_COLUMNS.

    They go to the driver as they are: they come by the million, and converting them here would
    take longer than storing them.
    """
    if not rows:
        return
    mark = "?" if is_sqlite(session) else "%s"
    codes = " ".join(f"WHEN '{word}' THEN {code}" for word, code in BASIS_CODES.items())
    marks = (f"CASE {mark} {codes} END" if name == "basis" else mark for name in PAIR_COLUMNS)
    text = f"INSERT INTO {CHARGES.name} ({', '.join(PAIR_COLUMNS)}) VALUES ({', '.join(marks)})"
    session.connection().exec_driver_sql(text, list(rows))


def list_transfers(session: Session, *, first: int, last: int) -> list[Transfer]:
    """Give where usage in this range of ids counts in another counter than its own."""
    table = table_of(CounterTransferRow)
    statement = (
        sa.select(table.c.usage_id, table.c.from_counter_id, table.c.to_counter_id)
        .where(table.c.usage_id >= first, table.c.usage_id <= last)
        .group_by(table.c.usage_id, table.c.from_counter_id, table.c.to_counter_id)
        # What was taken back stands nowhere any more.
        .having(sa.func.sum(table.c.quantity) > 0)
        .order_by(table.c.usage_id, table.c.to_counter_id)
    )
    return [Transfer(*row) for row in session.connection().execute(statement)]


def last_usage_id(session: Session) -> int:
    """Give the highest id of usage, 0 when there is none."""
    return session.connection().execute(sa.select(sa.func.max(USAGE.c.id))).scalar() or 0


def has_unpriced_after(session: Session, usage_id: int) -> bool:
    """Tell whether usage above this id was charged nothing because it had no price."""
    statement = (
        sa.select(CHARGES.c.usage_id)
        .where(
            CHARGES.c.usage_id > usage_id,
            CHARGES.c.effective_nanos.is_(None),
            CHARGES.c.reverses_usage_id.is_(None),
        )
        .limit(1)
    )
    return session.connection().execute(statement).first() is not None

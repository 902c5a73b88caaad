"""Budget versions and counters in SQL.

Counters change only while the caller's transaction has them locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import Session, col, select

from tokenbudget.domain.allowances import PastWindow
from tokenbudget.domain.budgets import Counter
from tokenbudget.domain.periods import EPOCH, Period, from_micros, to_micros
from tokenbudget.store.db import (
    ROWS_PER_STATEMENT,
    UtcDateTime,
    insert_new_rows,
    insert_rows,
    is_sqlite,
    table_of,
)
from tokenbudget.store.prepared import Prepared, among
from tokenbudget.store.tables import (
    BudgetRow,
    CounterRow,
    CounterTransferRow,
    ForecastRow,
    RulesVersionRow,
    UsageRow,
)

RULES_LOCK = 0x70B1
MAX_PERIODS = 4_096

COUNTER = table_of(CounterRow)
FIRST_WINDOW = sa.literal(EPOCH, UtcDateTime())
LAST_USAGE_ID = sa.select(sa.func.max(table_of(UsageRow).c.id))
RULES_NUMBER = Prepared(lambda _: sa.select(table_of(RulesVersionRow).c.number))
# SQLite ignores FOR UPDATE: the transaction already holds the write lock.
LOCKED_COUNTERS = Prepared(
    lambda dialect_name: (
        sa.select(
            COUNTER.c.id,
            COUNTER.c.budget_id,
            COUNTER.c.counting_version,
            COUNTER.c.split_key,
            COUNTER.c.window_start,
            COUNTER.c.window_end,
            COUNTER.c.settled,
            COUNTER.c.held,
            COUNTER.c.carry,
        )
        .where(among(COUNTER.c.id, "ids", dialect_name))
        .order_by(COUNTER.c.id)
        .with_for_update()
    )
)
WRITTEN_COUNTER = Prepared(
    lambda _: (
        sa.update(COUNTER)
        .where(COUNTER.c.id == sa.bindparam("counter_id"))
        .values(settled=sa.bindparam("new_settled"), held=sa.bindparam("new_held"))
    )
)


class CounterKey(NamedTuple):
    """What identifies a counter.

    Budget, counting version, split values and the start of the window.
    """

    budget_id: str
    counting_version: int
    split_key: str
    window_start: datetime


def share_rules(session: Session) -> int:
    """Give the number of the rules, which then stay until this transaction ends."""
    if not is_sqlite(session):
        session.connection().execute(sa.select(sa.func.pg_advisory_xact_lock_shared(RULES_LOCK)))
    return rules_number(session)


def rules_number(session: Session) -> int:
    """Give the number of the rules in force."""
    return int(RULES_NUMBER.run(session).scalar() or 0)


def shut_out_batches(session: Session) -> None:
    """Wait until the batches in flight are through and let none begin before this one ends.

    On SQLite the transaction's write lock has done so already.
    """
    if not is_sqlite(session):
        session.connection().execute(sa.select(sa.func.pg_advisory_xact_lock(RULES_LOCK)))


def change_rules(session: Session) -> None:
    """Wait until no batch relies on the rules, then raise their number.

    Every worker reloads them.
    """
    shut_out_batches(session)
    insert_new_rows(session, RulesVersionRow, [{"id": 1, "number": 0}])
    table = table_of(RulesVersionRow)
    session.connection().execute(sa.update(table).values(number=table.c.number + 1))


def list_budgets(session: Session) -> list[BudgetRow]:
    """Give the version in force of every budget, by id."""
    latest = (
        select(BudgetRow.id, sa.func.max(BudgetRow.version).label("version"))
        .group_by(BudgetRow.id)
        .subquery()
    )
    statement = (
        select(BudgetRow)
        .join(
            latest,
            sa.and_(col(BudgetRow.id) == latest.c.id, col(BudgetRow.version) == latest.c.version),
        )
        .order_by(BudgetRow.id)
    )
    return list(session.exec(statement))


def list_budget_versions(session: Session, budget_id: str) -> list[BudgetRow]:
    """Give every version of one budget, oldest first."""
    statement = select(BudgetRow).where(BudgetRow.id == budget_id).order_by(col(BudgetRow.version))
    return list(session.exec(statement))


def list_versions_of(session: Session, budget_ids: Collection[str]) -> list[BudgetRow]:
    """Give every version of these budgets, by id and oldest first."""
    if not budget_ids:
        return []
    statement = (
        select(BudgetRow)
        .where(col(BudgetRow.id).in_(sorted(budget_ids)))
        .order_by(col(BudgetRow.id), col(BudgetRow.version))
    )
    return list(session.exec(statement))


def add_counters(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add counters that are not there yet, in key order."""
    ordered = sorted(
        rows,
        key=lambda row: (
            row["budget_id"],
            row["counting_version"],
            row["split_key"],
            row["window_start"],
        ),
    )
    insert_new_rows(session, CounterRow, ordered)


def find_counter_ids(session: Session, keys: Collection[CounterKey]) -> dict[CounterKey, int]:
    """Give the ids of those of the counters that exist."""
    table = table_of(CounterRow)
    by_budget: dict[tuple[str, int, datetime], list[str]] = {}
    for key in keys:
        group = (key.budget_id, key.counting_version, key.window_start)
        by_budget.setdefault(group, []).append(key.split_key)
    found: dict[CounterKey, int] = {}
    for (budget_id, counting_version, window_start), split_keys in by_budget.items():
        for start in range(0, len(split_keys), ROWS_PER_STATEMENT):
            statement = sa.select(table.c.split_key, table.c.id).where(
                table.c.budget_id == budget_id,
                table.c.counting_version == counting_version,
                table.c.window_start == window_start,
                table.c.split_key.in_(split_keys[start : start + ROWS_PER_STATEMENT]),
            )
            for split_key, counter_id in session.connection().execute(statement):
                key = CounterKey(budget_id, counting_version, split_key, window_start)
                found[key] = counter_id
    return found


def lock_counters(session: Session, counter_ids: Iterable[int]) -> dict[int, Counter]:
    """Give the counters by id, locked in order of id until the transaction ends."""
    ids = sorted(counter_ids)
    if not ids:
        return {}
    counters = map(_counter_of, LOCKED_COUNTERS.run(session, {"ids": ids}).all())
    return {counter.id: counter for counter in counters}


def _counter_of(row: Sequence[Any]) -> Counter:
    counter_id, budget_id, counting_version, split_key, start, end, settled, held, carry = row
    return Counter(
        id=counter_id,
        budget_id=budget_id,
        counting_version=counting_version,
        split_key=split_key,
        period=_period_of(start, end),
        settled=settled,
        held=held,
        frozen_carry=carry,
    )


@lru_cache(MAX_PERIODS)
def _period_of(start_micros: int, end_micros: int) -> Period:
    return Period(from_micros(start_micros), from_micros(end_micros))


def _sums_of_other_days(dialect_name: str) -> sa.Select[Any]:
    """Give the statement that sums the days beside each counter, along the index of their keys."""
    today, other = COUNTER.alias("today"), COUNTER.alias("other")
    asked, counter_id, since = _asked_days(dialect_name)
    known = asked.join(today, today.c.id == counter_id)
    is_other_day = sa.and_(
        other.c.budget_id == today.c.budget_id,
        other.c.counting_version == today.c.counting_version,
        other.c.split_key == today.c.split_key,
        other.c.window_start >= since,
        other.c.id != today.c.id,
    )
    settled, held = _sums_of(other)
    if dialect_name == "sqlite":
        joined = known.join(other, is_other_day)
        return sa.select(today.c.id, settled, held).select_from(joined).group_by(today.c.id)
    # Joined without more ado, PostgreSQL would read all days there ever were.
    summed = sa.select(settled.label("settled"), held.label("held")).where(is_other_day)
    sums = summed.correlate(asked, today).lateral("sums")
    return (
        sa.select(today.c.id, sums.c.settled, sums.c.held)
        .select_from(known.join(sums, sa.true()))
        .where(sums.c.settled.is_not(None))
    )


def _asked_days(
    dialect_name: str,
) -> tuple[sa.TableValuedAlias, sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Give the rows of ``asked``, a list of [counter id, first day in microseconds], and both."""
    if dialect_name == "sqlite":
        listed = sa.func.json_each(sa.bindparam("asked", type_=sa.JSON))
        asked = listed.table_valued("value", name="asked")
        part_of = sa.func.json_extract
        return asked, part_of(asked.c.value, "$[0]"), part_of(asked.c.value, "$[1]")
    listed = sa.func.jsonb_array_elements(sa.bindparam("asked", type_=postgresql.JSONB))
    asked = listed.table_valued("value", name="asked")
    first, second = (sa.func.jsonb_array_element_text(asked.c.value, place) for place in (0, 1))
    return asked, sa.cast(first, sa.BigInteger), sa.cast(second, sa.BigInteger)


def _sums_of(counter: sa.FromClause) -> list[sa.ColumnElement[int]]:
    """Give the sums of settled and held as integers: those of BIGINT are NUMERIC on PostgreSQL."""
    return [sa.cast(sa.func.sum(counter.c[name]), sa.BigInteger) for name in ("settled", "held")]


OTHER_DAYS = Prepared(_sums_of_other_days)


def sum_other_days(session: Session, asked: Mapping[int, datetime]) -> dict[int, tuple[int, int]]:
    """Give settled and held, by counter id, of the other days of its budget and split.

    ``asked`` maps the id of a day's counter to the start of the first day that is summed; days
    after the counter's own are summed too. Counters without any other day are missing.
    """
    pairs = [[counter_id, to_micros(since)] for counter_id, since in sorted(asked.items())]
    rows: Sequence[Sequence[Any]] = OTHER_DAYS.run(session, {"asked": pairs}).all()
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


def sum_days(
    session: Session, budget_id: str, counting_version: int, *, since: datetime
) -> list[tuple[str, int, int]]:
    """Give split key, settled and held of a budget's counters since a day, by split key."""
    statement: sa.Select[Any] = (
        sa.select(COUNTER.c.split_key, *_sums_of(COUNTER))
        .where(
            COUNTER.c.budget_id == budget_id,
            COUNTER.c.counting_version == counting_version,
            COUNTER.c.window_start >= since,
        )
        .group_by(COUNTER.c.split_key)
        .order_by(COUNTER.c.split_key)
    )
    rows = session.connection().execute(statement).all()
    return [(row[0], int(row[1]), int(row[2])) for row in rows]


def write_counters(session: Session, counters: Iterable[Counter]) -> None:
    """Write back settled and held of counters this transaction has locked."""
    rows = [
        {"counter_id": counter.id, "new_settled": counter.settled, "new_held": counter.held}
        for counter in sorted(counters, key=lambda counter: counter.id)
    ]
    if rows:
        WRITTEN_COUNTER.run_many(session, rows)


def list_past_counters(session: Session, key: CounterKey) -> list[tuple[int, PastWindow]]:
    """Give id and content of the counters that a window's carry is worked out of, in order of time.

    They are those of earlier windows of the same budget and split values, from the last one whose
    carry is frozen on, or all if none is.
    """
    earlier = (
        COUNTER.c.budget_id == key.budget_id,
        COUNTER.c.counting_version == key.counting_version,
        COUNTER.c.split_key == key.split_key,
        COUNTER.c.window_start < key.window_start,
    )
    last_frozen = (
        sa.select(sa.func.max(COUNTER.c.window_start))
        .where(*earlier, COUNTER.c.carry.is_not(None))
        .scalar_subquery()
    )
    statement = (
        sa.select(
            COUNTER.c.id,
            COUNTER.c.window_start,
            COUNTER.c.settled,
            COUNTER.c.held,
            COUNTER.c.carry,
        )
        .where(*earlier)
        .where(COUNTER.c.window_start >= sa.func.coalesce(last_frozen, FIRST_WINDOW))
        .order_by(COUNTER.c.window_start)
    )
    rows = session.connection().execute(statement).all()
    return [(counter_id, PastWindow(*content)) for counter_id, *content in rows]


def freeze_carries(session: Session, carries: Mapping[int, int]) -> None:
    """Write the final carry of counters, by id, that this transaction has locked."""
    if not carries:
        return
    statement = (
        sa.update(COUNTER)
        .where(COUNTER.c.id == sa.bindparam("counter_id"))
        .values(carry=sa.bindparam("final_carry"))
    )
    rows = [{"counter_id": each, "final_carry": carries[each]} for each in sorted(carries)]
    session.connection().execute(statement, rows)


def add_transfers(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add settlements that went to the window of their hold."""
    insert_rows(session, CounterTransferRow, rows)


def list_counters(
    session: Session, at: datetime, *, budget_ids: Collection[str] | None = None
) -> list[tuple[CounterRow, int | None]]:
    """Give every counter whose window holds the instant, with its forecast when there is one.

    Only those of ``budget_ids``, None for all.
    """
    statement = (
        select(CounterRow, ForecastRow.expected)
        .join(ForecastRow, col(ForecastRow.counter_id) == col(CounterRow.id), isouter=True)
        .where(col(CounterRow.window_start) <= at, col(CounterRow.window_end) > at)
        .order_by(CounterRow.budget_id, CounterRow.split_key)
    )
    if budget_ids is not None:
        statement = statement.where(col(CounterRow.budget_id).in_(sorted(budget_ids)))
    return [(counter, expected) for counter, expected in session.exec(statement)]


def list_most_used(
    session: Session, budget_id: str, counting_version: int, *, limit: int
) -> list[CounterRow]:
    """Give the counters of a budget with most settled and held, at most ``limit``."""
    used = col(CounterRow.settled) + col(CounterRow.held)
    statement = (
        select(CounterRow)
        .where(CounterRow.budget_id == budget_id, CounterRow.counting_version == counting_version)
        .order_by(used.desc(), col(CounterRow.id))
        .limit(limit)
    )
    return list(session.exec(statement))


def last_usage_id(session: Session) -> int:
    """Give the id of the usage recorded last, 0 when there is none."""
    return int(session.connection().execute(LAST_USAGE_ID).scalar() or 0)


def find_forecasts(session: Session, counter_ids: Collection[int]) -> dict[int, int]:
    """Give what the windows of these counters are expected to end at, by counter id."""
    table = table_of(ForecastRow)
    statement = sa.select(table.c.counter_id, table.c.expected).where(
        table.c.counter_id.in_(sorted(counter_ids))
    )
    return {row[0]: row[1] for row in session.connection().execute(statement)}


def replace_forecasts(session: Session, expected: Mapping[int, int], *, now: datetime) -> None:
    """Put these forecasts, by counter id, in place of all earlier ones."""
    session.connection().execute(sa.delete(table_of(ForecastRow)))
    rows = [
        {"counter_id": counter_id, "expected": expected[counter_id], "computed_at": now}
        for counter_id in sorted(expected)
    ]
    insert_rows(session, ForecastRow, rows)

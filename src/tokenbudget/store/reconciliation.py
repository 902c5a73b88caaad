"""What reconciling reads: bill lines in force, metered sums and what providers say was used.

It owns the queries; it refuses to compare and every write. Metered cost is read from rollups, never
from usage: what is read grows with days and combinations of dimensions, not with events. Rows of a
day are added up here, since a join by names makes a database sort every rollup by them. What a
commitment covers is told by the price row of its rollups; what spilled over is usage of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import add
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.commitments import COMMITMENT_PREFIX, SPILLED
from tokenbudget.domain.periods import Period, from_micros
from tokenbudget.domain.reconciliation import MeteredCost
from tokenbudget.domain.rollups import ONE_DAY, Segment
from tokenbudget.domain.statements import Bearer
from tokenbudget.store.db import ROWS_PER_STATEMENT, table_of
from tokenbudget.store.tables import (
    BillLineRow,
    CommitmentShareRow,
    DimensionSetRow,
    PriceRow,
    ProviderUsageRow,
    RollupRow,
)

MICROS_PER_DAY: Final = 86_400_000_000
ROLLUPS_AT_ONCE: Final = 10_000
NO_PRICE_ROW: Final = 0
NOTHING: Final = (0, 0, 0, 0, 0, 0)
"""The sums of no rollup at all."""


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """What metered cost is summed by, days aside; each is one object, and equal only to itself."""

    provider: str
    model: str
    account: str | None
    bearer: Bearer


class _Payer(NamedTuple):
    """A subject, and the commitment that pays for its usage, None where it costs by itself."""

    subject: _Subject
    commitment: str | None


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the numbers in rollups mean: subjects by dimension set, commitments by price row."""

    subjects: Mapping[int, _Subject]
    commitments: Mapping[int, str]


class ReportedUsage(NamedTuple):
    """What a source says was used under one name: tokens are input and output together."""

    source: str
    provider: str
    account: str
    project: str | None
    api_key: str | None
    first: datetime
    end: datetime
    requests: int
    tokens: int


def list_providers(session: Session) -> list[str]:
    """Give every provider that usage was ever recorded under, in order."""
    dimensions = table_of(DimensionSetRow)
    statement = sa.select(dimensions.c.provider).distinct()
    return sorted(session.connection().execute(statement).scalars())


def iterate_lines_of(session: Session, month: int) -> Iterator[BilledCost]:
    """Give the lines in force that the invoices of a month (year * 100 + month) carry, by id."""
    line = table_of(BillLineRow)
    columns = (
        line.c.provider,
        line.c.period_start,
        line.c.period_end,
        line.c.category,
        line.c.billed_amount,
        line.c.currency,
        line.c.billing_month,
        line.c.account,
        line.c.project,
        line.c.api_key,
        line.c.model,
        line.c.usage_type,
        line.c.description,
        line.c.invoice_ref,
        line.c.is_correction,
        line.c.tags,
        line.c.id,
    )
    statement = (
        sa.select(*columns)
        .where(line.c.superseded_by.is_(None), line.c.billing_month == month)
        .order_by(line.c.id)
        .execution_options(yield_per=ROWS_PER_STATEMENT)
    )
    for provider, start, end, category, amount, *rest in session.connection().execute(statement):
        yield BilledCost(
            provider, Period(start, end), ChargeCategory(category), Decimal(amount), *rest
        )


def iterate_metered(
    session: Session, segments: Iterable[Segment], names: Mapping[str, str]
) -> Iterator[MeteredCost]:
    """Give what was metered by model, account, bearer, commitment and UTC day, in order of days.

    ``names`` has every provider that is wanted and the name it goes by. A day that a segment covers
    in part stands for itself as a whole: only that part is summed.
    """
    keys = _Keys(_subjects(session, names), _commitments(session))
    for segment in segments if keys.subjects else ():
        for period, (subject, commitment), sums in _sums(session, segment, keys):
            effective, unpriced, requests, tokens, listed, contracted = sums
            # Usage that was revised away leaves rollups of nothing behind.
            if requests == 0 and effective == 0:
                continue
            yield MeteredCost(
                subject.provider,
                subject.model,
                period,
                effective,
                unpriced,
                subject.account,
                subject.bearer,
                requests,
                tokens,
                listed,
                contracted,
                commitment,
            )


def iterate_reported_usage(session: Session, period: Period) -> Iterator[ReportedUsage]:
    """Give what sources say was used in times that begin in the period, by its names."""
    usage = table_of(ProviderUsageRow)
    names = (
        usage.c.source,
        usage.c.provider,
        usage.c.account,
        usage.c.project,
        usage.c.api_key,
    )
    tokens = _or_zero(usage.c.input_tokens) + _or_zero(usage.c.output_tokens)
    statement = (
        sa.select(
            *names,
            sa.func.min(usage.c.period_start),
            sa.func.max(usage.c.period_end),
            _sum(_or_zero(usage.c.requests)),
            _sum(tokens),
        )
        .where(
            usage.c.superseded_by.is_(None),
            usage.c.period_start >= period.start,
            usage.c.period_start < period.end,
        )
        .group_by(*names)
        .order_by(*names)
    )
    for row in session.connection().execute(statement):
        yield ReportedUsage(*row)


def _subjects(session: Session, names: Mapping[str, str]) -> dict[int, _Subject]:
    """Give the subject that each dimension set of these providers is one of, by the set's id."""
    dimensions = table_of(DimensionSetRow)
    columns = (
        dimensions.c.id,
        dimensions.c.provider,
        dimensions.c.model,
        dimensions.c.account,
        dimensions.c.team,
        dimensions.c.feature,
        dimensions.c.tenant,
    )
    statement = sa.select(*columns).where(dimensions.c.provider.in_(sorted(names)))
    known: dict[tuple[str | None, ...], _Subject] = {}
    subjects: dict[int, _Subject] = {}
    for set_id, provider, model, account, *bearer in session.connection().execute(statement):
        key = (names[provider], model, account, *bearer)
        subject = known.get(key)
        if subject is None:
            subject = known[key] = _Subject(names[provider], model, account, Bearer(*bearer))
        subjects[set_id] = subject
    return subjects


def _commitments(session: Session) -> dict[int, str]:
    """Give the commitment of every price row of covered usage and of shares."""
    price = table_of(PriceRow)
    is_of_shares = price.c.digest.startswith(COMMITMENT_PREFIX, autoescape=True)
    statement = sa.select(price.c.id, price.c.commitment, price.c.digest).where(
        sa.or_(price.c.commitment.is_not(None), is_of_shares)
    )
    rows = session.connection().execute(statement)
    return {
        price_id: commitment or digest.removeprefix(COMMITMENT_PREFIX)
        for price_id, commitment, digest in rows
    }


def _sums(
    session: Session, segment: Segment, keys: _Keys
) -> Iterator[tuple[Period, _Payer, Sequence[int]]]:
    """Give the sums of each subject and commitment, day by day."""
    spilled = _spilled(session, segment, keys)
    day, of_day = 0, dict[_Payer, Sequence[int]]()
    rows = session.connection().execute(_metered(segment, by_price=bool(keys.commitments)))
    for starts_at, set_id, price_id, *sums in rows:
        if starts_at >= day + MICROS_PER_DAY:
            yield from _of_period(day, of_day, spilled[day])
            day, of_day = starts_at - starts_at % MICROS_PER_DAY, {}
        subject = keys.subjects.get(set_id)
        if subject is None:
            continue
        payer = _Payer(subject, keys.commitments.get(price_id))
        known = of_day.get(payer)
        of_day[payer] = sums if known is None else list(map(add, known, sums))
    yield from _of_period(day, of_day, spilled[day])


def _of_period(
    day: int, of_day: dict[_Payer, Sequence[int]], spilled: Mapping[_Payer, int]
) -> Iterator[tuple[Period, _Payer, Sequence[int]]]:
    """Give the sums of a day; what spilled over a commitment is not among what it pays."""
    for payer, nanos in spilled.items():
        for each, moved in ((payer, -nanos), (payer._replace(commitment=None), nanos)):
            effective, *others = of_day.get(each, NOTHING)
            of_day[each] = [effective + moved, *others]
    start = from_micros(day)
    period = Period(start, start + ONE_DAY)
    for payer, sums in of_day.items():
        yield period, payer, sums


def _spilled(session: Session, segment: Segment, keys: _Keys) -> dict[int, dict[_Payer, int]]:
    """Give what spilled over each commitment in nanos, by the start of the UTC day."""
    spilled: dict[int, dict[_Payer, int]] = defaultdict(lambda: defaultdict(int))
    if not keys.commitments:
        return spilled
    share = table_of(CommitmentShareRow)
    starts_at = sa.type_coerce(share.c.starts_at, sa.BigInteger)
    statement = sa.select(
        starts_at, share.c.dimension_set_id, share.c.commitment_id, share.c.nanos
    ).where(
        # By the ids, since the primary key begins with them.
        share.c.commitment_id.in_(sorted(set(keys.commitments.values()))),
        share.c.starts_at >= segment.period.start,
        share.c.starts_at < segment.period.end,
        share.c.kind == SPILLED,
        share.c.nanos != 0,
    )
    for starts, set_id, commitment, nanos in session.connection().execute(statement):
        subject = keys.subjects.get(set_id)
        if subject is not None:
            spilled[starts - starts % MICROS_PER_DAY][_Payer(subject, commitment)] += nanos
    return spilled


def _metered(segment: Segment, *, by_price: bool) -> sa.Select[Any]:
    # By the columns of the primary key in their order, so that nothing has to be sorted.
    rollup = table_of(RollupRow)
    starts_at = sa.type_coerce(rollup.c.starts_at, sa.BigInteger)
    keys = (rollup.c.starts_at, rollup.c.dimension_set_id, rollup.c.price_row_id)[: 2 + by_price]
    return (
        sa.select(
            starts_at,
            rollup.c.dimension_set_id,
            rollup.c.price_row_id if by_price else sa.literal(NO_PRICE_ROW),
            _sum(rollup.c.effective_nanos),
            _sum(rollup.c.unpriced_requests),
            _sum(rollup.c.requests),
            _sum(rollup.c.input_tokens + rollup.c.output_tokens),
            _sum(rollup.c.list_nanos),
            _sum(rollup.c.contracted_nanos),
        )
        .where(
            rollup.c.grain_seconds == segment.grain_seconds,
            rollup.c.starts_at >= segment.period.start,
            rollup.c.starts_at < segment.period.end,
        )
        .group_by(*keys)
        .order_by(*keys)
        .execution_options(yield_per=ROLLUPS_AT_ONCE)
    )


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    # PostgreSQL sums BIGINT to NUMERIC; the cast keeps integers and refuses what does not fit.
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _or_zero(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(column, 0)

"""Totals that emitters' metrics tell, beside what the ledger counted for the same service.

Metrics repeat what spans and log events tell, so they are kept apart and only compared. It refuses
to count any of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.costs import CostQuery
from tokenbudget.domain.periods import EPOCH, Period
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.formats.otlp import MetricTotal
from tokenbudget.formats.otlp.traces import NAMELESS_SOURCE, SOURCE_PREFIX
from tokenbudget.services.costs import query_costs
from tokenbudget.store.db import Database
from tokenbudget.store.metric_tables import MetricTotalRow
from tokenbudget.store.metrics import keep_totals, list_last_totals, list_totals

SERVICE_TAG: Final = "tag:service"
COUNTED_KINDS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, slots=True)
class MetricCheck:
    """What metrics told of a service, model and kind of token, and what was counted of it.

    ``told`` is the emitter's figure as it defines it: the input of some leaves out what the cache
    held. ``counted`` is None for a kind the ledger keeps no sum of.
    """

    source: str
    metric: str
    provider: str
    model: str
    kind: str
    told: Decimal
    counted: int | None


def record_totals(database: Database, totals: Sequence[MetricTotal]) -> None:
    """Keep the totals of one request; the same again changes nothing."""
    if not totals:
        return
    with database.transaction() as session:
        keep_totals(session, [_row_of(total) for total in totals])


def check_metrics(database: Database, period: Period) -> list[MetricCheck]:
    """Compare what metrics told in a period with what the ledger counted in it."""
    with database.reading() as session:
        told = _sums_told(session, period)
    counted = _counted(database, period)
    return [
        MetricCheck(
            source,
            metric,
            provider,
            model,
            kind,
            amount,
            counted.get((source, model), {}).get(kind, 0) if kind in COUNTED_KINDS else None,
        )
        for (source, metric, provider, model, kind), amount in sorted(told.items())
    ]


def _row_of(total: MetricTotal) -> dict[str, Any]:
    is_cumulative = total.is_cumulative
    return {
        "series_ref": total.series_ref,
        "started_at": total.started_at or EPOCH,
        "bucket": quarter_hour_at(total.ended_at) if is_cumulative else total.ended_at,
        "ended_at": total.ended_at,
        "source": total.source,
        "metric": total.metric,
        "provider": total.provider,
        "model": total.model,
        "kind": total.kind,
        "amount": format(total.amount, "f"),
        "is_cumulative": is_cumulative,
    }


def _sums_told(session: Session, period: Period) -> dict[tuple[str, str, str, str, str], Decimal]:
    """Give what was told within the period by source, metric, provider, model and kind."""
    rows = list_totals(session, start=period.start, end=period.end)
    cumulative = [row for row in rows if row.is_cumulative]
    refs = sorted({row.series_ref for row in cumulative})
    before = list_last_totals(session, refs, before=period.start) if refs else []
    sums: dict[tuple[str, str, str, str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        if not row.is_cumulative:
            sums[_group_of(row)] += Decimal(row.amount)
    for row in _last_of_series(cumulative):
        sums[_group_of(row)] += Decimal(row.amount)
    in_force = {(row.series_ref, row.started_at) for row in cumulative}
    for row in before:
        if (row.series_ref, row.started_at) in in_force:
            sums[_group_of(row)] -= Decimal(row.amount)
    return sums


def _last_of_series(rows: Iterable[MetricTotalRow]) -> list[MetricTotalRow]:
    """Give the last total of each run of a series; a restart begins another run."""
    return list({(row.series_ref, row.started_at): row for row in rows}.values())


def _group_of(row: MetricTotalRow) -> tuple[str, str, str, str, str]:
    return row.source, row.metric, row.provider, row.model, row.kind


def _counted(database: Database, period: Period) -> dict[tuple[str, str], dict[str, int]]:
    """Give what the ledger counted by source and model, from rollups."""
    query = CostQuery(
        period=period, group_by=(SERVICE_TAG, "model"), metrics=COUNTED_KINDS, limit=None
    )
    counted: dict[tuple[str, str], dict[str, int]] = {}
    for row in query_costs(database, query).rows:
        service, model = row.group
        source = NAMELESS_SOURCE if service is None else SOURCE_PREFIX + service
        counted[source, model or ""] = {kind: getattr(row, kind) for kind in COUNTED_KINDS}
    return counted

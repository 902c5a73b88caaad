"""Usage rows as records: with the names, dimensions, prices and charges behind their ids.

It owns which rows are put together; it refuses to choose usages. A charge is read under the price
list and the price row it was made with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.event_queries import (
    ChargeRecord,
    EventRecord,
    PriceRef,
    standing_charge,
)
from tokenbudget.domain.usage import COMMON_UNITS, Basis, Witness
from tokenbudget.store.event_queries import (
    find_list_versions,
    find_price_refs,
    find_resolved_sets,
    find_source_names,
    list_charges_of,
)
from tokenbudget.store.tables import ChargeRow, UsageRow

SHARED_NAMES: Final = (
    "attempt",
    "operation_ref",
    "trace_ref",
    "span_ref",
    "response_ref",
    "request_model",
    "latency_ms",
    "time_to_first_token_ms",
    "hold_id",
    "reported_nanos",
)


class EventReader:
    """Reads records within one snapshot and remembers the names it has met."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._sources: dict[int, str] = {}
        self._sets: dict[int, DimensionSet] = {}
        self._prices: dict[int, PriceRef] = {}
        self._versions: dict[int, str] = {}

    def read(self, usages: Sequence[UsageRow]) -> list[EventRecord]:
        """Give each usage with the charge that stands for it, in the order given."""
        self.source_names({row.source_id for row in usages})
        self._learn_sets({row.dimension_set_id for row in usages})
        by_usage: dict[int, list[ChargeRecord]] = {}
        for charge in self.charges([row.id or 0 for row in usages]):
            for usage_id in {charge.usage_id, charge.reverses_usage_id} - {None}:
                by_usage.setdefault(usage_id or 0, []).append(charge)
        return [self._record(row, by_usage.get(row.id or 0, [])) for row in usages]

    def charges(self, usage_ids: Collection[int]) -> list[ChargeRecord]:
        """Give the charges of these usages and those that take them back, in order."""
        rows = list_charges_of(self.session, usage_ids)
        self._learn_sets({row.dimension_set_id for row in rows if row.dimension_set_id})
        self._learn_prices(rows)
        return [self._charge(row) for row in rows]

    def source_names(self, ids: Collection[int]) -> dict[int, str]:
        """Give the names of these sources, and of others met before."""
        missing = set(ids) - self._sources.keys()
        self._sources.update(find_source_names(self.session, missing))
        return self._sources

    def _learn_sets(self, ids: Collection[int]) -> None:
        missing = set(ids) - self._sets.keys()
        self._sets.update(find_resolved_sets(self.session, missing))

    def _learn_prices(self, rows: Sequence[ChargeRow]) -> None:
        row_ids = {row.price_row_id for row in rows if row.price_row_id} - self._prices.keys()
        list_ids = {row.price_list_id for row in rows if row.price_list_id}
        self._prices.update(find_price_refs(self.session, row_ids))
        missing = list_ids - self._versions.keys()
        self._versions.update(find_list_versions(self.session, missing))

    def _charge(self, row: ChargeRow) -> ChargeRecord:
        return ChargeRecord(
            usage_id=row.usage_id,
            sequence=row.sequence,
            basis=Basis(row.basis),
            list_nanos=row.list_nanos,
            contracted_nanos=row.contracted_nanos,
            effective_nanos=row.effective_nanos,
            accounting_period=row.accounting_period,
            reverses_usage_id=row.reverses_usage_id,
            rerate_id=row.rerate_id,
            reattribution_id=row.reattribution_id,
            flags=_words(row.flags),
            price=self._prices.get(row.price_row_id or 0),
            list_version=self._versions.get(row.price_list_id or 0),
            dimension_set_id=row.dimension_set_id,
            dimensions=self._sets.get(row.dimension_set_id or 0),
        )

    def _record(self, row: UsageRow, charges: Sequence[ChargeRecord]) -> EventRecord:
        usage_id = row.id or 0
        charge = standing_charge(usage_id, charges)
        moved_to = None if charge is None else charge.dimension_set_id
        set_id = moved_to or row.dimension_set_id
        return EventRecord(
            usage_id=usage_id,
            source=self._sources[row.source_id],
            event_ref=row.event_ref,
            revision=row.revision,
            occurred_at=row.occurred_at,
            recorded_at=row.recorded_at,
            dimension_set_id=set_id,
            dimensions=self._sets[set_id],
            quantities=_quantities(row),
            witness=Witness(row.witness),
            call_id=row.call_id or usage_id,
            **{name: getattr(row, name) for name in SHARED_NAMES},
            is_cache_hit=bool(row.cache_hit),
            unrolled_tags=row.extra_tags or {},
            flags=_words(row.flags),
            charge=charge,
        )


def _quantities(row: UsageRow) -> dict[str, int] | None:
    """Give the quantities by unit; None when the witness knew none."""
    common: dict[str, Any] = {unit: getattr(row, unit) for unit in COMMON_UNITS}
    quantities = {unit: count for unit, count in common.items() if count is not None}
    quantities.update(row.other_units or {})
    return quantities or None


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()

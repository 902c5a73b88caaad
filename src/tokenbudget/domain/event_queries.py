"""Questions about single usages and their answers. It owns which charge stands and what differs.

It refuses to find usage. Amounts are nanos of the ledger currency; None is unpriced or never
charged, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED, DimensionSet
from tokenbudget.domain.costs import LATEST_END, OWNER_DIMENSIONS, CostFilter
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import EPOCH, Period
from tokenbudget.domain.usage import Basis, Witness

MAX_PAGE_EVENTS: Final = 1_000
USUAL_PAGE_EVENTS: Final = 100
STATUS_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which usages to list; InvalidInput, naming the field, when that cannot be answered.

    All conditions must hold. ``period`` may only be None when an operation, a response, a hold or
    an event is named. ``is_counting`` leaves out what does not count: earlier revisions, voids and
    further witnesses. ``cursor`` is the ``next_cursor`` of the page before.
    """

    period: Period | None = None
    filters: tuple[CostFilter, ...] = ()
    operation_ref: str | None = None
    response_ref: str | None = None
    hold_id: str | None = None
    source: str | None = None
    event_ref: str | None = None
    trace_ref: str | None = None
    basis: Basis | None = None
    flag: str | None = None
    is_counting: bool = True
    limit: int = USUAL_PAGE_EVENTS
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would need a scan of everything, and dimensions that are no event's own."""
        if self.period is None and not self.is_named:
            raise InvalidInput(
                "start and end are needed, unless operation_id, response_id, hold_id or event_id "
                "is given",
                field="start",
            )
        if self.period is not None:
            for name, instant in (("start", self.period.start), ("end", self.period.end)):
                if not EPOCH <= instant <= LATEST_END:
                    raise InvalidInput(f"{name} must lie between 1970 and 2200", field=name)
        for condition in self.filters:
            if condition.dimension in OWNER_DIMENSIONS:
                raise InvalidInput(
                    f"filter {condition.dimension} belongs to /v1/costs: an event has no "
                    f"{condition.dimension} of its own",
                    field="filter",
                )
        if not 1 <= self.limit <= MAX_PAGE_EVENTS:
            raise InvalidInput(
                f"limit {self.limit} must be between 1 and {MAX_PAGE_EVENTS}", field="limit"
            )

    @property
    def is_named(self) -> bool:
        """Tell whether the usages are found by a name, whenever they occurred."""
        names = (self.operation_ref, self.response_ref, self.hold_id, self.event_ref)
        return any(name is not None for name in names)

    def admits(self, record: EventRecord) -> bool:
        """Tell whether a usage meets every condition but the one on its operation and call."""
        return (
            (self.period is None or self.period.start <= record.occurred_at < self.period.end)
            and (record.is_counting or not self.is_counting)
            and self.source in (None, record.source)
            and self.trace_ref in (None, record.trace_ref)
            and (self.basis is None or _basis_of(record) is self.basis)
            and (self.flag is None or self.flag in record.all_flags)
            and all(each.admits(_value_of(record, each.dimension)) for each in self.filters)
        )


@dataclass(frozen=True, slots=True)
class PriceRef:
    """The price row a charge was made with, and where it came from."""

    row_id: int
    provider: str
    model: str
    origin: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChargeRecord:
    """One movement of money; a taking back has negative amounts and names what it takes back.

    ``accounting_period`` is year * 100 + month. ``dimensions`` is where it counts, None where its
    usage was placed first.
    """

    usage_id: int
    sequence: int
    basis: Basis
    list_nanos: int | None
    contracted_nanos: int | None
    effective_nanos: int | None
    accounting_period: int
    reverses_usage_id: int | None = None
    rerate_id: int | None = None
    reattribution_id: int | None = None
    flags: tuple[str, ...] = ()
    price: PriceRef | None = None
    list_version: str | None = None
    dimension_set_id: int | None = None
    dimensions: DimensionSet | None = None

    @property
    def is_reversal(self) -> bool:
        """Tell whether it takes back."""
        return self.reverses_usage_id is not None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One usage as a witness told it, with the charge that stands for it, if one does.

    ``quantities`` is None when the witness did not know them. ``dimensions`` is where it counts
    now; ``call_id`` is the usage that first told of the same call.
    """

    usage_id: int
    source: str
    event_ref: str
    revision: int
    occurred_at: datetime
    recorded_at: datetime
    dimension_set_id: int
    dimensions: DimensionSet
    quantities: Mapping[str, int] | None
    witness: Witness
    call_id: int
    attempt: int = 1
    operation_ref: str | None = None
    trace_ref: str | None = None
    span_ref: str | None = None
    response_ref: str | None = None
    request_model: str | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    is_cache_hit: bool = False
    hold_id: str | None = None
    reported_nanos: int | None = None
    unrolled_tags: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    charge: ChargeRecord | None = None

    @property
    def is_counting(self) -> bool:
        """Tell whether a charge stands for it."""
        return self.charge is not None

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Give what is odd about the usage and about its charge."""
        charged = () if self.charge is None else self.charge.flags
        return tuple(dict.fromkeys((*self.flags, *charged)))

    @property
    def reported_difference(self) -> int | None:
        """Give the witness's own figure less ours in nanos; None when either is unknown."""
        if self.reported_nanos is None or self.charge is None:
            return None
        if self.charge.effective_nanos is None:
            return None
        return self.reported_nanos - self.charge.effective_nanos


@dataclass(frozen=True, slots=True)
class EventPage:
    """Usages, newest first; ``next_cursor`` is None on the last page.

    A page may hold fewer than asked for, even none, and still have a next one: so much is looked at
    for one answer, and no more.
    """

    records: list[EventRecord]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class EventHistory:
    """One event and all there is about its call.

    ``revisions`` are the event's own, in order. ``witnesses`` are the latest of every event that
    told of the call, the one that counts first. ``charges`` are all movements of the call's money,
    in order; they add up to what the call costs.
    """

    record: EventRecord
    revisions: list[EventRecord]
    witnesses: list[EventRecord]
    charges: list[ChargeRecord]

    @property
    def counting(self) -> EventRecord | None:
        """Give the witness that counts."""
        return next((each for each in self.witnesses if each.is_counting), None)


@dataclass(frozen=True, slots=True)
class OperationTotals:
    """What one user operation took: attempts that count, and their effective cost in nanos.

    ``waste_nanos`` is the cost of attempts that failed. Unpriced attempts are in no amount.
    """

    operation_ref: str
    attempts: int
    retries: int
    failed: int
    unpriced: int
    list_nanos: int
    contracted_nanos: int
    effective_nanos: int
    waste_nanos: int
    started_at: datetime
    ended_at: datetime
    records: tuple[EventRecord, ...]


def standing_charge(usage_id: int, charges: Sequence[ChargeRecord]) -> ChargeRecord | None:
    """Give the charge that stands for a usage; None when none does.

    ``charges`` are its own and those that take it back. Each of its own that takes nothing back
    adds one, each taking back removes one: the last one stands while any is left.
    """
    own = [each for each in charges if each.usage_id == usage_id and not each.is_reversal]
    taken_back = sum(each.reverses_usage_id == usage_id for each in charges)
    if len(own) <= taken_back:
        return None
    return max(own, key=lambda each: each.sequence)


def operation_totals(operation_ref: str, records: Sequence[EventRecord]) -> OperationTotals:
    """Give what an operation took, from its usages that count, at least one."""
    ordered = sorted(records, key=lambda each: (each.occurred_at, each.usage_id))
    failed = [each for each in ordered if each.dimensions.status != STATUS_OK]
    return OperationTotals(
        operation_ref=operation_ref,
        attempts=len(ordered),
        retries=sum(each.attempt > 1 for each in ordered),
        failed=len(failed),
        unpriced=sum(_amount(each, "effective_nanos") is None for each in ordered),
        list_nanos=_sum(ordered, "list_nanos"),
        contracted_nanos=_sum(ordered, "contracted_nanos"),
        effective_nanos=_sum(ordered, "effective_nanos"),
        waste_nanos=_sum(failed, "effective_nanos"),
        started_at=ordered[0].occurred_at,
        ended_at=ordered[-1].occurred_at,
        records=tuple(ordered),
    )


def dimensions_told(records: Sequence[EventRecord]) -> EventRecord | None:
    """Give the usage of an operation whose dimensions its outcomes share.

    That is the last attempt that counts and knows its team, else the last that counts; None while
    none does.
    """
    counting = [each for each in records if each.is_counting]
    return max(counting, key=_weight, default=None)


def knows_team(record: EventRecord) -> bool:
    """Tell whether a team is known to bear a usage."""
    return record.dimensions.team != UNALLOCATED


def quantity_differences(record: EventRecord, counting: EventRecord) -> dict[str, int]:
    """Give by how much a witness's quantities differ from the counting one's.

    Only units that both told and that differ.
    """
    told, counted = record.quantities or {}, counting.quantities or {}
    return {
        unit: told[unit] - counted[unit]
        for unit in told
        if unit in counted and told[unit] != counted[unit]
    }


def _sum(records: Iterable[EventRecord], name: str) -> int:
    return sum(_amount(each, name) or 0 for each in records)


def _amount(record: EventRecord, name: str) -> int | None:
    nanos: int | None = None if record.charge is None else getattr(record.charge, name)
    return nanos


def _basis_of(record: EventRecord) -> Basis | None:
    return None if record.charge is None else record.charge.basis


def _value_of(record: EventRecord, dimension: str) -> str | None:
    if dimension == "is_retry":
        return str(record.dimensions.is_retry).lower()
    value = record.dimensions.value(dimension)
    if value is None and dimension.startswith("tag:"):
        return record.unrolled_tags.get(dimension.removeprefix("tag:"))
    return value


def _weight(record: EventRecord) -> tuple[bool, int, datetime, int]:
    return knows_team(record), record.attempt, record.occurred_at, record.usage_id

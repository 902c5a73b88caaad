"""What the ledger is moved by: a candidate is charged, a posting moves rollups and counters.

It owns the rows of usage and charges and what is added to rollups. It refuses to decide what is
posted (``usage.py``, ``witnesses.py``) and to move counters (``holds.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final

from tokenbudget.domain.budgets import BudgetMatch, Unit
from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.rating import USAGE_UNKNOWN, Charge
from tokenbudget.domain.rerating import posting_period
from tokenbudget.domain.rollups import DAY_SECONDS, QUARTER_HOUR_SECONDS
from tokenbudget.domain.usage import (
    CLOCK_AHEAD,
    COMMON_UNITS,
    ESTIMATED_PREFIX,
    VOID,
    Basis,
    UsageEvent,
)
from tokenbudget.services.placement import Memory, Placement
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.columns import Columns

MICROS_PER_SECOND: Final = 1_000_000
QUARTER_HOUR_MICROS: Final = QUARTER_HOUR_SECONDS * MICROS_PER_SECOND
DAY_MICROS: Final = DAY_SECONDS * MICROS_PER_SECOND
NOBODYS_WORK: Final = -1
COMMON_UNIT_SET: Final = frozenset(COMMON_UNITS)
COPIED_FIELDS: Final = (
    "event_ref",
    "revision",
    "content_hash",
    "occurred_at",
    "attempt",
    "operation_ref",
    "trace_ref",
    "span_ref",
    "response_ref",
    "witness",
    "request_model",
    "latency_ms",
    "time_to_first_token_ms",
    "hold_id",
    "reported_nanos",
)
"""Columns of usage that hold what the event's field of the same name holds."""

POSTED_FIELDS: Final = (
    "usage_id",
    "sequence",
    "price_list_id",
    "accounting_period",
    "reverses_usage_id",
)
COSTS: Final = ("list_nanos", "contracted_nanos", "effective_nanos")
ESTIMATED_BY_EMITTER: Final = f"{ESTIMATED_PREFIX}by_emitter"
LATE: Final = "late"
"""The flag of a charge that is on the books of a later period than its usage occurred in."""


@dataclass(slots=True)
class Candidate:
    """One event on its way into the ledger.

    Its ``usage_id`` is kept only when identity admits it. ``call_id`` is the usage that told of the
    same call first, ``counted_at`` where it counts when that is not its own placement, ``hold_id``
    the hold of its call. What is charged again has no ``work`` of its own and a later ``sequence``.
    """

    work: int
    index: int
    event: UsageEvent
    placement: Placement
    kept_tags: Mapping[str, str]
    keys: tuple[bytes, bytes | None, bytes | None]
    usage_id: int = 0
    call_id: int | None = None
    counted_at: Placement | None = None
    hold_id: str | None = None
    sequence: int = 0


@dataclass(slots=True)
class Posting:
    """One signed movement of the ledger: a charge, or the taking back of one.

    ``charge_set_id`` is the dimension set the charge names, None where its usage was placed first.
    ``is_written`` is false for what moves counters and is no charge of its own. ``call_id`` is the
    usage that first told of the call, and ``operation_ref`` the operation that its usage names.
    """

    usage_id: int
    sequence: int
    sign: int
    placement: Placement
    occurred_at: datetime
    quantities: Mapping[str, int]
    charge: Charge
    price_row_id: int
    hold_id: str | None
    accounting_period: int
    reverses_usage_id: int | None = None
    charge_set_id: int | None = None
    price_list_id: int | None = None
    is_written: bool = True
    call_id: int = 0
    operation_ref: str | None = None
    keys: tuple[tuple[BudgetMatch, CounterKey | None], ...] = ()

    @property
    def is_first(self) -> bool:
        """Tell whether nothing of its call was charged before."""
        return self.call_id == self.usage_id and self.sequence == 0

    def quantity(self, unit: Unit) -> int:
        """Give the signed movement in a budget's unit; unpriced usage moves no money."""
        if unit is Unit.MONEY:
            return self.sign * (self.charge.effective_nanos or 0)
        if unit is Unit.TOKENS:
            tokens = self.quantities.get("input_tokens", 0) + self.quantities.get(
                "output_tokens", 0
            )
            return self.sign * tokens
        return self.sign * self.quantities.get("requests", 1)


def period_of(occurred_at: datetime, closed_before: int | None) -> tuple[int, bool]:
    """Give the accounting period a new charge posts to, and whether that is a later one."""
    own = occurred_at.year * 100 + occurred_at.month
    period = posting_period(own, closed_before)
    return period, period != own


def usage_columns(items: Sequence[Candidate], memory: Memory, now: datetime) -> Columns:
    """Give the ledger's rows of usage, by the column, in the order of the candidates."""
    events = [item.event for item in items]
    quantities = [event.quantities or {} for event in events]
    return {
        "id": [item.usage_id for item in items],
        "source_id": [memory.source_ids[event.source] for event in events],
        "dimension_set_id": [item.placement.dimension_set_id for item in items],
        "recorded_at": [now] * len(items),
        "call_id": [item.call_id for item in items],
        "cache_hit": [event.cache_hit or None for event in events],
        "extra_tags": [item.kept_tags or None for item in items],
        "flags": [_flags_text(event, now) for event in events],
        "other_units": list(map(_other_units, quantities)),
        **{unit: [each.get(unit) for each in quantities] for unit in COMMON_UNITS},
        **{name: list(map(attrgetter(name), events)) for name in COPIED_FIELDS},
    }


def _other_units(quantities: Mapping[str, int]) -> dict[str, int] | None:
    if quantities.keys() <= COMMON_UNIT_SET:
        return None
    return {unit: count for unit, count in quantities.items() if unit not in COMMON_UNIT_SET}


def _flags_text(event: UsageEvent, now: datetime) -> str | None:
    """Give what is odd about the event, seen from here too."""
    flags = event.flags
    if event.is_void:
        return ",".join((*flags, VOID))
    if not event.quantities and not event.cache_hit:
        flags = (*flags, USAGE_UNKNOWN)
    if event.occurred_at > now:
        flags = (*flags, CLOCK_AHEAD)
    if event.basis is Basis.ESTIMATED and not any(
        flag.startswith(ESTIMATED_PREFIX) for flag in flags
    ):
        flags = (*flags, ESTIMATED_BY_EMITTER)
    return ",".join(flags) or None


def charge_columns(postings: Sequence[Posting]) -> Columns:
    """Give the ledger's rows of charges for postings that are charges, by the column."""
    charges = [posting.charge for posting in postings]
    return {
        "basis": [charge.basis.value for charge in charges],
        "price_row_id": [posting.price_row_id or None for posting in postings],
        "dimension_set_id": [posting.charge_set_id for posting in postings],
        "flags": [",".join(charge.flags) or None for charge in charges],
        **{name: list(map(attrgetter(name), postings)) for name in POSTED_FIELDS},
        **{
            name: [
                _signed(posting.sign, amount)
                for posting, amount in zip(postings, map(attrgetter(name), charges), strict=True)
            ]
            for name in COSTS
        },
    }


def rollup_sums(postings: Iterable[Posting]) -> list[tuple[int, ...]]:
    """Give what the postings add to their quarter-hours and UTC days, as rollups store it.

    Each row holds grain, start in microseconds, dimension set, price row and MEASURES.
    """
    quarters: dict[tuple[int, int, int], list[int]] = {}
    for posting in postings:
        micros = to_micros(posting.occurred_at)
        key = (
            micros - micros % QUARTER_HOUR_MICROS,
            posting.placement.dimension_set_id,
            0 if posting.charge.effective_nanos is None else posting.price_row_id,
        )
        amounts = _rollup_amounts(posting)
        present = quarters.get(key)
        quarters[key] = amounts if present is None else _add(present, amounts)
    days: dict[tuple[int, int, int], list[int]] = {}
    for (micros, dimension_set_id, price_row_id), amounts in quarters.items():
        key = (micros - micros % DAY_MICROS, dimension_set_id, price_row_id)
        present = days.get(key)
        days[key] = amounts if present is None else _add(present, amounts)
    return [
        (grain, *key, *amounts)
        for grain, sums in ((QUARTER_HOUR_SECONDS, quarters), (DAY_SECONDS, days))
        for key, amounts in sums.items()
    ]


def _signed(sign: int, nanos: int | None) -> int | None:
    return None if nanos is None else sign * nanos


def _rollup_amounts(posting: Posting) -> list[int]:
    """Give the posting's amounts in the order of ``MEASURES``."""
    get = posting.quantities.get
    charge = posting.charge
    requests = get("requests", 1)
    amounts = [
        charge.list_nanos or 0,
        charge.contracted_nanos or 0,
        charge.effective_nanos or 0,
        requests,
        requests if charge.effective_nanos is None else 0,
        get("input_tokens", 0),
        get("cached_input_tokens", 0),
        get("cache_write_tokens", 0)
        + get("cache_write_5m_tokens", 0)
        + get("cache_write_1h_tokens", 0),
        get("output_tokens", 0),
        get("reasoning_tokens", 0),
    ]
    return amounts if posting.sign > 0 else [-amount for amount in amounts]


def _add(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(left, right, strict=True)]

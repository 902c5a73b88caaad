"""Telemetry as neutral values: what a span, a log record and a data point say, in no encoding.

It owns the shapes that both decoders give. It refuses to know what any attribute means.

Ids are lower-case hex, or empty when the sender left them out. Times are aware UTC, cut to
microseconds, or None when they were not sent. Numbers with a fraction are exact decimals. Text
stays as it came, also what no database can store: whoever keeps a text cleans it (``values.py``).

What a request holds by the hundred is a struct of msgspec: making a dataclass costs five times as
much. None of these can lie in itself, so the garbage collector need not look at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from tokenbudget.domain.periods import EPOCH

NANOS_PER_MICRO: Final = 1_000
MICROS_PER_SECOND: Final = 1_000_000
MAX_MICROS: Final = 2**63 // NANOS_PER_MICRO
"""The last instant that fits into nanoseconds of 64 signed bits: the year 2262."""

MAX_DEPTH: Final = 16
"""How deep values may lie in each other; what lies deeper is left out."""

AttributeValue: TypeAlias = (
    "str | bool | int | Decimal | bytes | Sequence[AttributeValue] |"
    " Mapping[str, AttributeValue] | None"
)
Attributes: TypeAlias = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where telemetry comes from: the resource's attributes and the scope that emitted it."""

    resource: Attributes
    scope: str = ""
    scope_version: str = ""
    scope_attributes: Attributes = field(default_factory=dict)


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened during a span."""

    name: str
    attributes: Attributes


class Span(msgspec.Struct, frozen=True, gc=False):
    """One finished span; ``parent_ref`` is None for a root."""

    origin: Origin
    trace_ref: str
    span_ref: str
    parent_ref: str | None
    name: str
    started_at: datetime | None
    ended_at: datetime | None
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    is_error: bool = False
    status_message: str = ""


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """One log record or event; ``name`` is the event's, empty for a plain log line."""

    origin: Origin
    name: str
    occurred_at: datetime | None
    body: AttributeValue
    attributes: Attributes
    trace_ref: str = ""
    span_ref: str = ""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One point of a metric that adds up: a sum's value, or the sum over a histogram.

    ``count`` is how many measurements a histogram holds, None for a sum. A cumulative amount runs
    from ``started_at`` and contains every earlier point of its series.
    """

    origin: Origin
    metric: str
    unit: str
    started_at: datetime | None
    ended_at: datetime | None
    amount: Decimal
    count: int | None
    is_cumulative: bool
    attributes: Attributes


def instant_of(nanos: int) -> datetime | None:
    """Give nanoseconds since 1970 as an instant, None for zero and for what lies out of range."""
    micros = nanos // NANOS_PER_MICRO
    if micros <= 0 or micros > MAX_MICROS:
        return None
    return EPOCH + timedelta(0, *divmod(micros, MICROS_PER_SECOND))

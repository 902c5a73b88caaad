"""What was consumed. It owns the units, how they nest and what makes counts impossible.

It refuses to price or store anything. Quantities are integers by unit. A unit that is absent was
not reported; a unit that is zero was reported as none: the two are never mixed. Totals include
their parts: ``input_tokens`` holds cache reads, cache writes and every input modality,
``output_tokens`` holds reasoning and every output modality.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final

MAX_QUANTITY: Final = 10**8
MAX_REMEMBERED: Final = 4_096
ESTIMATED_PREFIX: Final = "estimated_"
"""How the flag begins that says by what method quantities were estimated."""

INPUT_ONLY: Final = f"{ESTIMATED_PREFIX}input_only"
"""The flag of a call that was sent and never told its end: the input of its hold is charged."""

OK_STATUS: Final = "ok"
"""The status of a call that did not fail."""

VOID: Final = "void"
"""The flag of usage that only takes back what its event was charged before."""

CLOCK_AHEAD: Final = "clock_ahead"
"""The flag of usage that occurred after it was recorded: the emitter's clock is ahead of ours."""

INPUT_PARTS: Final = (
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)
INPUT_MODALITIES: Final = ("input_audio_tokens", "input_image_tokens", "input_video_tokens")
CACHED_MODALITIES: Final = {
    "cached_audio_tokens": "input_audio_tokens",
    "cached_image_tokens": "input_image_tokens",
}
OUTPUT_MODALITIES: Final = ("output_audio_tokens", "output_image_tokens", "output_video_tokens")
TOKEN_UNITS: Final = (
    "input_tokens",
    *INPUT_PARTS,
    *INPUT_MODALITIES,
    *CACHED_MODALITIES,
    "output_tokens",
    "reasoning_tokens",
    *OUTPUT_MODALITIES,
)
COUNT_UNITS: Final = (
    "requests",
    "images",
    "web_searches",
    "file_searches",
    "code_executions",
    "reranks",
    "pages",
    "input_characters",
    "audio_seconds",
    "gpu_seconds",
)
COMMON_UNITS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""Units so usual that the ledger keeps each in a column of its own."""
UNITS: Final = (*TOKEN_UNITS, *COUNT_UNITS)
UNIT_SET: Final = frozenset(UNITS)
CONTAINMENTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("input_tokens", INPUT_PARTS),
    ("input_tokens", INPUT_MODALITIES),
    *((modality, (cached_unit,)) for cached_unit, modality in CACHED_MODALITIES.items()),
    ("cached_input_tokens", tuple(CACHED_MODALITIES)),
    ("output_tokens", ("reasoning_tokens",)),
    ("output_tokens", OUTPUT_MODALITIES),
)
"""Totals and the parts that cannot exceed them together, in the order they are looked at."""


class Basis(StrEnum):
    """Where a figure comes from, best first."""

    INVOICED = "invoiced"
    REPORTED = "reported"
    RATED = "rated"
    ESTIMATED = "estimated"
    UNPRICED = "unpriced"


class Witness(IntEnum):
    """Who tells of a call: of several witnesses the highest counts, the others are evidence."""

    OTLP = 1
    SDK = 2
    GATEWAY = 3
    PROVIDER = 4


@dataclass(frozen=True, slots=True)
class UsageFault:
    """Why counts are impossible; ``code`` is stable, ``detail`` names the field and the rule."""

    code: str
    detail: str


@dataclass(slots=True)
class UsageEvent:
    """One usage in its envelope, as normalised at the door and not yet rated.

    ``quantities`` maps unit to count, or is None when the emitter never knew it (unknown, not
    zero). ``tags`` are the caller's, unresolved. ``content_hash`` is equal for equal content.
    ``reported_nanos`` is the emitter's own figure in the ledger currency; it informs and never
    rates. ``flags`` collects what was odd about the event. With ``is_void`` a revision takes back
    what its event was charged before and charges nothing.

    Nothing changes an event once it is made; to freeze it would take longer than to rate it.
    """

    source: str
    event_ref: str
    content_hash: int
    occurred_at: datetime
    provider: str
    model: str
    quantities: Mapping[str, int] | None
    operation: str | None = None
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    status: str = "ok"
    attempt: int = 1
    operation_ref: str | None = None
    trace_ref: str | None = None
    span_ref: str | None = None
    response_ref: str | None = None
    request_model: str | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    cache_hit: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    hold_id: str | None = None
    revision: int = 0
    reported_nanos: int | None = None
    basis: Basis = Basis.RATED
    flags: tuple[str, ...] = ()
    witness: Witness = Witness.SDK
    is_void: bool = False


def find_fault(quantities: Mapping[str, int]) -> UsageFault | None:
    """Give the first reason why these counts cannot be true, or None when they can."""
    if not quantities:
        return None
    known = _held_parts(tuple(quantities))
    counts = quantities.values()
    if known is None or min(counts) < 0 or max(counts) > MAX_QUANTITY:
        return next(filter(None, itertools.starmap(_count_fault, quantities.items())))
    for total, parts in known:
        part_sum = sum([quantities[part] for part in parts])
        if part_sum > quantities.get(total, 0):
            return _containment_fault(quantities, parts, total)
    return None


@lru_cache(maxsize=MAX_REMEMBERED)
def _held_parts(units: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Give the totals of which there are parts among the units; None when some unit is unknown."""
    if not UNIT_SET.issuperset(units):
        return None
    held = (
        (total, tuple(part for part in parts if part in units)) for total, parts in CONTAINMENTS
    )
    return tuple((total, parts) for total, parts in held if parts)


def _count_fault(unit: str, quantity: int) -> UsageFault | None:
    if unit not in UNIT_SET:
        return UsageFault("unknown_field", f"usage.{unit} is not a known unit")
    if quantity < 0:
        return UsageFault("usage_negative", f"{unit} {quantity} is negative")
    if quantity > MAX_QUANTITY:
        return UsageFault("usage_out_of_range", f"{unit} {quantity} exceeds {MAX_QUANTITY}")
    return None


def _containment_fault(
    quantities: Mapping[str, int], parts: Iterable[str], total_unit: str
) -> UsageFault:
    present = [part for part in parts if quantities[part]]
    total = quantities.get(total_unit)
    if total is None:
        detail = f"{present[0]} is part of {total_unit}, which is absent"
    else:
        part_sum = sum(quantities[part] for part in present)
        detail = f"{' + '.join(present)} {part_sum} exceeds {total_unit} {total}"
    return UsageFault("usage_inconsistent", detail)

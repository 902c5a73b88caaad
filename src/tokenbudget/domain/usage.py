"""What was consumed. It owns the units, how they nest and what makes counts impossible.

It refuses to price or store anything. Quantities are integers by unit. A unit that is absent was
not reported; a unit that is zero was reported as none: the two are never mixed. Totals include
their parts: ``input_tokens`` holds cache reads, cache writes and every input modality,
``output_tokens`` holds reasoning and every output modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

MAX_QUANTITY: Final = 10**8
ESTIMATED_PREFIX: Final = "estimated_"
"""How the flag begins that says by what method quantities were estimated."""

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


class Basis(StrEnum):
    """Where a figure comes from, best first."""

    INVOICED = "invoiced"
    REPORTED = "reported"
    RATED = "rated"
    ESTIMATED = "estimated"
    UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True)
class UsageFault:
    """Why counts are impossible; ``code`` is stable, ``detail`` names the field and the rule."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One usage in its envelope, as normalised at the door and not yet rated.

    ``quantities`` maps unit to count, or is None when the emitter never knew it (unknown, not
    zero). ``tags`` are the caller's, unresolved. ``content_hash`` is equal for equal content.
    ``reported_nanos`` is the emitter's own figure in the ledger currency; it informs and never
    rates. ``flags`` collects what was odd about the event.
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


def find_fault(quantities: Mapping[str, int]) -> UsageFault | None:
    """Give the first reason why these counts cannot be true, or None when they can."""
    for unit, quantity in quantities.items():
        if unit not in UNIT_SET:
            return UsageFault("unknown_field", f"usage.{unit} is not a known unit")
        if quantity < 0:
            return UsageFault("usage_negative", f"{unit} {quantity} is negative")
        if quantity > MAX_QUANTITY:
            return UsageFault("usage_out_of_range", f"{unit} {quantity} exceeds {MAX_QUANTITY}")
    return (
        _containment_fault(quantities, INPUT_PARTS, "input_tokens")
        or _containment_fault(quantities, INPUT_MODALITIES, "input_tokens")
        or _cached_modality_fault(quantities)
        or _containment_fault(quantities, ("reasoning_tokens",), "output_tokens")
        or _containment_fault(quantities, OUTPUT_MODALITIES, "output_tokens")
    )


def _containment_fault(
    quantities: Mapping[str, int], parts: tuple[str, ...], total_unit: str
) -> UsageFault | None:
    present = [part for part in parts if quantities.get(part)]
    if not present:
        return None
    part_sum = sum(quantities[part] for part in present)
    total = quantities.get(total_unit)
    if total is None:
        return UsageFault(
            "usage_inconsistent", f"{present[0]} is part of {total_unit}, which is absent"
        )
    if part_sum > total:
        named = " + ".join(present)
        return UsageFault("usage_inconsistent", f"{named} {part_sum} exceeds {total_unit} {total}")
    return None


def _cached_modality_fault(quantities: Mapping[str, int]) -> UsageFault | None:
    for cached_unit, modality in CACHED_MODALITIES.items():
        fault = _containment_fault(quantities, (cached_unit,), modality)
        if fault:
            return fault
    return _containment_fault(quantities, tuple(CACHED_MODALITIES), "cached_input_tokens")

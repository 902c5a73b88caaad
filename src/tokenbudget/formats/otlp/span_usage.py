"""What one call's span says it used, in our units, with a flag for everything that is not sure.

It owns the rules for counts: the provider's own usage beats attributes, emitters that are known to
leave something out are put right, and what cannot be put right is flagged and left alone. It
refuses to decide which spans count.

    usage_estimated_by_emitter  the counts are the emitter's guess: unknown, unless guesses are
                                accepted, then estimated
    emitter_output_inexact      the emitter counts streamed output too high, by how much it hides
    input_exclusive             input left the cache out although its emitter is not known to
    reasoning_from_total        the total gave away what the output left out
    usage_total_mismatch        the total is not input plus output
    cache_unknown               the emitter never tells of cached input: the cost is an upper bound
    usage_inconsistent, usage_out_of_range
                                the counts cannot be true
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec
from msgspec.structs import replace

from tokenbudget.domain.money import MAX_NANOS, NANO_DIGITS, decimal_to_nanos
from tokenbudget.domain.usage import ESTIMATED_PREFIX, Basis, find_fault
from tokenbudget.formats.otlp import names
from tokenbudget.formats.otlp.fields import Fields
from tokenbudget.formats.otlp.raw_usage import find_raw_usage
from tokenbudget.formats.otlp.shapes import Attributes
from tokenbudget.formats.otlp.values import (
    decimal_of,
    find_count,
    is_true,
    object_of,
    text_of,
)
from tokenbudget.formats.provider_usage import TIER_NAMES
from tokenbudget.formats.usage_counts import TOTAL_MISMATCH, split_cache_writes

GUESSED: Final = "usage_estimated_by_emitter"
OUTPUT_INEXACT: Final = "emitter_output_inexact"
INPUT_EXCLUSIVE: Final = "input_exclusive"
REASONING_FROM_TOTAL: Final = "reasoning_from_total"
CACHE_UNKNOWN: Final = "cache_unknown"
OUT_OF_RANGE: Final = "usage_out_of_range"
GUESS: Final = f"{ESTIMATED_PREFIX}by_emitter"

PLAIN_UNITS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
MODALITIES: Final = frozenset(names.MODALITIES)
CACHE_UNITS: Final = (
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)
LIFETIMES: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
LANGFUSE_COST: Final = "langfuse.observation.cost_details"
CLAUDE_CODE_FAST: Final = "fast"
SPEED: Final = "speed"


class Measured(msgspec.Struct, frozen=True, gc=False):
    """The usage of one call; ``quantities`` is None where it is unknown, which is not zero."""

    quantities: dict[str, int] | None = None
    basis: Basis = Basis.RATED
    flags: tuple[str, ...] = ()
    service_tier: str | None = None
    region: str | None = None
    reported_nanos: int | None = None
    response_ref: str | None = None


class Emission(msgspec.Struct, frozen=True, gc=False):
    """Who emitted a call's attributes and what is known of the call already."""

    scope: str
    provider: str
    operation: str
    accepts_guesses: bool = False


@dataclass(slots=True)
class _Counts:
    quantities: dict[str, int] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    def get(self, unit: str) -> int:
        return self.quantities.get(unit, 0)


def measure_span(fields: Fields, emission: Emission) -> Measured:
    """Give what the attributes of a call's span say it used."""
    reported_nanos = _reported_nanos(fields)
    tier = _folded_tier(fields.text(names.SERVICE_TIER))
    raw = find_raw_usage(emission.provider, fields.attributes)
    response_ref = raw.response_ref if raw else None
    if raw is not None and raw.usage is not None:
        usage = raw.usage
        return Measured(
            dict(usage.quantities),
            flags=usage.flags,
            service_tier=usage.service_tier or tier or _folded_tier(raw.service_tier),
            region=usage.region,
            reported_nanos=usage.reported_nanos or reported_nanos,
            response_ref=response_ref,
        )
    counts = _count(fields, emission)
    is_guess = bool(counts.quantities) and _is_guess(fields, emission)
    return checked(
        Measured(
            (counts.quantities or None) if emission.accepts_guesses or not is_guess else None,
            basis=Basis.ESTIMATED if is_guess and emission.accepts_guesses else Basis.RATED,
            flags=tuple(counts.flags) if not is_guess else _guess_flags(emission),
            service_tier=tier or _folded_tier(raw.service_tier if raw else None),
            reported_nanos=reported_nanos,
            response_ref=response_ref,
        )
    )


def measure_claude_code(attributes: Attributes) -> Measured:
    """Give what Claude Code says of a request; its input leaves the cache out."""
    counts = _Counts(
        {
            unit: count
            for unit, name in names.CLAUDE_CODE_UNITS.items()
            if (count := find_count(attributes, name)) is not None
        }
    )
    if not counts.quantities:
        return Measured()
    _include_cache(counts)
    tier = CLAUDE_CODE_FAST if attributes.get(SPEED) == CLAUDE_CODE_FAST else None
    return checked(Measured(counts.quantities, service_tier=tier))


def checked(measured: Measured) -> Measured:
    """Give the measure, flagged where its counts cannot be true and unknown where out of range."""
    fault = find_fault(measured.quantities or {})
    if fault is None:
        return measured
    flagged = replace(measured, flags=(*measured.flags, fault.code))
    return replace(flagged, quantities=None) if fault.code == OUT_OF_RANGE else flagged


def _count(fields: Fields, emission: Emission) -> _Counts:
    """Give what the token counts say once put right, nothing when there are none."""
    counts = _read_counts(fields)
    if counts.quantities:
        _correct(counts, emission, fields.count(names.TOTAL_TOKENS))
        _remark(counts, fields, emission)
    return counts


def _read_counts(fields: Fields) -> _Counts:
    counts = _Counts()
    if "input_tokens" not in fields and "output_tokens" not in fields:
        return counts
    for unit in PLAIN_UNITS:
        if unit in fields.found and (count := fields.count(unit)) is not None:
            counts.quantities[unit] = count
    if names.WRITTEN_TOKENS in fields:
        by_lifetime: dict[str, int] = {
            unit: counts.quantities.pop(unit) for unit in LIFETIMES if unit in counts.quantities
        }
        written, flags = split_cache_writes(fields.count(names.WRITTEN_TOKENS), by_lifetime)
        counts.quantities.update(written)
        counts.flags.extend(flags)
    if not MODALITIES.isdisjoint(fields.found):
        for unit in names.MODALITIES:
            if modality := fields.count(unit):
                counts.quantities[unit] = modality
    return counts


def _correct(counts: _Counts, emission: Emission, total: int | None) -> None:
    """Put right what the emitter is known to leave out of a total."""
    in_cache = _in_cache(counts)
    if emission.scope in names.EXCLUSIVE_INPUT_SCOPES:
        _include_cache(counts)
        total = None if total is None else total + in_cache
    elif in_cache > counts.get("input_tokens"):
        counts.flags.append(INPUT_EXCLUSIVE)
        _include_cache(counts)
        total = None
    _include_reasoning(counts, emission, total)


def _include_reasoning(counts: _Counts, emission: Emission, total: int | None) -> None:
    rest = 0 if total is None else total - counts.get("input_tokens") - counts.get("output_tokens")
    if rest == 0:
        return
    is_known_to_leave_out = emission.scope in names.WITHOUT_REASONING_SCOPES
    if rest > 0 and (is_known_to_leave_out or rest == counts.get("reasoning_tokens")):
        counts.quantities["output_tokens"] = counts.get("output_tokens") + rest
        counts.quantities["reasoning_tokens"] = rest
        counts.flags.append(REASONING_FROM_TOTAL)
    else:
        counts.flags.append(TOTAL_MISMATCH)


def _in_cache(counts: _Counts) -> int:
    quantities = counts.quantities
    return sum([quantities[unit] for unit in CACHE_UNITS if unit in quantities])


def _include_cache(counts: _Counts) -> None:
    counts.quantities["input_tokens"] = counts.get("input_tokens") + _in_cache(counts)


def _is_guess(fields: Fields, emission: Emission) -> bool:
    return (
        emission.scope in names.ESTIMATING_SCOPES
        and is_true(fields.get(names.STREAM))
        and "cached_input_tokens" not in fields
    )


def _guess_flags(emission: Emission) -> tuple[str, ...]:
    return (GUESSED, GUESS) if emission.accepts_guesses else (GUESSED,)


def _remark(counts: _Counts, fields: Fields, emission: Emission) -> None:
    """Flag what the emitter tells badly or not at all."""
    is_plain = fields.get(names.STREAM) is False
    if emission.scope in names.INEXACT_OUTPUT_SCOPES and not is_plain:
        counts.flags.append(OUTPUT_INEXACT)
    tells_of_cache = "cached_input_tokens" in counts.quantities or emission.scope.startswith(
        names.CACHE_REPORTING_SCOPES
    )
    if not tells_of_cache and emission.operation != names.EMBEDDINGS:
        counts.flags.append(CACHE_UNKNOWN)


def _folded_tier(tier: str | None) -> str | None:
    folded = None if tier is None else text_of(tier.lower())
    return None if folded is None else TIER_NAMES.get(folded, folded)


def _reported_nanos(fields: Fields) -> int | None:
    """Give the emitter's own cost; zero is what emitters write that know no price."""
    if names.EMITTER_COST in fields:
        return nanos_of(fields.number(names.EMITTER_COST))
    if LANGFUSE_COST not in fields.attributes:
        return None
    total = (object_of(fields.attributes[LANGFUSE_COST]) or {}).get("total")
    return None if total is None else nanos_of(decimal_of(str(total)))


def nanos_of(cost: Decimal | None) -> int | None:
    """Give a cost above zero in nanos, None for none."""
    if cost is None or cost <= 0 or cost.adjusted() > NANO_DIGITS:
        return None
    nanos = decimal_to_nanos(cost)
    return nanos if 0 < nanos <= MAX_NANOS else None

"""The provider's own usage object, where an emitter passed it on: better than any attribute.

It owns where it lies. What it means is ``formats/provider_usage``'s to say. Of a whole response,
which OpenInference sends, only id, tier and usage are read; the text is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.usage import find_fault
from tokenbudget.formats.otlp.shapes import Attributes
from tokenbudget.formats.otlp.values import count_of, decode_json, object_of
from tokenbudget.formats.provider_usage import NormalisedUsage, normalise

OPENINFERENCE_KIND: Final = "openinference.span.kind"
RESPONSE_BODY: Final = "output.value"
RAW_USAGE: Final = "gen_ai.usage.raw"
LANGFUSE_USAGE: Final = "langfuse.observation.usage_details"
VERCEL_METADATA: Final = "ai.response.providerMetadata"
NAMED_OBJECTS: Final = ("chat.completion", "chat.completion.chunk", "response", "text_completion")
NAMED_TYPES: Final = ("message",)

LANGFUSE_UNITS: Final[Mapping[str, tuple[str, ...]]] = {
    "cached_input_tokens": (
        "cache_read_input_tokens",
        "input_cache_read",
        "input_cached_tokens",
        "input_cache_read_tokens",
    ),
    "cache_write_tokens": (
        "cache_creation_input_tokens",
        "input_cache_creation",
        "input_cache_creation_tokens",
    ),
    "cache_write_5m_tokens": ("input_cache_creation_5m",),
    "cache_write_1h_tokens": ("input_cache_creation_1h",),
    "input_audio_tokens": ("input_audio_tokens", "input_audio"),
    "reasoning_tokens": ("output_reasoning_tokens", "output_reasoning"),
    "output_audio_tokens": ("output_audio_tokens", "output_audio"),
}
LANGFUSE_INPUTS: Final = ("input", "cache_read_input_tokens", "cache_creation_input_tokens")
LANGFUSE_OUTPUTS: Final = ("output",)


class ResponseBody(msgspec.Struct):
    """What a provider's response says besides its text."""

    id: str | None = None
    object_name: str | None = msgspec.field(default=None, name="object")
    type: str | None = None
    service_tier: str | None = None
    usage: dict[str, object] | None = None

    @property
    def response_ref(self) -> str | None:
        """Give the provider's id; other objects that a library returns have ids of their own."""
        is_named = self.object_name in NAMED_OBJECTS or self.type in NAMED_TYPES
        return self.id if is_named else None


@dataclass(frozen=True, slots=True)
class RawUsage:
    """A provider's usage as it was passed on, with what its response said of itself."""

    usage: NormalisedUsage | None
    response_ref: str | None = None
    service_tier: str | None = None


def find_raw_usage(provider: str, attributes: Attributes) -> RawUsage | None:
    """Give the provider's own usage, None when no emitter passed it on or it cannot be read."""
    if OPENINFERENCE_KIND in attributes:
        return _of_response(provider, attributes)
    for name in (RAW_USAGE, LANGFUSE_USAGE):
        if name in attributes:
            return _read(provider, object_of(attributes[name]))
    if VERCEL_METADATA in attributes:
        for part in (object_of(attributes[VERCEL_METADATA]) or {}).values():
            if isinstance(part, Mapping) and isinstance(part.get("usage"), Mapping):
                return _read(provider, part["usage"])
    return None


def _of_response(provider: str, attributes: Attributes) -> RawUsage | None:
    text = attributes.get(RESPONSE_BODY)
    body = decode_json(text, ResponseBody) if isinstance(text, str) else None
    if body is None:
        return None
    read = _read(provider, body.usage)
    return RawUsage(read.usage if read else None, body.response_ref, body.service_tier)


def _read(provider: str, usage: Mapping[str, object] | None) -> RawUsage | None:
    if not usage:
        return None
    own = _langfuse_usage(usage) if "input" in usage or "output" in usage else None
    try:
        read = own or normalise(provider, usage)
    except InvalidInput:
        return None
    return None if find_fault(read.quantities) else RawUsage(read)


def _langfuse_usage(details: Mapping[str, object]) -> NormalisedUsage | None:
    """Give usage in Langfuse's own words: classes beside each other, with or without their sum.

    Where the sum is given and is input plus output, the classes lie inside those instead.
    """
    counts = {
        name: count
        for name, value in details.items()
        if isinstance(value, int | str) and (count := count_of(value)) is not None
    }
    units = {
        unit: sum(counts[name] for name in names if name in counts)
        for unit, names in LANGFUSE_UNITS.items()
        if any(name in counts for name in names)
    }
    given = {"input": counts.get("input", 0), "output": counts.get("output", 0)}
    if counts.get("total") != sum(given.values()):
        for name, count in counts.items():
            side = _side_of(name)
            if side is not None and name != side:
                given[side] += count
    return NormalisedUsage(
        {"input_tokens": given["input"], **units, "output_tokens": given["output"]}
    )


def _side_of(name: str) -> str | None:
    if name.startswith("input") or name in LANGFUSE_INPUTS:
        return "input"
    return "output" if name.startswith("output") else None

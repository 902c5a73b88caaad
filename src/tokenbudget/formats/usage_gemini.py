"""Gemini's usage metadata, of the Gemini API and of Vertex AI, in either spelling.

The prompt holds the cached content; thoughts and tool-use prompts are counted beside candidates
and prompt, and billed with them. Streams repeat it cumulatively: the last object is the usage.
Source: google-genai 3.4, ``GenerateContentResponseUsageMetadata``, ``UsageMetadata`` (Live API).
"""

from __future__ import annotations

import re
from typing import Final

from tokenbudget.formats.usage_counts import (
    NormalisedUsage,
    UsageObject,
    sum_present,
    total_flags,
)

_CAPITAL: Final = re.compile("([A-Z])")


def _both(camel: str) -> tuple[str, str]:
    """Give the field as the API spells it and as the Python SDK dumps it."""
    return camel, _CAPITAL.sub(r"_\1", camel).lower()


PROMPT: Final = _both("promptTokenCount")
TOOL_PROMPT: Final = _both("toolUsePromptTokenCount")
CACHED: Final = _both("cachedContentTokenCount")
OUTPUT: Final = (*_both("candidatesTokenCount"), *_both("responseTokenCount"))
THOUGHTS: Final = _both("thoughtsTokenCount")
TOTAL: Final = _both("totalTokenCount")
GEMINI_MARKS: Final = frozenset((*PROMPT, *OUTPUT, *THOUGHTS, *TOTAL))

PROMPT_DETAILS: Final = _both("promptTokensDetails")
TOOL_PROMPT_DETAILS: Final = _both("toolUsePromptTokensDetails")
CACHE_DETAILS: Final = _both("cacheTokensDetails")
OUTPUT_DETAILS: Final = (*_both("candidatesTokensDetails"), *_both("responseTokensDetails"))

# Documents are billed as images.
INPUT_UNITS: Final = {
    "AUDIO": "input_audio_tokens",
    "IMAGE": "input_image_tokens",
    "DOCUMENT": "input_image_tokens",
    "VIDEO": "input_video_tokens",
}
CACHED_UNITS: Final = {
    "AUDIO": "cached_audio_tokens",
    "IMAGE": "cached_image_tokens",
    "DOCUMENT": "cached_image_tokens",
}
OUTPUT_UNITS: Final = {
    "AUDIO": "output_audio_tokens",
    "IMAGE": "output_image_tokens",
    "DOCUMENT": "output_image_tokens",
    "VIDEO": "output_video_tokens",
}
TIER_BY_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned",
}


def read_gemini(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of generated content, of an embedding or of a Live API turn."""
    thoughts = usage.count(*THOUGHTS)
    counts = {
        "input_tokens": sum_present(usage.count(*PROMPT), usage.count(*TOOL_PROMPT)),
        "cached_input_tokens": usage.count(*CACHED),
        "output_tokens": sum_present(usage.count(*OUTPUT), thoughts),
        "reasoning_tokens": thoughts,
    }
    quantities = {unit: count for unit, count in counts.items() if count is not None}
    for details, units in (
        (PROMPT_DETAILS, INPUT_UNITS),
        (TOOL_PROMPT_DETAILS, INPUT_UNITS),
        (CACHE_DETAILS, CACHED_UNITS),
        (OUTPUT_DETAILS, OUTPUT_UNITS),
    ):
        _add_modalities(quantities, usage.objects(*details), units)
    return NormalisedUsage(
        quantities,
        flags=total_flags(quantities, usage.count(*TOTAL)),
        service_tier=_service_tier(usage),
    )


def _add_modalities(
    quantities: dict[str, int], details: list[UsageObject], units: dict[str, str]
) -> None:
    for detail in details:
        unit = units.get((detail.text("modality") or "").upper())
        count = detail.count(*_both("tokenCount"))
        if unit is not None and count is not None:
            quantities[unit] = quantities.get(unit, 0) + count


def _service_tier(usage: UsageObject) -> str | None:
    """Give the tier: said outright by the Gemini API, through the traffic type by Vertex AI."""
    traffic = usage.text(*_both("trafficType"))
    if traffic is not None:
        return TIER_BY_TRAFFIC.get(traffic.upper())
    return usage.text(*_both("serviceTier"))

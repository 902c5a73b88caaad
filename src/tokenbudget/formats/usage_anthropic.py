"""Anthropic's usage shape, wherever it is served (also on Bedrock, Vertex AI and Azure).

``input_tokens`` is only what was neither read from nor written to the cache; the three add up to
our total. Streams repeat it cumulatively: the last object is the usage. Source: Anthropic's SDK
2.11, ``types/usage.py`` and ``types/beta/beta_usage.py``.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.formats.usage_counts import (
    OTHER_MODEL,
    NormalisedUsage,
    UsageObject,
    split_cache_writes,
    sum_present,
)

ANTHROPIC_MARKS: Final = frozenset(
    {
        "cache_creation",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "server_tool_use",
        "inference_geo",
        "iterations",
        "speed",
    }
)
UNPLACED_REGIONS: Final = frozenset({"global", "not_available"})
OTHER_MODEL_ITERATIONS: Final = frozenset({"advisor_message", "fallback_message"})


def read_anthropic(usage: UsageObject) -> NormalisedUsage:
    """Give a message's usage, with the compactions its top-level counts leave out."""
    quantities, flags = _read_counts(usage)
    iterations = usage.objects("iterations")
    for iteration in iterations:
        if iteration.text("type") == "compaction":
            compaction, more_flags = _read_counts(iteration)
            quantities = _added(quantities, compaction)
            flags = (*flags, *more_flags)
    web_searches = usage.count("server_tool_use.web_search_requests")
    if web_searches is not None:
        quantities["web_searches"] = web_searches
    return NormalisedUsage(
        quantities,
        flags=tuple(dict.fromkeys((*flags, *_other_model_flags(iterations)))),
        service_tier=anthropic_tier(usage),
        region=anthropic_region(usage),
    )


def anthropic_tier(usage: UsageObject) -> str | None:
    """Give the service tier, or ``fast`` for fast mode, which has its own prices."""
    return "fast" if usage.text("speed") == "fast" else usage.text("service_tier")


def anthropic_region(usage: UsageObject) -> str | None:
    """Give the region inference was bound to, or None when it was not."""
    region = usage.text("inference_geo")
    return None if region in UNPLACED_REGIONS else region


def _read_counts(usage: UsageObject) -> tuple[dict[str, int], tuple[str, ...]]:
    cached = usage.count("cache_read_input_tokens")
    written, flags = _read_cache_writes(usage)
    total_input = sum_present(usage.count("input_tokens"), cached, *written.values())
    counts = {
        "input_tokens": total_input,
        "cached_input_tokens": cached,
        **written,
        "output_tokens": usage.count("output_tokens"),
        "reasoning_tokens": usage.count("output_tokens_details.thinking_tokens"),
    }
    return {unit: count for unit, count in counts.items() if count is not None}, flags


def _read_cache_writes(usage: UsageObject) -> tuple[dict[str, int], tuple[str, ...]]:
    by_lifetime = usage.counts(
        {
            "cache_write_5m_tokens": ("cache_creation.ephemeral_5m_input_tokens",),
            "cache_write_1h_tokens": ("cache_creation.ephemeral_1h_input_tokens",),
        }
    )
    return split_cache_writes(usage.count("cache_creation_input_tokens"), by_lifetime)


def _added(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    units = dict.fromkeys((*first, *second))
    return {unit: first.get(unit, 0) + second.get(unit, 0) for unit in units}


def _other_model_flags(iterations: list[UsageObject]) -> tuple[str, ...]:
    """Give a flag for each kind of iteration another model served, at that model's prices."""
    kinds = [iteration.text("type") for iteration in iterations]
    return tuple(f"{OTHER_MODEL}:{kind}" for kind in kinds if kind in OTHER_MODEL_ITERATIONS)

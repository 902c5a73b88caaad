"""Amazon Bedrock's usage shapes: Converse, and the spellings InvokeModel has of its own.

As with Anthropic, ``inputTokens`` leaves out what was read from or written to the cache. Sources:
Bedrock API reference, TokenUsage and CacheDetail; model parameters of Titan, Nova and Llama.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.formats.usage_counts import (
    TOTAL_MISMATCH,
    NormalisedUsage,
    UsageObject,
    split_cache_writes,
    sum_present,
    token_total,
)

BEDROCK_MARKS: Final = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "inputTokenCount",
        "outputTokenCount",
        "inputTextTokenCount",
        "generation_token_count",
    }
)
UNIT_BY_LIFETIME: Final = {"5m": "cache_write_5m_tokens", "1h": "cache_write_1h_tokens"}


def read_bedrock(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of a Converse call or of an InvokeModel call in Amazon's own spelling."""
    uncached = usage.count(
        "inputTokens", "inputTokenCount", "inputTextTokenCount", "prompt_token_count"
    )
    cached = usage.count("cacheReadInputTokens", "cacheReadInputTokenCount")
    written, flags = _read_cache_writes(usage)
    counts = {
        "input_tokens": sum_present(uncached, cached, *written.values()),
        "cached_input_tokens": cached,
        **written,
        "output_tokens": usage.count("outputTokens", "outputTokenCount", "generation_token_count"),
    }
    quantities = {unit: count for unit, count in counts.items() if count is not None}
    total = usage.count("totalTokens")
    # Some models leave the cache out of their total, some do not; both add up.
    plausible_totals = (
        None,
        token_total(quantities),
        sum_present(uncached, counts["output_tokens"]),
    )
    if total not in plausible_totals:
        flags = (TOTAL_MISMATCH,)
    return NormalisedUsage(
        quantities, flags=flags, service_tier=usage.text("serviceTier", "service_tier")
    )


def _read_cache_writes(usage: UsageObject) -> tuple[dict[str, int], tuple[str, ...]]:
    by_lifetime: dict[str, int] = {}
    for detail in usage.objects("cacheDetails"):
        unit = UNIT_BY_LIFETIME.get(detail.text("ttl") or "", "cache_write_tokens")
        by_lifetime[unit] = by_lifetime.get(unit, 0) + (detail.count("inputTokens") or 0)
    written = usage.count("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    return split_cache_writes(written, by_lifetime)

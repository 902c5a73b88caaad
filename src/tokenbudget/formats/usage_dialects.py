"""What one provider adds to, or means differently by, a shape it shares with others.

Each function takes the usage and what the shape's reader made of it, and gives it corrected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tokenbudget.formats.usage_counts import (
    NOT_COUNTED,
    TOTAL_MISMATCH,
    NormalisedUsage,
    UsageObject,
    not_counted_flags,
    sum_present,
    token_total,
    total_flags,
)

# 10**10 ticks are one US dollar (https://docs.x.ai/developers/cost-tracking).
TICK_EXPONENT: Final = 10
BYOK: Final = "byok"
CITATIONS_AS_INPUT: Final = "citation_tokens_as_input"
XAI_TOOLS: Final = "server_side_tool_usage_details"
XAI_NOT_COUNTED: Final = (
    "num_sources_used",
    "input_text_messages",
    f"{XAI_TOOLS}.image_generation_calls",
)
XAI_TOOL_UNITS: Final = {
    "web_searches": ("web_search_calls", "x_search_calls"),
    "file_searches": ("file_search_calls", "document_search_calls"),
    "code_executions": ("code_interpreter_calls",),
}


def read_deepseek(usage: UsageObject, read: NormalisedUsage) -> NormalisedUsage:
    """Give the usage, flagged when cache hits and misses are not the whole prompt."""
    misses = usage.count("prompt_cache_miss_tokens")
    if misses is None:
        return read
    prompt = misses + read.quantities.get("cached_input_tokens", 0)
    if prompt == read.quantities.get("input_tokens"):
        return read
    return _with_flags(read, (TOTAL_MISMATCH,))


def read_mistral(usage: UsageObject, read: NormalisedUsage) -> NormalisedUsage:
    """Give the usage with the seconds of audio in the prompt."""
    seconds, flags = usage.seconds("prompt_audio_seconds")
    if seconds is None:
        return read
    quantities = {**read.quantities, "audio_seconds": seconds}
    return _with_flags(replace(read, quantities=quantities), flags)


def read_openrouter(usage: UsageObject, read: NormalisedUsage) -> NormalisedUsage:
    """Give the usage with what OpenRouter charged, in credits of one dollar.

    Flagged ``byok`` when the caller's own key was used: the upstream provider invoices the rest.
    """
    flags = (BYOK,) if usage.values.get("is_byok") is True else ()
    return _with_flags(replace(read, reported_nanos=usage.nanos("cost")), flags)


def read_perplexity(usage: UsageObject, read: NormalisedUsage) -> NormalisedUsage:
    """Give the usage with what its token counts leave out, its searches and its own price.

    Reasoning is counted beside the completion and billed as output. Citations, the text of search
    results, are billed as input (https://openrouter.ai/perplexity/sonar-deep-research).
    """
    quantities = dict(read.quantities)
    flags = read.flags
    if "prompt_tokens" in usage.values:
        citations = usage.count("citation_tokens") or 0
        reasoning = quantities.get("reasoning_tokens", 0)
        flags = _perplexity_total_flags(usage, token_total(quantities), reasoning + citations)
        _add(quantities, "input_tokens", citations or None)
        _add(quantities, "output_tokens", reasoning or None)
        flags = (*flags, CITATIONS_AS_INPUT) if citations else flags
    searches = usage.count("num_search_queries", "tool_calls_details.search_web.invocation")
    _add(quantities, "web_searches", searches)
    reported_nanos = usage.nanos("cost.total_cost")
    return replace(read, quantities=quantities, flags=flags, reported_nanos=reported_nanos)


def read_xai(usage: UsageObject, read: NormalisedUsage) -> NormalisedUsage:
    """Give the usage with reasoning in the output, its tools and its own price.

    xAI's chat counts reasoning beside the completion; gateways fold it in. The total tells which.
    """
    quantities = dict(read.quantities)
    flags = read.flags
    if "prompt_tokens" in usage.values:
        total = usage.count("total_tokens")
        if total is None or total != token_total(quantities):
            _add(quantities, "output_tokens", quantities.get("reasoning_tokens"))
        flags = total_flags(quantities, total)
    seconds, seconds_flags = usage.seconds("billable_audio_seconds")
    _add(quantities, "audio_seconds", seconds)
    for unit, spellings in XAI_TOOL_UNITS.items():
        calls = [usage.count(f"{XAI_TOOLS}.{spelling}") for spelling in spellings]
        _add(quantities, unit, sum_present(*calls))
    return replace(
        read,
        quantities=quantities,
        flags=(*flags, *seconds_flags, *_xai_not_counted_flags(usage)),
        reported_nanos=usage.nanos("cost_in_usd_ticks", exponent=TICK_EXPONENT),
    )


def _xai_not_counted_flags(usage: UsageObject) -> tuple[str, ...]:
    """Give a flag for each billed class without a unit; the gRPC API lists tools without counts."""
    flags = not_counted_flags(usage, *XAI_NOT_COUNTED)
    if usage.values.get("server_side_tools_used") and XAI_TOOLS not in usage.values:
        return (*flags, f"{NOT_COUNTED}:server_side_tools_used")
    return flags


def _perplexity_total_flags(usage: UsageObject, counted: int, beside: int) -> tuple[str, ...]:
    """Give the mismatch flag unless the total is what was counted, with or without the rest."""
    total = usage.count("total_tokens")
    return () if total in (None, counted, counted + beside) else (TOTAL_MISMATCH,)


def _add(quantities: dict[str, int], unit: str, count: int | None) -> None:
    if count is not None:
        quantities[unit] = quantities.get(unit, 0) + count


def _with_flags(read: NormalisedUsage, flags: tuple[str, ...]) -> NormalisedUsage:
    return replace(read, flags=tuple(dict.fromkeys((*read.flags, *flags))))

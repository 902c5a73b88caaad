"""OpenAI's usage shapes: chat (also embeddings), responses (also images, realtime), transcription.

It owns their spellings, with those of the many that copied them. Totals already include their
parts. It refuses what only one provider adds; that is in ``usage_dialects``.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.formats.usage_anthropic import anthropic_region, anthropic_tier
from tokenbudget.formats.usage_counts import (
    NormalisedUsage,
    Spellings,
    UsageObject,
    split_cache_writes,
    sum_present,
    total_flags,
)

CHAT_MARKS: Final = frozenset({"prompt_tokens", "completion_tokens"})
RESPONSES_MARKS: Final = frozenset({"input_tokens", "output_tokens"})
DURATION_MARKS: Final = frozenset({"seconds"})

CHAT_UNITS: Final[Spellings] = {
    "input_tokens": ("prompt_tokens",),
    "cached_input_tokens": (
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",
        "cached_prompt_text_tokens",
        "cached_tokens",
        "num_cached_tokens",
        "cache_read_input_tokens",
    ),
    "cache_write_tokens": (
        "prompt_tokens_details.cache_write_tokens",
        "prompt_tokens_details.cache_creation_tokens",
        "cache_creation_input_tokens",
    ),
    "input_audio_tokens": ("prompt_tokens_details.audio_tokens",),
    "input_image_tokens": ("prompt_tokens_details.image_tokens", "prompt_image_tokens"),
    "input_video_tokens": ("prompt_tokens_details.video_tokens",),
    "cached_audio_tokens": ("prompt_tokens_details.cached_tokens_details.audio_tokens",),
    "cached_image_tokens": ("prompt_tokens_details.cached_tokens_details.image_tokens",),
    "output_tokens": ("completion_tokens",),
    "reasoning_tokens": ("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
    "output_audio_tokens": ("completion_tokens_details.audio_tokens",),
    "output_image_tokens": ("completion_tokens_details.image_tokens",),
    "output_video_tokens": ("completion_tokens_details.video_tokens",),
    "web_searches": ("server_tool_use.web_search_requests",),
}

# How gateways tell the lifetimes of cache writes in this shape; two of them have no unit of ours.
GATEWAY_WRITES: Final = "prompt_tokens_details.cache_creation_token_details"
GATEWAY_LIFETIMES: Final[Spellings] = {
    "cache_write_5m_tokens": (f"{GATEWAY_WRITES}.ephemeral_5m_input_tokens",),
    "cache_write_1h_tokens": (f"{GATEWAY_WRITES}.ephemeral_1h_input_tokens",),
}
OTHER_LIFETIMES: Final = (
    f"{GATEWAY_WRITES}.ephemeral_30m_input_tokens",
    f"{GATEWAY_WRITES}.ephemeral_12h_input_tokens",
)


def _both_details(path: str) -> tuple[str, str]:
    """Give a field of the details: responses say ``tokens_details``, realtime ``token_details``."""
    side, _, field = path.partition(".")
    return f"{side}_tokens_details.{field}", f"{side}_token_details.{field}"


RESPONSES_UNITS: Final[Spellings] = {
    "input_tokens": ("input_tokens",),
    "cached_input_tokens": (
        *_both_details("input.cached_tokens"),
        *_both_details("input.cache_read_input_tokens"),
    ),
    "cache_write_tokens": (
        *_both_details("input.cache_write_tokens"),
        *_both_details("input.cache_creation_input_tokens"),
    ),
    "input_audio_tokens": _both_details("input.audio_tokens"),
    "input_image_tokens": _both_details("input.image_tokens"),
    "cached_audio_tokens": _both_details("input.cached_tokens_details.audio_tokens"),
    "cached_image_tokens": _both_details("input.cached_tokens_details.image_tokens"),
    "output_tokens": ("output_tokens",),
    "reasoning_tokens": _both_details("output.reasoning_tokens"),
    "output_audio_tokens": _both_details("output.audio_tokens"),
    "output_image_tokens": _both_details("output.image_tokens"),
    "web_searches": ("server_tool_use.web_search_requests",),
}


def read_chat(usage: UsageObject) -> NormalisedUsage:
    """Give a chat completion's or embedding's usage, also one a gateway respelled into it."""
    quantities = usage.counts(CHAT_UNITS)
    by_lifetime = usage.counts(GATEWAY_LIFETIMES)
    other = sum_present(*(usage.count(spelling) for spelling in OTHER_LIFETIMES))
    if other is not None:
        by_lifetime["cache_write_tokens"] = other
    writes, flags = split_cache_writes(quantities.pop("cache_write_tokens", None), by_lifetime)
    return _with_total(usage, {**quantities, **writes}, flags)


def read_responses(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of a response, an image, a realtime turn or a transcription in tokens."""
    return _with_total(usage, usage.counts(RESPONSES_UNITS), ())


def read_duration(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of a transcription that is billed by the second."""
    seconds, flags = usage.seconds("seconds")
    quantities = {} if seconds is None else {"audio_seconds": seconds}
    return NormalisedUsage(quantities, flags)


def _with_total(
    usage: UsageObject, quantities: dict[str, int], flags: tuple[str, ...]
) -> NormalisedUsage:
    """Give the usage, with the flag of a total that is not its sum and the tier it states."""
    total_fault = total_flags(quantities, usage.count("total_tokens"))
    return NormalisedUsage(
        quantities,
        flags=flags or total_fault,
        service_tier=anthropic_tier(usage),
        region=anthropic_region(usage),
    )

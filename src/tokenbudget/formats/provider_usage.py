"""A provider's own usage object in our units. It owns which reader reads which object.

It refuses to guess: an object of no known shape, or without a single count, is an error that
names the provider and the keys; counts that do not add up are flagged and left as they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.usage_anthropic import ANTHROPIC_MARKS, read_anthropic
from tokenbudget.formats.usage_bedrock import BEDROCK_MARKS, read_bedrock
from tokenbudget.formats.usage_cohere import COHERE_MARKS, read_cohere
from tokenbudget.formats.usage_counts import NormalisedUsage, UsageObject
from tokenbudget.formats.usage_dialects import (
    read_deepseek,
    read_mistral,
    read_openrouter,
    read_perplexity,
    read_xai,
)
from tokenbudget.formats.usage_gemini import GEMINI_MARKS, read_gemini
from tokenbudget.formats.usage_openai import (
    CHAT_MARKS,
    DURATION_MARKS,
    RESPONSES_MARKS,
    read_chat,
    read_duration,
    read_responses,
)

__all__ = ["NormalisedUsage", "normalise"]

Reader = Callable[[UsageObject], NormalisedUsage]
Dialect = Callable[[UsageObject, NormalisedUsage], NormalisedUsage]

MAX_KEYS_SHOWN: Final = 20
MAX_KEY_CHARACTERS: Final = 64
PAGES_MARKS: Final = frozenset({"pages_processed"})
# With one of these beside Anthropic's keys, a gateway respelled its usage in OpenAI's sense.
OPENAI_MARKS: Final = CHAT_MARKS | {"input_tokens_details", "input_token_details"}
# Toolkits that respell usage in Bedrock's words but count the cache another way.
TOOLKIT_MARKS: Final = frozenset(
    {"cachedInputTokens", "inputTokenDetails", "cacheReadTokens", "cacheWriteTokens"}
)
TIER_NAMES: Final = {"default": "standard", "unspecified": "standard"}
DIALECTS: Final[Mapping[str, Dialect]] = {
    "deepseek": read_deepseek,
    "mistral": read_mistral,
    "mistralai": read_mistral,
    "openrouter": read_openrouter,
    "perplexity": read_perplexity,
    "perplexityai": read_perplexity,
    "xai": read_xai,
}
_NOT_ALPHANUMERIC: Final = re.compile("[^a-z0-9]")


def normalise(provider: str, usage: Mapping[str, object]) -> NormalisedUsage:
    """Give a provider's usage object in our units: totals include their parts.

    The keys tell the shape, so Anthropic's usage is read alike from Bedrock and OpenAI's from all
    who speak it; the provider's name tells what it means differently by it. Keys of no meaning to
    us are ignored. Raises InvalidInput for an unknown shape, for no count at all, and for a count
    that is negative or not whole, naming it.
    """
    reader = _reader_for(frozenset(usage))
    if reader is None:
        raise _unreadable(provider, usage, "has no known shape")
    usage_object = UsageObject(usage)
    read = reader(usage_object)
    dialect = DIALECTS.get(_NOT_ALPHANUMERIC.sub("", provider.lower()))
    if dialect is not None:
        read = dialect(usage_object, read)
    if not read.quantities:
        raise _unreadable(provider, usage, "holds no count")
    if read.service_tier is None:
        return read
    tier = read.service_tier.lower()
    return replace(read, service_tier=TIER_NAMES.get(tier, tier))


def _reader_for(keys: frozenset[str]) -> Reader | None:
    """Give the reader of the shape with these keys, or None."""
    if keys & BEDROCK_MARKS:
        return None if keys & TOOLKIT_MARKS else read_bedrock
    if keys & RESPONSES_MARKS and keys & ANTHROPIC_MARKS and not keys & OPENAI_MARKS:
        return read_anthropic
    by_marks: tuple[tuple[frozenset[str], Reader], ...] = (
        (GEMINI_MARKS, read_gemini),
        (CHAT_MARKS, read_chat),
        (RESPONSES_MARKS, read_responses),
        (COHERE_MARKS, read_cohere),
        (DURATION_MARKS, read_duration),
        (PAGES_MARKS, _read_pages),
    )
    return next((reader for marks, reader in by_marks if keys & marks), None)


def _read_pages(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of optical character recognition, which is billed by the page."""
    return NormalisedUsage(usage.counts({"pages": ("pages_processed",)}))


def _unreadable(provider: str, usage: Mapping[str, object], fault: str) -> InvalidInput:
    keys = [str(key)[:MAX_KEY_CHARACTERS] for key in sorted(usage)[:MAX_KEYS_SHOWN]]
    seen = ", ".join(keys) or "none"
    return InvalidInput(
        f"provider_usage of {provider} {fault}; its keys: {seen}", provider=provider, keys=keys
    )

"""Cohere's usage shape: ``billed_units`` is what is paid, ``tokens`` includes their template.

Numbers come with a decimal point. Source: Cohere's SDK 7.3, ``types/usage.py`` and
``types/api_meta_billed_units.py``.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.formats.usage_counts import (
    NOT_COUNTED,
    NormalisedUsage,
    UsageObject,
    not_counted_flags,
    sum_present,
)

COHERE_MARKS: Final = frozenset({"billed_units", "tokens"})
NOT_BILLED_COUNTS: Final = "not_billed_counts"


def read_cohere(usage: UsageObject) -> NormalisedUsage:
    """Give the usage of a chat, an embedding, a rerank or a parse.

    Without billed units the token counts stand in, flagged ``not_billed_counts``.
    """
    flags: tuple[str, ...] = ()
    source = "billed_units"
    if usage.values.get(source) is None:
        source, flags = "tokens", (NOT_BILLED_COUNTS,)
    image_tokens = usage.count(f"{source}.image_tokens")
    input_tokens = usage.count(f"{source}.input_tokens")
    if input_tokens is None:
        input_tokens = sum_present(usage.count(f"{source}.text_tokens"), image_tokens)
    counts = {
        "input_tokens": input_tokens,
        "input_image_tokens": image_tokens,
        "output_tokens": usage.count(f"{source}.output_tokens"),
        "reranks": usage.count(f"{source}.search_units"),
        "images": usage.count(f"{source}.images"),
        "pages": usage.count(f"{source}.pages"),
    }
    cached = usage.count("cached_tokens")
    if cached is not None and cached > (input_tokens or 0):
        # The cache holds the template as well, which is not billed.
        flags = (*flags, f"{NOT_COUNTED}:cached_tokens")
    else:
        counts["cached_input_tokens"] = cached
    return NormalisedUsage(
        {unit: count for unit, count in counts.items() if count is not None},
        flags=(*flags, *not_counted_flags(usage, f"{source}.classifications")),
    )

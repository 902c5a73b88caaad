"""Our readers against genai-prices' ``extract_usage``, over every shape that package knows.

Each of its extractors is turned into a usage object with a different number in every field it
reads; both sides then read that object. Where ours differs on purpose, the reason stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import ArrayMatch, ClauseEquals, Provider, UsageExtractor

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.provider_usage import normalise

OUR_UNITS = {
    "cache_read_tokens": "cached_input_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "cache_audio_read_tokens": "cached_audio_tokens",
    "cache_image_read_tokens": "cached_image_tokens",
    "input_document_pages": "pages",
}
# Parts of a total that have no price of their own; ours keeps the total.
PARTS_WITHOUT_A_UNIT = {
    "input_text_tokens",
    "output_text_tokens",
    "cache_text_read_tokens",
    "cache_video_read_tokens",
    "input_tool_tokens",
    "input_text_tool_tokens",
    "input_audio_tool_tokens",
    "input_image_tool_tokens",
    "input_video_tool_tokens",
    "input_annotated_document_pages",
    "input_text_messages",
}
# Each of these has a test of its own below.
DELIBERATE_DIFFERENCES = {("perplexity", "default"), ("cursor", "usage-event")}
CASES = [
    pytest.param(provider, extractor, id=f"{provider.id} {extractor.api_flavor}")
    for provider in providers
    for extractor in provider.extractors or ()
    if (provider.id, extractor.api_flavor) not in DELIBERATE_DIFFERENCES
]


@pytest.mark.parametrize(("provider", "extractor"), CASES)
def test_both_read_the_same_counts(provider: Provider, extractor: UsageExtractor) -> None:
    usage = usage_for(extractor)

    read = normalise(provider.id, usage)

    assert with_writes_summed(read.quantities) == counts_of(provider, extractor, usage)


def test_perplexitys_citations_are_input_not_output() -> None:
    """Perplexity bills the text of search results at the input price; genai-prices has a price
    of its own for them and files them under output, at which we would overcharge."""
    usage = {"prompt_tokens": 33, "completion_tokens": 100, "citation_tokens": 500}

    read = normalise("perplexity", usage)

    assert read.quantities == {"input_tokens": 533, "output_tokens": 100}
    assert read.flags == ("citation_tokens_as_input",)


def test_a_usage_report_of_cursor_is_not_a_providers_usage() -> None:
    """Cursor's numbers come from its billing export, which has its own importer."""
    usage = {"inputTokens": 1, "cacheWriteTokens": 2, "cacheReadTokens": 3, "outputTokens": 4}

    with pytest.raises(InvalidInput, match="has no known shape"):
        normalise("cursor", usage)


def test_xais_folded_reasoning_is_not_added_twice() -> None:
    """genai-prices adds reasoning to the completion always; gateways that have already folded it
    in give themselves away by their total."""
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 103,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }

    read = normalise("x-ai", usage)

    assert read.quantities["output_tokens"] == 103


def usage_for(extractor: UsageExtractor) -> dict[str, Any]:
    """Give a usage object with a number of its own in each field the extractor reads."""
    usage: dict[str, Any] = {}
    for index, mapping in enumerate(extractor.mappings):
        sizes = {"input_tokens": 1000, "output_tokens": 500}
        put(usage, steps_of(mapping.path), sizes.get(mapping.dest, 10) + index)
    return usage


def counts_of(
    provider: Provider, extractor: UsageExtractor, usage: dict[str, Any]
) -> dict[str, int]:
    """Give what genai-prices reads from the usage, in our units."""
    response: dict[str, Any] = {}
    put(response, steps_of(extractor.root), usage)
    put(response, steps_of(extractor.model_path), "any-model")
    _, theirs = provider.extract_usage(response, api_flavor=extractor.api_flavor)
    return {
        OUR_UNITS.get(name, name): count
        for name, count in vars(theirs).items()
        if name not in PARTS_WITHOUT_A_UNIT
    }


def with_writes_summed(quantities: Mapping[str, int]) -> dict[str, int]:
    """Give our counts with all cache writes under one unit beside their lifetimes, as theirs."""
    counts = dict(quantities)
    writes = [counts.pop("cache_write_tokens", None)]
    writes += [counts.get(unit) for unit in ("cache_write_5m_tokens", "cache_write_1h_tokens")]
    present = [count for count in writes if count is not None]
    return {**counts, "cache_write_tokens": sum(present)} if present else counts


def put(target: dict[str, Any], steps: Sequence[str | ArrayMatch], value: object) -> None:
    """Set the value at the end of these steps, unless an earlier mapping has set it."""
    current: Any = target
    for step, following in pairwise(steps):
        if isinstance(step, str):
            current = current.setdefault(step, [] if isinstance(following, ArrayMatch) else {})
        else:
            current = entry_for(current, step)
    current.setdefault(steps[-1], value)


def entry_for(entries: list[dict[str, Any]], step: ArrayMatch) -> dict[str, Any]:
    assert isinstance(step.match, ClauseEquals)
    for entry in entries:
        if entry[step.field] == step.match.equals:
            return entry
    entries.append({step.field: step.match.equals})
    return entries[-1]


def steps_of(path: str | Sequence[str | ArrayMatch]) -> Sequence[str | ArrayMatch]:
    return [path] if isinstance(path, str) else path

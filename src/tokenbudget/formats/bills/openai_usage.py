"""Pages of OpenAI's usage API, ``GET /v1/organization/usage/…``: what was used, never a bill.

Shape: OpenAI OpenAPI specification of 2026-08-21. Every endpoint is a source of its own, since one
tells nothing of what another one counts. ``input_tokens`` includes cached and cache-write tokens
of all modalities; the parts by modality are without what was cached. Costs are another file
(``openai_costs.py``); usage is no basis for them (scale tier, free tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tokenbudget.formats.bills.cells import count_cell, counts_of, facts_of
from tokenbudget.formats.bills.lines import BillEntry, Place, UsageLine, shown, text_cell
from tokenbudget.formats.bills.pages import OPENAI, Page, Result, load_pages, page_text, read_pages

PROVIDER: Final = "openai"
SOURCE_PREFIX: Final = "openai-usage-"
BATCH: Final = "batch"
# The usual tier has two names.
STANDARD_NAMES: Final = {"default": "standard"}
TRUE_WORDS: Final = frozenset({True, "true", "TRUE", "True"})
FACTS: Final = {
    "user_id": "x_user",
    "size": "x_size",
    "source": "x_source",
    "vector_store_id": "x_vector_store",
    "context_level": "x_context_level",
    "project_name": "x_project_name",
}
TOTALS: Final = {
    "input_tokens": "input_tokens",
    "input_cached_tokens": "cached_input_tokens",
    "input_cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "output_image_tokens": "output_image_tokens",
    "input_cached_audio_tokens": "cached_audio_tokens",
    "input_cached_image_tokens": "cached_image_tokens",
}
MODALITIES: Final = {
    "input_audio_tokens": "cached_audio_tokens",
    "input_image_tokens": "cached_image_tokens",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: its name, what its results are called and which counts they have.

    ``needed`` is the count without which a result says nothing. ``requests`` is the count of
    requests, None where those are counted by another endpoint too.
    """

    name: str
    result_name: str
    needed: str
    counts: Mapping[str, str] = field(default_factory=dict)
    requests: str | None = "num_model_requests"

    @property
    def source(self) -> str:
        """Give the source that its usage is stored under."""
        return SOURCE_PREFIX + self.name

    @property
    def mark(self) -> str:
        """Give the word by which a page is known."""
        return f'"organization.usage.{self.result_name}.result"'


ENDPOINTS: Final = (
    Endpoint("completions", "completions", "input_tokens", TOTALS),
    Endpoint("embeddings", "embeddings", "input_tokens", {"input_tokens": "input_tokens"}),
    Endpoint("moderations", "moderations", "input_tokens", {"input_tokens": "input_tokens"}),
    Endpoint("images", "images", "images", {"images": "images"}),
    Endpoint("audio_speeches", "audio_speeches", "characters", {"characters": "input_characters"}),
    Endpoint(
        "audio_transcriptions", "audio_transcriptions", "seconds", {"seconds": "audio_seconds"}
    ),
    Endpoint("vector_stores", "vector_stores", "usage_bytes", {"usage_bytes": "usage_bytes"}, None),
    Endpoint(
        "code_interpreter_sessions",
        "code_interpreter_sessions",
        "num_sessions",
        {"num_sessions": "code_executions"},
        None,
    ),
    Endpoint(
        "file_search_calls",
        "file_searches",
        "num_requests",
        {"num_requests": "file_searches"},
        None,
    ),
    Endpoint(
        "web_search_calls", "web_searches", "num_requests", {"num_requests": "web_searches"}, None
    ),
)
ENDPOINT_BY_NAME: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS}
COMPLETIONS: Final = ENDPOINT_BY_NAME["completions"]


def recogniser(endpoint: Endpoint) -> Callable[[bytes], bool]:
    """Give what tells whether the first part of a file looks like a page of this endpoint."""

    def recognises(head: bytes) -> bool:
        text = page_text(head)
        return text is not None and endpoint.mark in text

    return recognises


def reader(endpoint: Endpoint) -> Callable[[Path], Iterator[BillEntry]]:
    """Give what reads a file of pages of this endpoint.

    It raises BadFile naming the row (counted over the file) or bucket, the column and the rule.
    """

    def read(path: Path) -> Iterator[BillEntry]:
        pages = load_pages(path, f"usage of {endpoint.name}")
        return read_pages(pages, path, OPENAI, partial(_read_result, endpoint))

    return read


def read_page(page: Page, path: Path, endpoint: Endpoint) -> Iterator[BillEntry]:
    """Give the same of a page that was fetched; ``path`` names it in errors."""
    return read_pages([page], path, OPENAI, partial(_read_result, endpoint))


def usage_line(endpoint: Endpoint, result: Result) -> UsageLine:
    """Give what one result, or one row of the dashboard's export, says was used."""
    facts, place = result.facts, result.place
    if count_cell(facts.get(endpoint.needed), place, endpoint.needed) is None:
        raise place.refuse(endpoint.needed, "must not be null")
    requests = endpoint.requests
    return UsageLine(
        row_number=result.row_number,
        provider=PROVIDER,
        account=text_cell(facts.get("organization_id"), place, "organization_id") or "",
        period=result.period,
        quantities=_quantities(endpoint, facts, place),
        requests=None if requests is None else count_cell(facts.get(requests), place, requests),
        project=text_cell(facts.get("project_id"), place, "project_id"),
        api_key=text_cell(facts.get("api_key_id"), place, "api_key_id"),
        model=text_cell(facts.get("model"), place, "model"),
        service_tier=_tier(facts, place),
        tags=facts_of(facts, FACTS, place),
    )


def _read_result(endpoint: Endpoint, result: Result) -> Iterator[UsageLine]:
    name = result.facts.get("object")
    if name is not None and f'"{name}"' != endpoint.mark:
        raise result.place.refuse("object", f"{shown(name)} is no usage of {endpoint.name}")
    yield usage_line(endpoint, result)


def _quantities(endpoint: Endpoint, facts: Mapping[str, Any], place: Place) -> dict[str, int]:
    quantities = counts_of(facts, endpoint.counts, place)
    if endpoint is not COMPLETIONS:
        return quantities
    for column, cached_unit in MODALITIES.items():
        uncached = count_cell(facts.get(column), place, column)
        if uncached is not None:
            # Ours holds what was cached too.
            quantities[column] = uncached + quantities.get(cached_unit, 0)
    parts = quantities.get("cached_input_tokens", 0) + quantities.get("cache_write_tokens", 0)
    if parts > quantities["input_tokens"]:
        raise place.refuse(
            "input_cached_tokens", f"cached and written {parts} exceed the input_tokens"
        )
    return quantities


def _tier(facts: Mapping[str, Any], place: Place) -> str | None:
    if facts.get(BATCH) in TRUE_WORDS:
        return BATCH
    tier = text_cell(facts.get("service_tier"), place, "service_tier")
    return STANDARD_NAMES.get(tier or "", tier)

"""Pages of Anthropic's usage report for messages and its analytics twin: usage, never a bill.

Shapes: ``/v1/organizations/usage_report/messages`` and ``/v1/organizations/analytics/usage_report``
(Claude Platform documentation, August 2026). Its input **excludes** cache reads and writes; ours
is the total. The report has no count of requests, its analytics twin may have one. No workspace is
the default workspace, no key the Console. Priority-tier tokens are here and have no cost row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tokenbudget.formats.bills.cells import count_cell, counts_of, facts_of
from tokenbudget.formats.bills.lines import BillEntry, Place, UsageLine, text_cell
from tokenbudget.formats.bills.pages import (
    ANTHROPIC,
    Page,
    Result,
    load_pages,
    page_text,
    read_pages,
)

SOURCE: Final = "anthropic-usage"
PROVIDER: Final = "anthropic"
MARKS: Final = (
    re.compile(r'"starting_at"'),
    # As a value it is in cost reports too.
    re.compile(r'"uncached_input_tokens"\s*:'),
)
COUNTS: Final = {
    "cache_read_input_tokens": "cached_input_tokens",
    "output_tokens": "output_tokens",
}
WRITES: Final = {
    "ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "ephemeral_1h_input_tokens": "cache_write_1h_tokens",
}
FACTS: Final = {
    "account_id": "x_user",
    "service_account_id": "x_service_account",
    "context_window": "x_context_window",
    "product": "x_product",
    "speed": "x_speed",
}


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a page of a usage report."""
    text = page_text(head)
    return text is not None and all(mark.search(text) for mark in MARKS)


def read(path: Path) -> Iterator[BillEntry]:
    """Give what every bucket says in order, and a mark for each bucket without any.

    Raises BadFile naming the row (counted over the file) or bucket, the column and the rule.
    """
    return read_pages(load_pages(path, "usage"), path, ANTHROPIC, _read_result)


def read_page(page: Page, path: Path) -> Iterator[BillEntry]:
    """Give the same of a page that was fetched; ``path`` names it in errors."""
    return read_pages([page], path, ANTHROPIC, _read_result)


def total_input(uncached: int, quantities: Mapping[str, int]) -> int:
    """Give the input with what was read from and written to the cache, which are told apart."""
    parts = ("cached_input_tokens", *WRITES.values(), "cache_write_tokens")
    return uncached + sum(quantities.get(part, 0) for part in parts)


def _read_result(result: Result) -> Iterator[UsageLine]:
    facts, place = result.facts, result.place
    if facts.get("rbac_group_id") is not None:
        raise place.refuse("rbac_group_id", "groups overlap, so that their sum is not the usage")
    yield UsageLine(
        row_number=result.row_number,
        provider=PROVIDER,
        account="",
        period=result.period,
        quantities=_quantities(facts, place),
        requests=count_cell(facts.get("requests"), place, "requests"),
        project=text_cell(facts.get("workspace_id"), place, "workspace_id"),
        api_key=text_cell(facts.get("api_key_id"), place, "api_key_id"),
        model=text_cell(facts.get("model"), place, "model"),
        service_tier=text_cell(facts.get("service_tier"), place, "service_tier"),
        region=text_cell(facts.get("inference_geo"), place, "inference_geo"),
        tags=facts_of(facts, FACTS, place),
    )


def _quantities(facts: Mapping[str, Any], place: Place) -> dict[str, int]:
    uncached = count_cell(facts.get("uncached_input_tokens"), place, "uncached_input_tokens")
    if uncached is None:
        raise place.refuse("uncached_input_tokens", "must not be null")
    quantities = counts_of(facts, COUNTS, place)
    quantities |= counts_of(_object(facts, "cache_creation", place), WRITES, place)
    searches = _object(facts, "server_tool_use", place)
    quantities |= counts_of(searches, {"web_search_requests": "web_searches"}, place)
    return {"input_tokens": total_input(uncached, quantities), **quantities}


def _object(facts: Mapping[str, Any], field: str, place: Place) -> Mapping[str, Any]:
    found = facts.get(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise place.refuse(field, "must be an object")
    return found

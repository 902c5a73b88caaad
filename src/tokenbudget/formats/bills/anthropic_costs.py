"""Pages of Anthropic's cost report and of its analytics twin, as saved to files: a bill.

Shapes: ``/v1/organizations/cost_report`` (Claude Platform documentation, August 2026) and
``/v1/organizations/analytics/cost_report`` (SDK 2.11). **Amounts are cents**, a decimal text with
fractions of a cent. Neither names a key: what a workspace cost is divided by its tokens later.
Priority-tier tokens have no row here. The analytics twin keeps the 100 largest groups of a bucket
and tells nothing of the rest, and its groups of people overlap: both are refused, since their sum
would not be the bill. Both tell of the same money, so each replaces the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tokenbudget.formats.bills.cells import CENT, category_of, facts_of, multiply_exactly
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    amount_cell,
    currency_cell,
    refuse_file,
    text_cell,
)
from tokenbudget.formats.bills.pages import (
    ANTHROPIC,
    Page,
    Result,
    list_of,
    load_pages,
    page_text,
    read_pages,
)

SOURCE: Final = "anthropic-costs"
PROVIDER: Final = "anthropic"
MARKS: Final = ('"starting_at"', '"amount"')
ANALYTICS_MARK: Final = "data_refreshed_at"
MAX_GROUPS: Final = 100
UNITS_OF_TOKENS: Final[Mapping[str, str]] = {
    "uncached_input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cached_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
}
UNITS_OF_COSTS: Final[Mapping[str, str | None]] = {
    # Which tokens is told by the other field, or not at all.
    "tokens": None,
    "web_search": "web_searches",
    "code_execution": "code_executions",
}
FACTS: Final = {
    "service_tier": "x_service_tier",
    "context_window": "x_context_window",
    "inference_geo": "x_region",
    "cost_type": "x_cost_type",
    "product": "x_product",
    "speed": "x_speed",
}


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a page of a cost report."""
    text = page_text(head)
    return text is not None and all(mark in text for mark in MARKS)


def read(path: Path) -> Iterator[BillEntry]:
    """Give the lines of every bucket in order, and a mark for each bucket without any.

    Raises BadFile naming the row (counted over the file) or bucket, the column and the rule.
    """
    for page in (pages := load_pages(path, "costs")):
        _require_whole(page, path)
    yield from read_pages(pages, path, ANTHROPIC, _read_result)


def read_page(page: Page, path: Path) -> Iterator[BillEntry]:
    """Give the same of a page that was fetched; ``path`` names it in errors."""
    _require_whole(page, path)
    yield from read_pages([page], path, ANTHROPIC, _read_result)


def _require_whole(page: Page, path: Path) -> None:
    """Refuse a page of analytics that leaves groups out."""
    if ANALYTICS_MARK not in page:
        return
    for number, bucket in enumerate(list_of(page, "data", path), start=1):
        results = bucket.get("results") if isinstance(bucket, dict) else None
        if isinstance(results, list) and len(results) >= MAX_GROUPS:
            raise refuse_file(
                path,
                f"bucket {number} has {len(results)} groups, and the API leaves further ones out;"
                " fetch it with fewer group_by",
            )


def _read_result(result: Result) -> Iterator[BillLine]:
    facts, place = result.facts, result.place
    if facts.get("rbac_group_id") is not None:
        raise place.refuse("rbac_group_id", "groups overlap, so that their sum is not the bill")
    model = text_cell(facts.get("model"), place, "model")
    cents = amount_cell(facts.get("amount"), place, "amount")
    list_cents = facts.get("list_amount")
    listed = None if list_cents is None else amount_cell(list_cents, place, "list_amount")
    billed = multiply_exactly(cents, CENT)
    yield BillLine(
        row_number=result.row_number,
        provider=PROVIDER,
        account="",
        period=result.period,
        category=category_of(model, billed),
        billed=billed,
        currency=currency_cell(facts.get("currency"), place, "currency"),
        project=text_cell(facts.get("workspace_id"), place, "workspace_id"),
        model=model,
        usage_type=_usage_type(facts),
        description=text_cell(facts.get("description"), place, "description"),
        listed=None if listed is None else multiply_exactly(listed, CENT),
        tags=facts_of(facts, FACTS, place),
    )


def _usage_type(facts: Mapping[str, Any]) -> str | None:
    token_type, cost_type = facts.get("token_type"), facts.get("cost_type")
    if isinstance(token_type, str):
        return UNITS_OF_TOKENS.get(token_type, token_type)
    return UNITS_OF_COSTS.get(cost_type, cost_type) if isinstance(cost_type, str) else None

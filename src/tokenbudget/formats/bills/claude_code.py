"""Pages of Anthropic's Claude Code analytics: a meter, never a bill.

Shape: ``/v1/organizations/usage_report/claude_code`` (Claude Platform documentation, August 2026),
one UTC day a call, a row per actor with its models. Its costs are estimates of what the cost
report bills, and its tokens are in the usage report too, so nothing of it is ever added to either:
the estimate is kept as a tag. A day with several pages belongs in one file, a JSON array of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.anthropic_usage import PROVIDER, total_input
from tokenbudget.formats.bills.cells import (
    CENT,
    count_cell,
    counts_of,
    day_cell,
    facts_of,
    multiply_exactly,
)
from tokenbudget.formats.bills.lines import (
    BillEntry,
    EmptyPeriod,
    Place,
    UsageLine,
    amount_cell,
    text_cell,
)
from tokenbudget.formats.bills.pages import Page, list_of, load_pages, page_text

SOURCE: Final = "anthropic-claude-code"
MARKS: Final = ('"core_metrics"', '"model_breakdown"')
COUNTS: Final = {
    "cache_read": "cached_input_tokens",
    "cache_creation": "cache_write_tokens",
    "output": "output_tokens",
}
ESTIMATE: Final = "x_estimated_cost"
ACTOR_FACTS: Final = {"email_address": "x_user", "api_key_name": "x_api_key_name"}
ROW_FACTS: Final = {"terminal_type": "x_terminal", "customer_type": "x_customer_type"}


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a page of Claude Code analytics."""
    text = page_text(head)
    return text is not None and all(mark in text for mark in MARKS)


def read(path: Path) -> Iterator[BillEntry]:
    """Give the usage of every actor and model in order, and a mark for each actor without any.

    Raises BadFile naming the row (counted over the file), the column and the rule.
    """
    return read_rows_of(load_pages(path, "Claude Code analytics"), path)


def read_rows_of(pages: Sequence[Page], path: Path) -> Iterator[BillEntry]:
    """Give the same of pages that were fetched; ``path`` names them in errors."""
    rows = [row for page in pages for row in list_of(page, "data", path)]
    for row_number, row in enumerate(rows, start=1):
        place = Place(path, f"row {row_number}")
        if not isinstance(row, dict):
            raise place.refuse("data", "a row must be an object")
        account = text_cell(row.get("organization_id"), place, "organization_id") or ""
        period = day_cell(row.get("date"), place, "date")
        models = row.get("model_breakdown")
        if not isinstance(models, list):
            raise place.refuse("model_breakdown", "must be a list")
        if not models:
            yield EmptyPeriod(account, period)
        tags = facts_of(_object(row, "actor", place), ACTOR_FACTS, place)
        tags |= facts_of(row, ROW_FACTS, place)
        for model in models:
            line = _read_model(model, place, period, tags)
            yield UsageLine(
                row_number=row_number, provider=PROVIDER, account=account, period=period, **line
            )


def _read_model(
    model: object, place: Place, period: Period, tags: Mapping[str, str]
) -> dict[str, Any]:
    if not isinstance(model, dict):
        raise place.refuse("model_breakdown", "a model must be an object")
    tokens = _object(model, "tokens", place)
    uncached = count_cell(tokens.get("input"), place, "tokens.input")
    if uncached is None:
        raise place.refuse("tokens.input", "must not be null")
    quantities = counts_of(tokens, COUNTS, place)
    cost = _object(model, "estimated_cost", place)
    estimate = {}
    if cost.get("amount") is not None:
        cents = amount_cell(cost["amount"], place, "estimated_cost.amount")
        currency = text_cell(cost.get("currency"), place, "estimated_cost.currency") or "USD"
        estimate[ESTIMATE] = f"{multiply_exactly(cents, CENT):f} {currency}"
    return {
        "quantities": {"input_tokens": total_input(uncached, quantities), **quantities},
        "model": text_cell(model.get("model"), place, "model"),
        "tags": {**tags, **estimate},
    }


def _object(row: Mapping[str, Any], field: str, place: Place) -> Mapping[str, Any]:
    found = row.get(field)
    if not isinstance(found, dict):
        raise place.refuse(field, "must be an object")
    return found

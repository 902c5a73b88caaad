"""OpenRouter's activity, from its API (JSON) and from its site (CSV): a bill in credits, in USD.

Shapes: ``GET /api/v1/activity`` (SDK 1.3) and the site's export (seen in public copies). What
OpenRouter takes for a day and model is ``usage``. ``byok_usage_inference`` was paid to the
customer's own provider, on whose bill it stands: it is kept as a tag and never billed here.
Cached tokens are inside the prompt's and may exceed them where answers were replayed; then they are
a tag. Fees for buying credits, and taxes, are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.formats.bills.cells import count_cell, day_cell, facts_of, looks_like
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    Place,
    UsageLine,
    amount_cell,
    required_text_cell,
    text_cell,
)
from tokenbudget.formats.bills.pages import list_of, load_pages, page_text
from tokenbudget.formats.bills.tables import read_rows

SOURCE: Final = "openrouter-activity"
PROVIDER: Final = "openrouter"
CURRENCY: Final = "USD"
MARKS: Final = ('"byok_usage_inference"', '"date"', '"requests"')
BYOK_TAG: Final = "x_byok_usage"
FACTS: Final = {
    "model_permaslug": "x_model_version",
    "provider_name": "x_upstream_provider",
    "endpoint_id": "x_endpoint",
}


@dataclass(frozen=True, slots=True)
class _Columns:
    """How one of the two shapes names what both tell."""

    day: str
    model: str
    usage: str
    byok: str
    requests: str
    input: str
    output: str
    reasoning: str
    cached: str = "cached_tokens"


JSON_COLUMNS: Final = _Columns(
    "date",
    "model",
    "usage",
    "byok_usage_inference",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
)
CSV_COLUMNS: Final = _Columns(
    "Date",
    "Slug",
    "Usage",
    "BYOK Usage",
    "Requests",
    "Prompt Tokens",
    "Completion Tokens",
    "Reasoning Tokens",
)


def recognises_json(head: bytes) -> bool:
    """Tell whether the first part of a file looks like an answer of the API."""
    text = page_text(head)
    return text is not None and all(mark in text for mark in MARKS)


def recognises_csv(head: bytes) -> bool:
    """Tell whether a file begins like an export of the site."""
    columns = CSV_COLUMNS
    return looks_like(head, columns.day, columns.model, columns.usage, columns.byok)


def read_json(path: Path) -> Iterator[BillEntry]:
    """Give of every row what was billed and what was used, in order.

    Raises BadFile naming the row, the column and the rule.
    """
    pages = load_pages(path, "activity")
    rows = (row for page in pages for row in list_of(page, "data", path))
    return _read(enumerate(rows, start=1), path, JSON_COLUMNS)


def read_csv(path: Path) -> Iterator[BillEntry]:
    """Give the same of an export of the site."""
    columns = CSV_COLUMNS
    required = (columns.day, columns.model, columns.usage, columns.byok)
    rows = read_rows(path, required=required, numbers=(columns.usage, columns.byok))
    return _read(rows, path, columns)


def _read(rows: Iterable[tuple[int, object]], path: Path, columns: _Columns) -> Iterator[BillEntry]:
    for number, row in rows:
        place = Place(path, f"row {number}")
        if not isinstance(row, dict):
            raise place.refuse("data", "a row must be an object")
        yield from _read_row(row, number, place, columns)


def _read_row(
    row: Mapping[str, Any], number: int, place: Place, columns: _Columns
) -> Iterator[BillEntry]:
    period = day_cell(row.get(columns.day), place, columns.day)
    model = required_text_cell(row.get(columns.model), place, columns.model)
    project = text_cell(row.get("workspace_id"), place, "workspace_id")
    byok = amount_cell(row.get(columns.byok), place, columns.byok)
    tags = facts_of(row, FACTS, place)
    if byok:
        tags[BYOK_TAG] = f"{byok:f} {CURRENCY}"
    yield BillLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=period,
        category=ChargeCategory.USAGE,
        billed=amount_cell(row.get(columns.usage), place, columns.usage),
        currency=CURRENCY,
        project=project,
        model=model,
        tags=tags,
    )
    quantities, odd = _quantities(row, place, columns)
    yield UsageLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=period,
        quantities=quantities,
        requests=count_cell(row.get(columns.requests), place, columns.requests),
        project=project,
        model=model,
        tags={**tags, **odd},
    )


def _quantities(
    row: Mapping[str, Any], place: Place, columns: _Columns
) -> tuple[dict[str, int], dict[str, str]]:
    """Give the quantities, and as a tag cached tokens that cannot be inside of the input."""
    units = {
        columns.input: "input_tokens",
        columns.cached: "cached_input_tokens",
        columns.output: "output_tokens",
        columns.reasoning: "reasoning_tokens",
    }
    counts = {unit: count_cell(row.get(name), place, name) for name, unit in units.items()}
    quantities = {unit: count for unit, count in counts.items() if count is not None}
    if quantities.get("cached_input_tokens", 0) > quantities.get("input_tokens", 0):
        return quantities, {"x_cached_tokens": str(quantities.pop("cached_input_tokens"))}
    return quantities, {}

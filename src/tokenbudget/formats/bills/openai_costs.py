"""Pages of OpenAI's costs API, ``GET /v1/organization/costs``, as saved to files: a bill.

Shape: OpenAI OpenAPI specification of 2026-08-21; amounts are dollars, as a number or as a text of
up to 30 decimals, buckets are half-open in Unix seconds (UTC). It owns that shape and refuses to
fetch. The ``line_item`` is a display text nobody documents: it is kept as it is, and read for a
model and a unit as far as that goes. Rows without one, and keys not named here, are normal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tokenbudget.formats.bills.cells import category_of, facts_of
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    amount_cell,
    currency_cell,
    decimal_cell,
    required_text_cell,
    text_cell,
)
from tokenbudget.formats.bills.pages import OPENAI, Page, Result, load_pages, page_text, read_pages

SOURCE: Final = "openai-costs"
PROVIDER: Final = "openai"
MARK: Final = '"organization.costs.result"'
FURTHER_FACTS: Final = {
    "project_name": "x_project_name",
    "user_id": "x_user",
    "user_email": "x_user_email",
    "api_source": "x_api_source",
}

# "gpt-4.1-2025-04-14 (batch), cached input": a name, perhaps a tier, perhaps a unit.
LINE_ITEM: Final = re.compile(r"(?P<name>\S+)(?: \([^)]+\))?(?:, (?P<unit>.+))?")
# "whisper-1" and "o3" are names, "input_tokens" is not.
MODEL_NAME: Final = re.compile(r"[A-Za-z].*[-\d].*")
UNITS_OF_WORDS: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "input tokens": "input_tokens",
    "cached input": "cached_input_tokens",
    "cached input tokens": "cached_input_tokens",
    "cache write": "cache_write_tokens",
    "cache write input": "cache_write_tokens",
    "output": "output_tokens",
    "output tokens": "output_tokens",
    "audio input": "input_audio_tokens",
    "cached audio input": "cached_audio_tokens",
    "audio output": "output_audio_tokens",
    "image input": "input_image_tokens",
    "cached image input": "cached_image_tokens",
    "image output": "output_image_tokens",
    "image generation": "images",
    "web search tool calls": "web_searches",
    "file search tool calls": "file_searches",
}
# Whether a model is named, and the unit of the quantity: only models listen to seconds.
UNITS_OF_QUANTITIES: Final[Mapping[tuple[bool, str | None], str]] = {
    (True, "images"): "images",
    (True, "characters"): "input_characters",
    (True, "duration_seconds"): "audio_seconds",
}


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a page of costs."""
    text = page_text(head)
    return text is not None and MARK in text


def read(path: Path) -> Iterator[BillEntry]:
    """Give the lines of every bucket in order, and a mark for each bucket without any.

    Raises BadFile naming the row (counted over the file) or bucket, the column and the rule.
    """
    return read_pages(load_pages(path, "costs"), path, OPENAI, _read_result)


def read_page(page: Page, path: Path) -> Iterator[BillEntry]:
    """Give the same of a page that was fetched; ``path`` names it in errors."""
    return read_pages([page], path, OPENAI, _read_result)


def parse_line_item(line_item: str | None) -> tuple[str | None, str | None]:
    """Give the model and the unit a line item names, each None when it names none."""
    match = LINE_ITEM.fullmatch(line_item or "")
    if match is None or not MODEL_NAME.fullmatch(match["name"]):
        return None, None
    return match["name"], match["unit"]


def usage_type_of(line_item: str | None, quantity_unit: str | None) -> str | None:
    """Give the ledger's unit for a line item, the provider's word for the unit of a model.

    It is None where neither the line item nor the unit of its quantity tells.
    """
    model, word = parse_line_item(line_item)
    known = UNITS_OF_WORDS.get((word or line_item or "").replace("_", " ").lower())
    return known or word or UNITS_OF_QUANTITIES.get((model is not None, quantity_unit))


def cost_line(result: Result) -> BillLine:
    """Give the line of one result, or of one row of the dashboard's export."""
    facts, place = result.facts, result.place
    amount = facts.get("amount")
    if not isinstance(amount, dict):
        raise place.refuse("amount", "must be an object with value and currency")
    line_item = text_cell(facts.get("line_item"), place, "line_item")
    model, item_unit = parse_line_item(line_item)
    billed = amount_cell(amount.get("value"), place, "amount.value")
    currency = required_text_cell(amount.get("currency"), place, "amount.currency")
    quantity = facts.get("quantity")
    quantity_unit = text_cell(facts.get("quantity_unit"), place, "quantity_unit")
    return BillLine(
        row_number=result.row_number,
        provider=PROVIDER,
        account=text_cell(facts.get("organization_id"), place, "organization_id") or "",
        period=result.period,
        category=category_of(model, billed),
        billed=billed,
        currency=currency_cell(currency.upper(), place, "amount.currency"),
        project=text_cell(facts.get("project_id"), place, "project_id"),
        api_key=text_cell(facts.get("api_key_id"), place, "api_key_id"),
        model=model,
        usage_type=usage_type_of(line_item, quantity_unit),
        description=line_item,
        quantity=None if quantity is None else decimal_cell(quantity, place, "quantity"),
        unit=" ".join(filter(None, (item_unit, quantity_unit))) or None,
        tags=facts_of(facts, FURTHER_FACTS, place),
    )


def _read_result(result: Result) -> Iterator[BillLine]:
    yield cost_line(result)

"""Pages of OpenAI's costs API, ``GET /v1/organization/costs``, as saved to files.

Shape: OpenAI OpenAPI specification of 2026-08-21; amounts are dollars, as a number or as a text of
up to 30 decimals, buckets are half-open in Unix seconds (UTC). It owns that shape and refuses to
fetch. The ``line_item`` is a display text nobody documents: it is kept as it is, and read for a
model and a unit as far as that goes. Rows without one, and keys not named here, are normal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.lines import (
    BillLine,
    EmptyPeriod,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    period_of,
    refuse_file,
    required_text_cell,
    shown,
    text_cell,
)

SOURCE: Final = "openai-costs"
PROVIDER: Final = "openai"
MARK: Final = b'"organization.costs.result"'
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_UNIX_SECONDS: Final = 253_402_300_799
FURTHER_FACTS: Final = ("api_key_id", "project_name")

# "gpt-4.1-2025-04-14 (batch), cached input": a name, perhaps a tier, perhaps a unit.
LINE_ITEM: Final = re.compile(r"(?P<name>\S+)(?: \([^)]+\))?(?:, (?P<unit>.+))?")
# "whisper-1" and "o3" are names, "input_tokens" is not.
MODEL_NAME: Final = re.compile(r"[A-Za-z].*[-\d].*")


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a page of costs."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and MARK in head


def read(path: Path) -> Iterator[BillLine | EmptyPeriod]:
    """Give the lines of every bucket in order, and a mark for each bucket without any.

    Raises BadFile naming the row (counted over the whole page) or bucket, the column and the rule.
    """
    buckets = _load_page(path).get("data")
    if not isinstance(buckets, list):
        raise refuse_file(path, "must be a page with a list named data")
    row_number = 0
    empty_periods: list[Period] = []
    accounts: set[str] = set()
    for bucket_number, bucket in enumerate(buckets, start=1):
        place = Place(path, f"bucket {bucket_number}")
        period, results = _read_bucket(bucket, place)
        if not results:
            empty_periods.append(period)
        for result in results:
            row_number += 1
            line = _read_result(result, row_number, period, path)
            accounts.add(line.account)
            yield line
    for account in sorted(accounts or {""}):
        yield from (EmptyPeriod(account, period) for period in empty_periods)


def parse_line_item(line_item: str | None) -> tuple[str | None, str | None]:
    """Give the model and the unit a line item names, each None when it names none."""
    match = LINE_ITEM.fullmatch(line_item or "")
    if match is None or not MODEL_NAME.fullmatch(match["name"]):
        return None, None
    return match["name"], match["unit"]


def _load_page(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise refuse_file(path, f"is larger than the {MAX_FILE_BYTES} bytes of a page of costs")
    try:
        page = json.loads(path.read_bytes(), parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise refuse_file(path, f"is not JSON: {error}") from None
    if not isinstance(page, dict):
        raise refuse_file(path, "must be one JSON object, a page of costs")
    return page


def _read_bucket(bucket: object, place: Place) -> tuple[Period, Sequence[object]]:
    if not isinstance(bucket, dict):
        raise place.refuse("data", "a bucket must be an object")
    start = _instant(bucket.get("start_time"), place, "start_time")
    end = _instant(bucket.get("end_time"), place, "end_time")
    # Pages of 2024 spelt it "result".
    results = bucket.get("results", bucket.get("result"))
    if not isinstance(results, list):
        raise place.refuse("results", "must be a list")
    return period_of(start, end, place, "end_time"), results


def _read_result(result: object, row_number: int, period: Period, path: Path) -> BillLine:
    place = Place(path, f"row {row_number}")
    if not isinstance(result, dict):
        raise place.refuse("results", "a result must be an object")
    amount = result.get("amount")
    if not isinstance(amount, dict):
        raise place.refuse("amount", "must be an object with value and currency")
    line_item = text_cell(result.get("line_item"), place, "line_item")
    model, item_unit = parse_line_item(line_item)
    billed = amount_cell(amount.get("value"), place, "amount.value")
    currency = required_text_cell(amount.get("currency"), place, "amount.currency")
    quantity = result.get("quantity")
    quantity_unit = text_cell(result.get("quantity_unit"), place, "quantity_unit")
    facts = {name: text_cell(result.get(name), place, name) for name in FURTHER_FACTS}
    return BillLine(
        row_number=row_number,
        provider=PROVIDER,
        account=text_cell(result.get("organization_id"), place, "organization_id") or "",
        period=period,
        category=_category(model, billed),
        billed=billed,
        currency=currency_cell(currency.upper(), place, "amount.currency"),
        project=text_cell(result.get("project_id"), place, "project_id"),
        model=model,
        description=line_item,
        quantity=None if quantity is None else decimal_cell(quantity, place, "quantity"),
        unit=" ".join(filter(None, (item_unit, quantity_unit))) or None,
        tags={name: fact for name, fact in facts.items() if fact is not None},
    )


def _category(model: str | None, billed: Decimal) -> ChargeCategory:
    # The API does not say; money given back that names no model is what a credit looks like.
    return ChargeCategory.CREDIT if model is None and billed < 0 else ChargeCategory.USAGE


def _instant(cell: object, place: Place, column: str) -> datetime:
    if isinstance(cell, bool) or not isinstance(cell, int) or not 0 <= cell <= MAX_UNIX_SECONDS:
        raise place.refuse(column, f"{shown(cell)} is not a time in whole Unix seconds")
    return datetime.fromtimestamp(cell, tz=UTC)

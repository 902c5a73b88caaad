"""Google Cloud's billing export, standard and detailed, as JSON lines extracted from BigQuery.

Fields: docs.cloud.google.com/billing, "Structure of Detailed data export". It owns that shape: a
row's cost is before credits, which become lines of their own; timestamps are
``2026-09-01 08:00:00 UTC``; numbers come as numbers or as texts. Rows of other services stay, under
the provider ``google_cloud``.

Invoices are cut at midnight in California, so the invoice's month is the row's own and not that of
its UTC time. That is why a file replaces the invoice months it covers, wholly, and not days: the
last hours of one month and the first of the next share a UTC day. An extract must therefore hold
whole invoice months (``WHERE invoice.month = '202609'``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.months import month_period
from tokenbudget.formats.bills.cloud_meters import CACHE_STORAGE, Meter, read_google
from tokenbudget.formats.bills.folding import ROW, TableRow, TableShape, fold_frames
from tokenbudget.formats.bills.lines import (
    BillLine,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    parse_utc,
    parsed_cell,
    period_of,
    required_text_cell,
    shown,
    text_cell,
)
from tokenbudget.formats.bills.tables import Cells, columns_of_head, read_objects
from tokenbudget.formats.bills.tags import tags_cell

SOURCE: Final = "google-cloud"
CLOUD: Final = "google_cloud"
PROVIDERS: Final = {"Vertex AI": "gcp.vertex_ai", "Gemini API": "gcp.gemini"}
GENERATIVE: Final = "Generative Language"
RESELLER: Final = "THIRD_PARTY_RESELLER"
ROWS_PER_FRAME: Final = 20_000
MONTH: Final = re.compile(r"(\d{4})(0[1-9]|1[0-2])", re.ASCII)
UTC_WORD: Final = " UTC"
TOKENS: Final = "tokens"

CATEGORIES: Final[Mapping[str, ChargeCategory]] = {
    "regular": ChargeCategory.USAGE,
    "tax": ChargeCategory.TAX,
    "adjustment": ChargeCategory.ADJUSTMENT,
    "rounding_error": ChargeCategory.ADJUSTMENT,
}
# What is read, by where it is in a row.
PATHS: Final[Mapping[str, str]] = {
    "billing_account_id": "billing_account_id",
    "usage_start_time": "usage_start_time",
    "usage_end_time": "usage_end_time",
    "cost": "cost",
    "currency": "currency",
    "cost_type": "cost_type",
    "invoice.month": "invoice.month",
    "service.description": "service.description",
    "sku.description": "sku.description",
    "project.id": "project.id",
    "transaction_type": "transaction_type",
    "seller_name": "seller_name",
    "usage.unit": "usage.unit",
    "usage.amount": "usage.amount",
    "cost_at_list": "cost_at_list",
    "adjustment_info.mode": "adjustment_info.mode",
    "adjustment_info.description": "adjustment_info.description",
    "labels": "labels",
    "project.labels": "project.labels",
}
CREDIT: Final = "credits.name"
AMOUNTS: Final = ("cost", "usage.amount", "cost_at_list")
TIMES: Final = ("usage_start_time", "usage_end_time")


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like rows of the billing export."""
    return {"billing_account_id", "usage_start_time", "cost", "sku"} <= set(columns_of_head(head))


def read(path: Path) -> Iterator[BillLine]:
    """Give the lines, hours folded into days, each credit one of its own.

    Raises BadFile naming the row (the line of the file), the field and the rule.
    """
    yield from fold_frames(_frames(path), SHAPE, Place(path, ""))


def parse_instant(text: str) -> datetime | None:
    """Give the instant of ``2026-09-01 08:00:00 UTC`` or of RFC 3339 in UTC, else None."""
    return parse_utc(text.removesuffix(UTC_WORD))


def _frames(path: Path) -> Iterator[pl.DataFrame]:
    schema = {ROW: pl.Int64, **dict.fromkeys(SHAPE.columns, pl.String)}
    rows = (
        {ROW: number, **row}
        for number, told in read_objects(path)
        for row in _flat_rows(told, Place(path, f"row {number}"))
    )
    while batch := list(islice(rows, ROWS_PER_FRAME)):
        yield pl.DataFrame(batch, schema=schema)


def _flat_rows(told: Mapping[str, Any], place: Place) -> Iterator[dict[str, str | None]]:
    """Give the row as texts, and one more for each of its credits."""
    row = {name: _text_of(_at(told, path, place)) for name, path in PATHS.items()}
    yield {**row, CREDIT: None}
    credits_given = told.get("credits") or []
    if not isinstance(credits_given, list) or any(
        not isinstance(each, dict) for each in credits_given
    ):
        raise place.refuse("credits", "must be a list of objects")
    for credit in credits_given:
        words = (credit.get("type"), credit.get("full_name") or credit.get("name"))
        yield {
            **row,
            "cost": _text_of(credit.get("amount")),
            "usage.amount": None,
            "cost_at_list": None,
            CREDIT: ", ".join(str(word) for word in words if word) or "credit",
        }


def _at(told: Mapping[str, Any], path: str, place: Place) -> object:
    value: object = told
    for name in path.split("."):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise place.refuse(path, "must be inside of an object")
        value = value.get(name)
    return value


def _text_of(cell: object) -> str | None:
    if isinstance(cell, list | dict):
        return json.dumps(cell, default=str, sort_keys=True) if cell else None
    return None if cell is None or cell == "" else str(cell)


@dataclass(frozen=True, slots=True)
class _Facts:
    provider: str
    account: str
    category: ChargeCategory
    currency: str
    month: int
    meter: Meter
    unit: str | None
    project: str | None
    description: str | None
    is_correction: bool
    tags: Mapping[str, str]


def _read_facts(cells: Cells, place: Place) -> _Facts:
    provider = _provider(cells)
    sku = text_cell(cells["sku.description"], place, "sku.description")
    kind = cells["cost_type"] or "regular"
    if kind not in CATEGORIES:
        raise place.refuse("cost_type", f"{shown(kind)} is not one of {', '.join(CATEGORIES)}")
    is_credit = cells[CREDIT] is not None
    meter = Meter() if provider == CLOUD or kind == "tax" else read_google(sku or "")
    is_of_tokens = meter.usage_type not in (None, CACHE_STORAGE)
    words = (sku, cells[CREDIT], cells["adjustment_info.description"])
    return _Facts(
        provider=provider,
        account=required_text_cell(cells["billing_account_id"], place, "billing_account_id"),
        category=ChargeCategory.CREDIT if is_credit else CATEGORIES[kind],
        currency=currency_cell(cells["currency"], place, "currency"),
        month=_month(cells, place),
        meter=meter,
        unit=TOKENS if is_of_tokens else text_cell(cells["usage.unit"], place, "usage.unit"),
        project=text_cell(cells["project.id"], place, "project.id"),
        description=", ".join(filter(None, words)) or None,
        is_correction=cells["adjustment_info.mode"] is not None,
        tags=_tags(cells, place),
    )


def _read_line(facts: _Facts, row: TableRow) -> BillLine:
    cells, place = row.cells, row.place
    period = row.period or period_of(
        _instant(cells, TIMES[0], place), _instant(cells, TIMES[1], place), place, TIMES[1]
    )
    month = month_period(facts.month)
    if facts.is_correction and not month.contains(period.start):
        # What corrects an earlier month is a line of the invoice that carries it.
        period = month
    if cells["cost"] is None:
        raise place.refuse("cost", "must not be null")
    listed, amount = cells["cost_at_list"], cells["usage.amount"]
    return BillLine(
        row_number=row.number,
        folded_rows=row.rows,
        provider=facts.provider,
        account=facts.account,
        period=period,
        category=facts.category,
        billed=amount_cell(cells["cost"], place, "cost"),
        currency=facts.currency,
        project=facts.project,
        model=facts.meter.model,
        usage_type=facts.meter.usage_type,
        description=facts.description,
        quantity=None if amount is None else _quantity(amount, place),
        unit=None if amount is None else facts.unit,
        listed=None if listed is None else amount_cell(listed, place, "cost_at_list"),
        is_correction=facts.is_correction,
        month=facts.month,
        tags=facts.tags,
    )


SHAPE: Final = TableShape(
    starts_at=(TIMES[0], parse_instant),
    ends_at=(TIMES[1], parse_instant),
    amounts=AMOUNTS,
    dimensions=(*(name for name in PATHS if name not in (*TIMES, *AMOUNTS)), CREDIT),
    read_facts=_read_facts,
    read_line=_read_line,
)


def _quantity(text: str, place: Place) -> Decimal:
    return decimal_cell(text, place, "usage.amount")


def _instant(cells: Cells, column: str, place: Place) -> datetime:
    return parsed_cell(
        cells[column], place, column, parse_instant, "a time such as 2026-09-01 08:00:00 UTC"
    )


def _month(cells: Cells, place: Place) -> int:
    text = required_text_cell(cells["invoice.month"], place, "invoice.month")
    if not MONTH.fullmatch(text):
        raise place.refuse("invoice.month", f"{shown(text)} is not a month such as 202609")
    return int(text)


def _provider(cells: Cells) -> str:
    service = cells["service.description"] or ""
    if GENERATIVE in service:
        return PROVIDERS["Gemini API"]
    return PROVIDERS.get(service, CLOUD)


def _tags(cells: Cells, place: Place) -> Mapping[str, str]:
    tags = {
        **tags_cell(cells["project.labels"], place, "project.labels"),
        **tags_cell(cells["labels"], place, "labels"),
    }
    if cells["transaction_type"] == RESELLER and cells["seller_name"] is not None:
        tags["x_seller"] = cells["seller_name"]
    return tags

"""FOCUS cost and usage files, versions 1.0 to 1.2, as CSV or Parquet from whoever emits them.

Column names and rules: FOCUS_Spec tag v1.2. It owns reading them as text in batches, so memory does
not grow with the file; it refuses to check what one row cannot show (price times quantity, one
service one category). Also read, because files in the wild have them: a byte order mark, a literal
``NULL``, times printed ``2026-09-01 00:00:00``, columns of a newer version, no provider in a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period, format_instant
from tokenbudget.formats.bills.lines import (
    BillLine,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    parse_utc,
    period_of,
    refuse_file,
    required_text_cell,
    shown,
    text_cell,
)

SOURCE: Final = "focus"
PARQUET_MAGIC: Final = b"PAR1"
MARKS: Final = (b"BilledCost", b"BillingAccountId", b"ChargePeriodStart")
NULL_WORD: Final = "NULL"
CORRECTION: Final = "Correction"
ROWS_PER_BATCH: Final = 10_000
CACHED_TAGS: Final = 4_096
UNKNOWN_PROVIDER: Final = "unknown"

REQUIRED_COLUMNS: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargePeriodEnd",
    "ChargePeriodStart",
)
# Version 1.3 renamed the provider.
PROVIDER_COLUMNS: Final = ("ProviderName", "ServiceProviderName")
OPTIONAL_COLUMNS: Final = (
    "ChargeClass",
    "ChargeDescription",
    "ConsumedQuantity",
    "ConsumedUnit",
    "InvoiceId",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ServiceName",
    "SubAccountId",
    "Tags",
)
# The first of these that the file has names the model, even where its cell is empty.
MODEL_COLUMNS: Final = ("x_Model", "SkuMeter")

CATEGORIES: Final = {category.value.capitalize(): category for category in ChargeCategory}
# FOCUS names companies; OpenTelemetry, whose words the ledger uses, names their services.
SERVICES_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "aws": {"bedrock": "aws.bedrock"},
    "microsoft": {"openai": "azure.ai.openai", "foundry": "azure.ai.inference"},
    "google_cloud": {"vertex": "gcp.vertex_ai", "gemini": "gcp.gemini"},
}

Row = Mapping[str, str | None]


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like FOCUS; a Parquet file is taken for one."""
    return head.startswith(PARQUET_MAGIC) or all(mark in head for mark in MARKS)


def read(path: Path) -> Iterator[BillLine]:
    """Give the lines in the order of the file; wholly empty rows are passed over.

    Raises BadFile naming the row (the header is not counted), the column and the rule.
    """
    row_number = 0
    try:
        for row_number, row in enumerate(_rows(path), start=1):
            if any(cell is not None for cell in row.values()):
                yield _read_row(row, row_number, Place(path, f"row {row_number}"))
    except pl.exceptions.PolarsError as error:
        first_line = str(error).partition("\n")[0]
        raise refuse_file(path, f"cannot be read after row {row_number}: {first_line}") from None


def _rows(path: Path) -> Iterator[Row]:
    for batch in _text_columns(path).collect_batches(chunk_size=ROWS_PER_BATCH):
        yield from batch.iter_rows(named=True)


def _text_columns(path: Path) -> pl.LazyFrame:
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    if is_parquet:
        frame = pl.scan_parquet(path, glob=False)
    else:
        frame = pl.scan_csv(path, infer_schema=False, glob=False)
    schema = frame.collect_schema()
    names = _wanted_columns(path, schema.names())
    columns = [_as_text(path, name, schema[name]) for name in names]
    return frame.select(pl.when(column != NULL_WORD).then(column) for column in columns)


def _wanted_columns(path: Path, names: list[str]) -> list[str]:
    for name in REQUIRED_COLUMNS:
        if name not in names:
            raise refuse_file(path, f"column {name} is missing; FOCUS 1.0 to 1.2 requires it")
        if f"{name}_duplicated_0" in names:
            raise refuse_file(path, f"column {name} is there twice")
    providers = [name for name in PROVIDER_COLUMNS if name in names][:1]
    if not providers:
        raise refuse_file(path, "column ProviderName is missing; FOCUS 1.0 to 1.2 requires it")
    models = [name for name in MODEL_COLUMNS if name in names][:1]
    optional = [name for name in OPTIONAL_COLUMNS if name in names]
    return [*REQUIRED_COLUMNS, *providers, *models, *optional]


def _as_text(path: Path, name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC") if kind.time_zone else column
        return utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    if kind.is_nested():
        raise refuse_file(path, f"column {name} is {kind}; text is needed (a JSON object for Tags)")
    return column.cast(pl.String)


def _read_row(row: Row, row_number: int, place: Place) -> BillLine:
    charge = _period(row, "ChargePeriod", place)
    billing = _period(row, "BillingPeriod", place)
    # What corrects an earlier month is a line of the invoice that carries it, not of that day.
    is_of_other_month = not billing.contains(charge.start)
    quantity, unit = _quantity(row, place)
    list_cost = row.get("ListCost")
    return BillLine(
        row_number=row_number,
        provider=_provider(row, place),
        account=required_text_cell(row["BillingAccountId"], place, "BillingAccountId"),
        period=billing if is_of_other_month else charge,
        category=_category(row, place),
        billed=_required_amount(row, place),
        currency=currency_cell(row["BillingCurrency"], place, "BillingCurrency"),
        project=_text(row, "SubAccountId", place),
        model=_model(row, place),
        description=_text(row, "ChargeDescription", place),
        quantity=quantity,
        unit=unit,
        listed=None if list_cost is None else amount_cell(list_cost, place, "ListCost"),
        tags=_tags(row, place) | _further_facts(row, charge if is_of_other_month else None, place),
    )


def _period(row: Row, name: str, place: Place) -> Period:
    start = _instant(row, f"{name}Start", place)
    return period_of(start, _instant(row, f"{name}End", place), place, f"{name}End")


def _instant(row: Row, column: str, place: Place) -> datetime:
    text = required_text_cell(row[column], place, column)
    instant = parse_utc(text)
    if instant is None:
        raise place.refuse(column, f"{shown(text)} is not a UTC time such as 2026-09-01T00:00:00Z")
    return instant


def _required_amount(row: Row, place: Place) -> Decimal:
    text = required_text_cell(row["BilledCost"], place, "BilledCost")
    return amount_cell(text, place, "BilledCost")


def _text(row: Row, column: str, place: Place) -> str | None:
    return text_cell(row.get(column), place, column)


def _quantity(row: Row, place: Place) -> tuple[Decimal | None, str | None]:
    for kind in ("Consumed", "Pricing"):
        column = f"{kind}Quantity"
        text = row.get(column)
        if text is not None:
            return decimal_cell(text, place, column), _text(row, f"{kind}Unit", place)
    return None, None


def _category(row: Row, place: Place) -> ChargeCategory:
    word = required_text_cell(row["ChargeCategory"], place, "ChargeCategory")
    category = CATEGORIES.get(word)
    if category is None:
        raise place.refuse("ChargeCategory", f"{shown(word)} is not one of {', '.join(CATEGORIES)}")
    charge_class = row.get("ChargeClass")
    if charge_class not in (None, CORRECTION):
        raise place.refuse("ChargeClass", f"{shown(charge_class)} is neither null nor {CORRECTION}")
    return category


def _provider(row: Row, place: Place) -> str:
    column = next(name for name in PROVIDER_COLUMNS if name in row)
    name = _text(row, column, place)
    if name is None:
        return UNKNOWN_PROVIDER
    word = name.strip().lower().replace(" ", "_")
    service = (_text(row, "ServiceName", place) or "").lower()
    known = SERVICES_OF.get(word, {})
    return next((known[part] for part in known if part in service), word)


def _model(row: Row, place: Place) -> str | None:
    column = next((name for name in MODEL_COLUMNS if name in row), None)
    return None if column is None else _text(row, column, place)


def _tags(row: Row, place: Place) -> dict[str, str]:
    text = _text(row, "Tags", place)
    if text is None:
        return {}
    tags = _parse_flat_object(text)
    if tags is None:
        raise place.refuse("Tags", f"{shown(text)} is not a flat JSON object")
    return dict(tags)


def _further_facts(row: Row, corrected: Period | None, place: Place) -> dict[str, str]:
    facts = {}
    invoice_ref = _text(row, "InvoiceId", place)
    if invoice_ref is not None:
        facts["x_invoice"] = invoice_ref
    if row.get("ChargeClass") == CORRECTION:
        facts["x_charge_class"] = CORRECTION
    if corrected is not None:
        start, end = format_instant(corrected.start), format_instant(corrected.end)
        facts["x_charge_period"] = f"{start}/{end}"
    return facts


@lru_cache(maxsize=CACHED_TAGS)
def _parse_flat_object(text: str) -> Mapping[str, str] | None:
    try:
        tags = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tags, dict):
        return None
    if any(isinstance(value, dict | list) for value in tags.values()):
        return None
    return {key: _tag_text(value) for key, value in tags.items()}


def _tag_text(value: str | bool | None) -> str:
    # A tag without a value comes as null or as true.
    return value if isinstance(value, str) else "true" if value else ""

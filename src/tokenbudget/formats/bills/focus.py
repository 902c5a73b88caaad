"""FOCUS cost and usage files, versions 1.0 to 1.4, as CSV, Parquet or JSON from whoever emits them.

Column names and rules: FOCUS_Spec tag v1.2; the names of 1.3 and 1.4 for a provider are known too.
It owns reading a row; it refuses to check what one row cannot show (price times quantity, one
service one category). Also read, because files in the wild have them: a literal ``NULL``, times
printed ``2026-09-01 00:00:00`` or, by the specification's own examples, ``9/1/26`` (month first),
blanks around numbers, no provider in a row.

A file replaces by UTC day and not by billing period: deliveries in the wild are as often one day's
or one hour's rows as a month's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.months import month_at
from tokenbudget.domain.periods import Period, format_instant
from tokenbudget.formats.bills.cloud_meters import Meter
from tokenbudget.formats.bills.focus_providers import name_provider, read_meter
from tokenbudget.formats.bills.folding import TableRow, TableShape, fold_table
from tokenbudget.formats.bills.lines import (
    CACHED_INSTANTS,
    BillLine,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    parse_utc,
    parsed_cell,
    period_of,
    refuse_file,
    required_text_cell,
    shown,
    text_cell,
)
from tokenbudget.formats.bills.tables import Cells, columns_of_head, open_table
from tokenbudget.formats.bills.tags import tags_cell

SOURCE: Final = "focus"
CORRECTION: Final = "Correction"
API_KEY: Final = "API Key"
FIRST_YEAR: Final = 2000

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
MARKS: Final = frozenset({"BilledCost", "BillingAccountId", "ChargePeriodStart"})
# Version 1.3 renamed the provider; a file that names none still says who sends the invoice.
PROVIDER_COLUMNS: Final = ("ProviderName", "ServiceProviderName", "InvoiceIssuerName")
AMOUNTS: Final = ("BilledCost", "ListCost", "EffectiveCost", "ConsumedQuantity", "PricingQuantity")
DIMENSIONS: Final = (
    "BillingAccountId",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ConsumedUnit",
    "InvoiceId",
    "PricingUnit",
    *PROVIDER_COLUMNS,
    "ServiceName",
    "ServiceSubcategory",
    "SkuMeter",
    "SubAccountId",
    "Tags",
    "x_Model",
    "x_ServiceCode",
    "x_TokenType",
)
CATEGORIES: Final = {category.value.capitalize(): category for category in ChargeCategory}
AMERICAN_DATE: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})", re.ASCII)


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like FOCUS."""
    return set(columns_of_head(head)) >= MARKS


def read(path: Path) -> Iterator[BillLine]:
    """Give the lines in the order of the file, hours folded into days; empty rows are passed over.

    Raises BadFile naming the row (the header is not counted), the column and the rule.
    """
    with open_table(path) as table:
        for name in REQUIRED_COLUMNS:
            if name not in table.columns:
                raise refuse_file(path, f"column {name} is missing; FOCUS 1.0 to 1.4 requires it")
        if not set(PROVIDER_COLUMNS) & set(table.columns):
            raise refuse_file(path, "column ProviderName is missing; FOCUS 1.0 to 1.2 requires it")
        names = {name: name for name in SHAPE.columns if name in table.columns}
        table.require(*names)
        yield from fold_table(table, SHAPE, names)


@lru_cache(maxsize=CACHED_INSTANTS)
def parse_instant(text: str) -> datetime | None:
    """Give the instant of FOCUS's print, of a blank for the T, or of ``9/1/26``; else None."""
    instant = parse_utc(text)
    match = None if instant else AMERICAN_DATE.fullmatch(text.strip())
    if match is None:
        return instant
    month, day, year = map(int, match.groups())
    try:
        return datetime(year if year >= FIRST_YEAR else FIRST_YEAR + year, month, day, tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What rows say but for time and money."""

    account: str
    billing: Period
    first_day: datetime
    category: ChargeCategory
    currency: str
    provider: str
    meter: Meter
    project: str | None
    api_key: str | None
    description: str | None
    units: tuple[str | None, str | None]
    invoice_ref: str | None
    is_correction: bool
    tags: Mapping[str, str]


def _read_facts(cells: Cells, place: Place) -> _Facts:
    account = required_text_cell(cells["BillingAccountId"], place, "BillingAccountId")
    billing = _period(cells, "BillingPeriod", place)
    category = _category(cells, place)
    currency = currency_cell(cells["BillingCurrency"], place, "BillingCurrency")
    tags = tags_cell(cells["Tags"], place, "Tags")
    provider = name_provider(cells, place)
    return _Facts(
        account=account,
        billing=billing,
        first_day=_midnight(billing.start),
        category=category,
        currency=currency,
        provider=provider,
        meter=read_meter(cells, provider, tags, place),
        project=_text(cells, "SubAccountId", place),
        api_key=account if cells["BillingAccountType"] == API_KEY else None,
        description=_text(cells, "ChargeDescription", place),
        units=(_text(cells, "ConsumedUnit", place), _text(cells, "PricingUnit", place)),
        invoice_ref=_text(cells, "InvoiceId", place),
        is_correction=cells["ChargeClass"] == CORRECTION,
        tags=tags,
    )


def _read_line(facts: _Facts, row: TableRow) -> BillLine:
    cells, place = row.cells, row.place
    charge = row.period or _period(cells, "ChargePeriod", place)
    # What corrects an earlier month is a line of the invoice that carries it, not of that day.
    is_of_other_month = not facts.first_day <= charge.start < facts.billing.end
    billed = _amount(cells, "BilledCost", place)
    if billed is None:
        raise place.refuse("BilledCost", "must not be null")
    quantity, unit = _quantity(cells, facts, place)
    effective = _amount(cells, "EffectiveCost", place)
    billing = facts.billing
    return BillLine(
        row_number=row.number,
        folded_rows=row.rows,
        provider=facts.provider,
        account=facts.account,
        period=billing if is_of_other_month else charge,
        category=facts.category,
        billed=billed,
        currency=facts.currency,
        project=facts.project,
        api_key=facts.api_key,
        model=facts.meter.model,
        usage_type=facts.meter.usage_type,
        description=facts.description,
        quantity=quantity,
        unit=unit,
        listed=_amount(cells, "ListCost", place),
        effective=None if effective == billed else effective,
        invoice_ref=facts.invoice_ref,
        is_correction=facts.is_correction,
        month=month_at(billing.start),
        tags=_with_period(facts.tags, charge if is_of_other_month else None),
    )


SHAPE: Final = TableShape(
    starts_at=("ChargePeriodStart", parse_instant),
    ends_at=("ChargePeriodEnd", parse_instant),
    amounts=AMOUNTS,
    dimensions=DIMENSIONS,
    read_facts=_read_facts,
    read_line=_read_line,
)


def _midnight(instant: datetime) -> datetime:
    # Hours are folded into UTC days, and months of some clouds begin at another midnight.
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def _period(row: Cells, name: str, place: Place) -> Period:
    start = _instant(row, f"{name}Start", place)
    return period_of(start, _instant(row, f"{name}End", place), place, f"{name}End")


def _instant(row: Cells, column: str, place: Place) -> datetime:
    return parsed_cell(
        row[column], place, column, parse_instant, "a UTC time such as 2026-09-01T00:00:00Z"
    )


def _number(cell: str | None) -> str | None:
    return None if cell is None else cell.strip()


def _amount(row: Cells, column: str, place: Place) -> Decimal | None:
    text = _number(row[column])
    return None if text is None else amount_cell(text, place, column)


def _text(row: Cells, column: str, place: Place) -> str | None:
    return text_cell(row[column], place, column)


def _quantity(cells: Cells, facts: _Facts, place: Place) -> tuple[Decimal | None, str | None]:
    for column, unit in zip(("ConsumedQuantity", "PricingQuantity"), facts.units, strict=True):
        text = _number(cells[column])
        if text is not None:
            return decimal_cell(text, place, column), unit
    return None, None


def _category(row: Cells, place: Place) -> ChargeCategory:
    word = required_text_cell(row["ChargeCategory"], place, "ChargeCategory")
    category = CATEGORIES.get(word)
    if category is None:
        raise place.refuse("ChargeCategory", f"{shown(word)} is not one of {', '.join(CATEGORIES)}")
    charge_class = row["ChargeClass"]
    if charge_class not in (None, CORRECTION):
        raise place.refuse("ChargeClass", f"{shown(charge_class)} is neither null nor {CORRECTION}")
    return category


def _with_period(tags: Mapping[str, str], corrected: Period | None) -> Mapping[str, str]:
    if corrected is None:
        return tags
    start, end = format_instant(corrected.start), format_instant(corrected.end)
    return {**tags, "x_charge_period": f"{start}/{end}"}

"""AWS cost and usage: Data Exports of CUR 2.0, and the legacy report whose columns have a slash.

Columns: docs.aws.amazon.com/cur, "CUR 2.0 table dictionary"; CSV, gzip and Parquet. It owns those
names and what of Bedrock they tell; it refuses to leave anything out: rows of other services stay,
under the provider ``aws``, so that the lines add up to the invoice.

A delivery holds a whole billing month and is written again several times a day, so a file replaces
the payer's month. What is billed is the unblended cost; discounts are rows of their own (EDP,
private rates), so the net columns, which have them inside, are not read. Models sold on the
Marketplace have a list price of 0 there, which means that nobody says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.money import EXACT
from tokenbudget.domain.months import month_at, month_period
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.cloud_meters import Meter, read_aws
from tokenbudget.formats.bills.folding import TableRow, TableShape, fold_table
from tokenbudget.formats.bills.lines import (
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
    text_cell,
)
from tokenbudget.formats.bills.tables import Cells, columns_of_head, open_table
from tokenbudget.formats.bills.tags import tags_cell

SOURCE: Final = "aws-cur"
CLOUD: Final = "aws"
BEDROCK: Final = "aws.bedrock"
MARKETPLACE: Final = "AWS Marketplace"
EDITION: Final = "(Amazon Bedrock Edition)"
REFUND_BILL: Final = "Refund"

START: Final = "line_item_usage_start_date"
END: Final = "line_item_usage_end_date"
COST: Final = "line_item_unblended_cost"
AMOUNT: Final = "line_item_usage_amount"
LISTED: Final = "pricing_public_on_demand_cost"
PAYER: Final = "bill_payer_account_id"
MONTH: Final = "bill_billing_period_start_date"
MONTH_END: Final = "bill_billing_period_end_date"
CURRENCY: Final = "line_item_currency_code"
KIND: Final = "line_item_line_item_type"
REQUIRED: Final = (START, END, COST, PAYER, MONTH, CURRENCY, KIND)
DIMENSIONS: Final = (
    PAYER,
    MONTH,
    MONTH_END,
    CURRENCY,
    KIND,
    "bill_bill_type",
    "bill_billing_entity",
    "bill_invoice_id",
    "line_item_iam_principal",
    "line_item_line_item_description",
    "line_item_product_code",
    "line_item_usage_account_id",
    "line_item_usage_type",
    "pricing_unit",
    "product",
    "product_product_name",
    "product_servicecode",
    "resource_tags",
    "tags",
)
CATEGORIES: Final[Mapping[str, ChargeCategory]] = {
    "Usage": ChargeCategory.USAGE,
    "DiscountedUsage": ChargeCategory.USAGE,
    "SavingsPlanCoveredUsage": ChargeCategory.USAGE,
    "Tax": ChargeCategory.TAX,
    "Credit": ChargeCategory.CREDIT,
    "EdpDiscount": ChargeCategory.CREDIT,
    "PrivateRateDiscount": ChargeCategory.CREDIT,
    "BundledDiscount": ChargeCategory.CREDIT,
    "Discount": ChargeCategory.CREDIT,
    "Refund": ChargeCategory.ADJUSTMENT,
    "SavingsPlanNegation": ChargeCategory.ADJUSTMENT,
    "Fee": ChargeCategory.PURCHASE,
    "RIFee": ChargeCategory.PURCHASE,
    "SavingsPlanUpfrontFee": ChargeCategory.PURCHASE,
    "SavingsPlanRecurringFee": ChargeCategory.PURCHASE,
}
THOUSANDS: Final = {"1k tokens": 1_000, "1m tokens": 1_000_000}
TOKENS: Final = "tokens"
LEGACY_TAG: Final = "resourceTags/"
"""The legacy report has a column a tag."""

# "resourceTags/user:team" is the tag "team" that somebody put on a resource.
TAG_PLACE: Final = re.compile(r"^(?:resourceTags/)?(?:user:|user_|aws:createdBy)?")


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like a cost and usage report."""
    return set(map(_plain_name, columns_of_head(head))) >= {START, COST, KIND}


def read(path: Path) -> Iterator[BillLine]:
    """Give the lines, hours folded into days; raises BadFile naming row, column and rule."""
    with open_table(path) as table:
        known = {_plain_name(column): column for column in reversed(table.columns)}
        for name in REQUIRED:
            if name not in known:
                raise refuse_file(path, f"column {name} is missing; CUR 2.0 has it")
        tag_columns = [name for name in table.columns if name.startswith(LEGACY_TAG)]
        shape = replace(SHAPE, dimensions=(*DIMENSIONS, *tag_columns))
        names = {name: known[name] for name in SHAPE.columns if name in known}
        table.require(*names.values(), *tag_columns)
        yield from fold_table(table, shape, {**names, **{name: name for name in tag_columns}})


def _plain_name(column: str) -> str:
    """Give CUR 2.0's name of ``lineItem/UsageStartDate``, others as they are."""
    if "/" not in column:
        return column
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.replace("/", "_"))
    return apart.lower().replace("__", "_")


@dataclass(frozen=True, slots=True)
class _Facts:
    provider: str
    account: str
    project: str | None
    category: ChargeCategory
    currency: str
    month: Period
    meter: Meter
    scale: int
    unit: str | None
    is_listed: bool
    is_correction: bool
    description: str | None
    invoice_ref: str | None
    tags: Mapping[str, str]


def _read_facts(cells: Cells, place: Place) -> _Facts:
    usage_type = _text(cells, "line_item_usage_type", place) or ""
    product = _product_name(cells, place)
    kind = required_text_cell(cells[KIND], place, KIND)
    is_bedrock = _is_bedrock(cells, product)
    is_market = cells["bill_billing_entity"] == MARKETPLACE
    meter = read_aws(usage_type, product) if is_bedrock else Meter()
    unit = _text(cells, "pricing_unit", place)
    scale = THOUSANDS.get((unit or "").lower(), 1_000_000 if is_market and meter.usage_type else 1)
    start = _instant(cells, MONTH, place)
    invoice_ref = _text(cells, "bill_invoice_id", place)
    return _Facts(
        provider=BEDROCK if is_bedrock else CLOUD,
        account=required_text_cell(cells[PAYER], place, PAYER),
        project=_text(cells, "line_item_usage_account_id", place),
        category=CATEGORIES.get(kind, ChargeCategory.ADJUSTMENT),
        currency=currency_cell(cells[CURRENCY], place, CURRENCY),
        month=month_period(month_at(start)),
        meter=meter,
        scale=scale,
        unit=TOKENS if scale > 1 else unit,
        is_listed=not is_market,
        is_correction=cells["bill_bill_type"] == REFUND_BILL,
        description=_description(cells, kind, usage_type, place),
        invoice_ref=invoice_ref,
        tags=_tags(cells, place),
    )


def _read_line(facts: _Facts, row: TableRow) -> BillLine:
    cells, place = row.cells, row.place
    period = row.period or period_of(
        _instant(cells, START, place), _instant(cells, END, place), place, END
    )
    # What corrects an earlier month is a line of the invoice that carries it.
    is_of_other_month = not facts.month.start <= period.start < facts.month.end
    if cells[COST] is None:
        raise place.refuse(COST, "must not be null")
    amount = cells[AMOUNT]
    listed = cells[LISTED] if facts.is_listed else None
    return BillLine(
        row_number=row.number,
        folded_rows=row.rows,
        provider=facts.provider,
        account=facts.account,
        period=facts.month if is_of_other_month else period,
        category=facts.category,
        billed=amount_cell(cells[COST], place, COST),
        currency=facts.currency,
        project=facts.project,
        model=facts.meter.model,
        usage_type=facts.meter.usage_type,
        description=facts.description,
        quantity=None if amount is None else _scaled(amount, facts.scale, place),
        unit=facts.unit,
        listed=None if listed is None else amount_cell(listed, place, LISTED),
        invoice_ref=facts.invoice_ref,
        is_correction=facts.is_correction or is_of_other_month,
        month=month_at(facts.month.start),
        tags=facts.tags,
    )


SHAPE: Final = TableShape(
    starts_at=(START, parse_utc),
    ends_at=(END, parse_utc),
    amounts=(COST, AMOUNT, LISTED),
    dimensions=DIMENSIONS,
    read_facts=_read_facts,
    read_line=_read_line,
)


def _text(cells: Cells, column: str, place: Place) -> str | None:
    return text_cell(cells[column], place, column)


def _instant(cells: Cells, column: str, place: Place) -> datetime:
    return parsed_cell(
        cells[column], place, column, parse_utc, "a UTC time such as 2026-09-01T00:00:00Z"
    )


def _scaled(text: str, scale: int, place: Place) -> Decimal:
    return EXACT.multiply(decimal_cell(text, place, AMOUNT), Decimal(scale))


def _product_name(cells: Cells, place: Place) -> str:
    named = _text(cells, "product_product_name", place)
    return named or tags_cell(cells["product"], place, "product").get("product_name", "")


def _is_bedrock(cells: Cells, product: str) -> bool:
    codes = (cells["line_item_product_code"] or "", cells["product_servicecode"] or "")
    return any("Bedrock" in code for code in codes) or EDITION in product


def _description(cells: Cells, kind: str, usage_type: str, place: Place) -> str | None:
    column = "line_item_line_item_description"
    text = _text(cells, column, place)
    words = (text, usage_type, None if kind == "Usage" else kind)
    return ", ".join(dict.fromkeys(filter(None, words))) or None


def _tags(cells: Cells, place: Place) -> Mapping[str, str]:
    told: dict[str, str] = {}
    for column in ("tags", "resource_tags"):
        for name, value in tags_cell(cells[column], place, column).items():
            told[TAG_PLACE.sub("", name) or name] = value
    for column, cell in cells.items():
        if column.startswith(LEGACY_TAG) and cell is not None:
            told[TAG_PLACE.sub("", column)] = cell
    principal = _text(cells, "line_item_iam_principal", place)
    return told if principal is None else {**told, "x_iam_principal": principal}

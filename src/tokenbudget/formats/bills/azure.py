"""Azure Cost Management exports of actual cost: Enterprise Agreement and Microsoft Customer one.

Columns: Microsoft Learn, "cost and usage details", EA to 2024-08-01 and MCA 2023-12-01-preview;
names and their case differ by agreement and version, so they are matched without case by a table of
aliases. Days are ``MM/DD/YYYY`` or ISO, the last day of a billing period is inside of it. It owns
those shapes; rows of other services stay, under the provider ``microsoft``.

An export is a snapshot of the month to date, so a file replaces the billing account's month. Costs
are before tax and credits: the invoice has those besides. Amortised exports tell the same money in
another way and must not be imported beside the actual ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.money import EXACT
from tokenbudget.domain.months import month_at
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.cloud_meters import Meter, read_azure
from tokenbudget.formats.bills.folding import TableRow, TableShape, fold_table
from tokenbudget.formats.bills.lines import (
    CACHED_INSTANTS,
    BillLine,
    Place,
    amount_cell,
    currency_cell,
    decimal_cell,
    parsed_cell,
    refuse_file,
    required_text_cell,
    text_cell,
)
from tokenbudget.formats.bills.tables import Cells, columns_of_head, open_table
from tokenbudget.formats.bills.tags import tags_cell

SOURCE: Final = "azure"
CLOUD: Final = "microsoft"
OPENAI: Final = "azure.ai.openai"
FOUNDRY: Final = "azure.ai.inference"
ONE_DAY: Final = timedelta(days=1)

# What is read, by the names it has in exports of either agreement, the first that is there.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "account": ("billingaccountid", "billingaccountnumber", "enrollmentnumber"),
    "date": ("date", "usagedatetime", "usagedate"),
    "month": ("billingperiodstartdate",),
    "cost": ("costinbillingcurrency", "cost", "pretaxcost", "extendedcost"),
    "currency": ("billingcurrency", "billingcurrencycode", "currency"),
    "charge_type": ("chargetype",),
    "quantity": ("quantity", "consumedquantity", "usagequantity"),
    "price": ("effectiveprice", "resourcerate"),
    "list_price": ("paygprice",),
    "listed": ("paygcostinbillingcurrency",),
    "unit": ("unitofmeasure",),
    "meter": ("metername",),
    "meter_category": ("metercategory",),
    "meter_subcategory": ("metersubcategory",),
    "product": ("productname", "product"),
    "subscription": ("subscriptionid", "subscriptionguid"),
    "publisher_type": ("publishertype",),
    "publisher": ("publishername",),
    "plan": ("planname",),
    "service_family": ("servicefamily",),
    "invoice": ("invoiceid",),
    "earlier_invoice": ("previousinvoiceid",),
    "pricing_currency": ("pricingcurrency", "pricingcurrencycode"),
    "tags": ("tags",),
}
REQUIRED: Final = ("account", "date", "month", "cost", "currency", "charge_type", "quantity")
AMOUNTS: Final = ("cost", "quantity", "listed")
CATEGORIES: Final[Mapping[str, ChargeCategory]] = {
    "usage": ChargeCategory.USAGE,
    "purchase": ChargeCategory.PURCHASE,
    "refund": ChargeCategory.ADJUSTMENT,
    "tax": ChargeCategory.TAX,
    "credit": ChargeCategory.CREDIT,
}
AMORTISED: Final = frozenset({"unusedreservation", "unusedsavingsplan"})
AI_CATEGORIES: Final = frozenset({"foundry models", "cognitive services", "azure openai"})
LEAST: Final = Decimal("1e-18")
ROUNDED: Final = Context(prec=60)
BLOCK: Final = re.compile(r"(?P<count>\d+)(?P<power>[KM]?)(?: tokens)?", re.IGNORECASE)
POWERS: Final = {"": 1, "K": 1_000, "M": 1_000_000}
DAY: Final = re.compile(r"(?:(\d{1,2})/(\d{1,2})/(\d{4})|(\d{4})-(\d{2})-(\d{2}))(?:[T ].*)?")
TOKENS: Final = "tokens"


def recognises(head: bytes) -> bool:
    """Tell whether the first part of a file looks like an export of actual cost."""
    names = {name.lower() for name in columns_of_head(head)}
    return {"chargetype", "unitofmeasure", "billingperiodstartdate", "metername"} <= names


def read(path: Path) -> Iterator[BillLine]:
    """Give the lines; raises BadFile naming row, column and rule."""
    with open_table(path) as table:
        lowered = {name.lower(): name for name in reversed(table.columns)}
        names = {}
        for ours, aliases in ALIASES.items():
            alias = next((each for each in aliases if each in lowered), None)
            if alias is None and ours in REQUIRED:
                raise refuse_file(path, f"column {aliases[0]} is missing; every export has it")
            if alias is not None:
                names[ours] = lowered[alias]
        doubled = [name for name in table.columns if lowered[name.lower()] != name]
        if doubled:
            raise refuse_file(path, f"column {doubled[0]} is there twice")
        table.require(*names.values())
        yield from fold_table(table, SHAPE, names)


@lru_cache(CACHED_INSTANTS)
def parse_day(text: str) -> datetime | None:
    """Give the UTC midnight of ``09/02/2026`` (month first) or ``2026-09-02``, else None."""
    match = DAY.fullmatch(text)
    if match is None:
        return None
    month, day, year, *iso = match.groups()
    if year is None:
        year, month, day = iso
    try:
        return datetime(int(year), int(month), int(day), tzinfo=UTC)
    except ValueError:
        return None


def _end_of_day(text: str) -> datetime | None:
    day = parse_day(text)
    return None if day is None else day + ONE_DAY


@dataclass(frozen=True, slots=True)
class _Facts:
    provider: str
    account: str
    month: datetime
    category: ChargeCategory
    currency: str
    meter: Meter
    block: int
    price: Decimal | None
    list_price: Decimal | None
    unit: str | None
    project: str | None
    description: str | None
    invoice_ref: str | None
    is_correction: bool
    tags: Mapping[str, str]


def _read_facts(cells: Cells, place: Place) -> _Facts:
    provider = _provider(cells)
    unit = _text(cells, "unit", place)
    block = BLOCK.fullmatch(unit or "")
    meter_name = _text(cells, "meter", place)
    is_priced_in_billing = cells["pricing_currency"] in (None, cells["currency"])
    earlier_invoice = _text(cells, "earlier_invoice", place)
    tags = tags_cell(cells["tags"], place, "tags")
    return _Facts(
        provider=provider,
        account=required_text_cell(cells["account"], place, "account"),
        month=_day(cells, "month", place),
        category=_category(cells, place),
        currency=currency_cell(cells["currency"], place, "currency"),
        meter=Meter() if provider == CLOUD else _meter(cells, meter_name),
        block=1 if block is None else int(block["count"]) * POWERS[block["power"].upper()],
        price=_price(cells, "price", place) if is_priced_in_billing else None,
        list_price=_price(cells, "list_price", place) if is_priced_in_billing else None,
        unit=unit,
        project=_text(cells, "subscription", place),
        description=meter_name or _text(cells, "product", place),
        invoice_ref=_text(cells, "invoice", place),
        is_correction=earlier_invoice is not None,
        tags=tags if earlier_invoice is None else {**tags, "x_previous_invoice": earlier_invoice},
    )


def _read_line(facts: _Facts, row: TableRow) -> BillLine:
    cells, place = row.cells, row.place
    day = _day(cells, "date", place) if row.period is None else row.period.start
    if cells["cost"] is None:
        raise place.refuse("cost", "must not be null")
    billed = amount_cell(cells["cost"], place, "cost")
    quantity = None
    if cells["quantity"] is not None:
        quantity = decimal_cell(cells["quantity"], place, "quantity")
    is_of_tokens = facts.meter.usage_type is not None and facts.block > 1
    scale = facts.block if _is_in_blocks(quantity, billed, facts) else 1
    counted = quantity
    if quantity is not None and is_of_tokens:
        counted = EXACT.multiply(quantity, Decimal(scale))
    return BillLine(
        row_number=row.number,
        folded_rows=row.rows,
        provider=facts.provider,
        account=facts.account,
        period=Period(day, day + ONE_DAY),
        category=facts.category,
        billed=billed,
        currency=facts.currency,
        project=facts.project,
        model=facts.meter.model,
        usage_type=facts.meter.usage_type,
        description=facts.description,
        quantity=counted,
        unit=TOKENS if is_of_tokens else facts.unit,
        listed=_listed(cells, quantity, facts, scale, place),
        invoice_ref=facts.invoice_ref,
        is_correction=facts.is_correction,
        month=month_at(facts.month),
        tags=facts.tags,
    )


def _is_in_blocks(quantity: Decimal | None, billed: Decimal, facts: _Facts) -> bool:
    """Tell whether quantity times price is the cost, so that it counts blocks and not tokens.

    Documents and files disagree, so each row is asked: it counts single units only where that
    comes nearer to its cost.
    """
    if quantity is None or facts.price is None or facts.block == 1:
        return True
    by_blocks = EXACT.multiply(quantity, facts.price)
    by_units = EXACT.subtract(EXACT.multiply(billed, Decimal(facts.block)), by_blocks)
    return abs(EXACT.subtract(billed, by_blocks)) * facts.block <= abs(by_units)


def _listed(
    cells: Cells, quantity: Decimal | None, facts: _Facts, scale: int, place: Place
) -> Decimal | None:
    if cells["listed"] is not None:
        return amount_cell(cells["listed"], place, "listed")
    if quantity is None or not facts.list_price:
        return None
    # Prices are those of a block.
    blocks = quantity if scale == facts.block else ROUNDED.divide(quantity, Decimal(facts.block))
    listed = ROUNDED.multiply(blocks, facts.list_price)
    return amount_cell(listed.quantize(LEAST, context=ROUNDED), place, "list_price")


SHAPE: Final = TableShape(
    starts_at=("date", parse_day),
    ends_at=("date", _end_of_day),
    amounts=AMOUNTS,
    dimensions=tuple(name for name in ALIASES if name not in ("date", *AMOUNTS)),
    decimals=("price", "list_price"),
    read_facts=_read_facts,
    read_line=_read_line,
)


def _text(cells: Cells, column: str, place: Place) -> str | None:
    return text_cell(cells[column], place, column)


def _day(cells: Cells, column: str, place: Place) -> datetime:
    return parsed_cell(cells[column], place, column, parse_day, "a day such as 09/02/2026")


def _price(cells: Cells, column: str, place: Place) -> Decimal | None:
    text = cells[column]
    return None if text is None else decimal_cell(text, place, column)


def _category(cells: Cells, place: Place) -> ChargeCategory:
    word = required_text_cell(cells["charge_type"], place, "charge_type").lower()
    if word in AMORTISED:
        rule = "the file is of amortised cost; import the export of actual cost"
        raise place.refuse("charge_type", rule)
    return CATEGORIES.get(word, ChargeCategory.ADJUSTMENT)


def _provider(cells: Cells) -> str:
    names = " ".join(
        (cells[column] or "").lower() for column in ("meter_subcategory", "product", "publisher")
    )
    if "openai" in names:
        return OPENAI
    category = (cells["meter_category"] or "").lower()
    is_sold_on = (cells["publisher_type"] or "").lower() == "marketplace"
    is_ai = (cells["service_family"] or "").lower().startswith("ai ")
    return FOUNDRY if category in AI_CATEGORIES or (is_sold_on and is_ai) else CLOUD


def _meter(cells: Cells, meter_name: str | None) -> Meter:
    read = read_azure(meter_name or "")
    # A model of the Marketplace is named by the plan it is sold by.
    is_sold_on = (cells["publisher_type"] or "").lower() == "marketplace"
    return Meter(cells["plan"] or read.model, read.usage_type) if is_sold_on else read

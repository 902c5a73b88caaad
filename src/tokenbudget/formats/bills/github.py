"""GitHub's billing reports of Copilot: premium requests (until 2026) and AI credits: bills.

Shape: docs.github.com/billing/reference/billing-reports. Billed is the net amount, gross less the
discount of the plan; gross is kept as the list price. Days are UTC, the order of columns varies.
Reports name no currency: GitHub bills in US dollars. Premium requests are weighted and no count of
requests; AI credits come with tokens, apart by class, where GitHub knows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.formats.bills.cells import counts_of, day_cell, facts_of, looks_like
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    Place,
    UsageLine,
    amount_cell,
    decimal_cell,
)
from tokenbudget.formats.bills.tables import Cells, read_rows

PREMIUM_SOURCE: Final = "github-copilot"
CREDIT_SOURCE: Final = "github-ai"
PROVIDER: Final = "github_copilot"
CURRENCY: Final = "USD"
GROSS, DISCOUNT, NET = "gross_amount", "discount_amount", "net_amount"
REQUIRED: Final = ("date", "product", "sku", "quantity", "unit_type", GROSS, DISCOUNT, NET)
NUMBERS: Final = ("quantity", GROSS, DISCOUNT, NET)
CREDITS: Final = "aic_quantity"
COUNTS: Final = {
    "input": "input_tokens",
    "cache_read": "cached_input_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
}
INPUT_CLASSES: Final = ("input_tokens", "cached_input_tokens", "cache_write_tokens")
FACTS: Final = {
    "product": "x_product",
    "cost_center_name": "x_cost_center",
    "repository": "x_repository",
    "exceeds_quota": "x_exceeds_quota",
}


def recognises_premium_requests(head: bytes) -> bool:
    """Tell whether a file begins like a report of premium requests, or any of this shape."""
    return looks_like(head, *REQUIRED) and not looks_like(head, CREDITS)


def recognises_credits(head: bytes) -> bool:
    """Tell whether a file begins like a report of AI usage."""
    return looks_like(head, *REQUIRED, CREDITS)


def read(path: Path) -> Iterator[BillEntry]:
    """Give of every row what was billed and, where it tells, what was used, in order.

    Raises BadFile naming the row, the column and the rule.
    """
    for number, row in read_rows(path, required=REQUIRED, numbers=NUMBERS):
        place = Place(path, f"row {number}")
        line = _read_row(row, number, place)
        yield line
        quantities = counts_of(row, COUNTS, place)
        if quantities:
            yield _usage_of(line, quantities)


def _read_row(row: Cells, number: int, place: Place) -> BillLine:
    gross = amount_cell(row.get(GROSS), place, GROSS)
    discount = amount_cell(row.get(DISCOUNT), place, DISCOUNT)
    tags = facts_of(row, FACTS, place)
    if discount:
        tags["x_discount"] = f"{discount:f} {CURRENCY}"
    return BillLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=day_cell(row.get("date"), place, "date"),
        category=ChargeCategory.USAGE,
        billed=amount_cell(row.get(NET), place, NET),
        currency=CURRENCY,
        project=row.get("organization"),
        # Copilot has no keys: whoever used it is who it is divided by.
        api_key=row.get("username"),
        model=row.get("model"),
        usage_type=row.get("unit_type"),
        description=row.get("sku"),
        quantity=decimal_cell(row.get("quantity"), place, "quantity"),
        unit=row.get("unit_type"),
        listed=gross,
        tags=tags,
    )


def _usage_of(line: BillLine, quantities: dict[str, int]) -> UsageLine:
    total = sum(quantities.get(unit, 0) for unit in INPUT_CLASSES)
    return UsageLine(
        row_number=line.row_number,
        provider=PROVIDER,
        account="",
        period=line.period,
        quantities={**quantities, "input_tokens": total},
        project=line.project,
        api_key=line.api_key,
        model=line.model,
        tags=line.tags,
    )

"""Cursor's usage events, CSV of its dashboard: a bill, and what was used.

Nobody documents it: columns were seen in public copies of 2026. A cost is a number, ``$0.12``, or a
word (``Included``, ``Free``), which stands for nothing billed. Whether the input with cache writes
holds the one without is told differently by different readers, so each row is held against its
Total Tokens, and refused when neither sum is it. Reports of teams on the older plan count requests
and have no money.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.formats.bills.cells import (
    count_cell,
    day_of,
    facts_of,
    instant_cell,
    looks_like,
)
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    Place,
    UsageLine,
    amount_cell,
    shown,
)
from tokenbudget.formats.bills.tables import Cells, read_rows

SOURCE: Final = "cursor"
PROVIDER: Final = "cursor"
CURRENCY: Final = "USD"
WITH_WRITE, WITHOUT_WRITE = "Input (w/ Cache Write)", "Input (w/o Cache Write)"
CACHE_READ, OUTPUT, TOTAL, COST = "Cache Read", "Output Tokens", "Total Tokens", "Cost"
REQUIRED: Final = ("Date", "Kind", "Model", WITH_WRITE, WITHOUT_WRITE, CACHE_READ, OUTPUT, TOTAL)
NOTHING_BILLED: Final = frozenset({"included", "free", "-"})
NUMBER: Final = re.compile(r"\$?(-?[\d.]+)")
FACTS: Final = {
    "Kind": "x_kind",
    "Max Mode": "x_max_mode",
    "Cloud Agent ID": "x_cloud_agent",
    "Automation ID": "x_automation",
}


def recognises(head: bytes) -> bool:
    """Tell whether a file begins like an export of usage events."""
    return looks_like(head, *REQUIRED)


def read(path: Path) -> Iterator[BillEntry]:
    """Give of every event what was billed and what was used, in order, on its UTC day.

    Raises BadFile naming the row, the column and the rule.
    """
    for number, row in read_rows(path, required=REQUIRED, numbers=(COST,)):
        place = Place(path, f"row {number}")
        line = _usage_of(row, number, place)
        if COST in row:
            yield BillLine(
                row_number=number,
                provider=PROVIDER,
                account="",
                period=line.period,
                category=ChargeCategory.USAGE,
                billed=_cost(row, place),
                currency=CURRENCY,
                api_key=line.api_key,
                model=line.model,
                description=row["Kind"],
                tags=line.tags,
            )
        yield line


def _usage_of(row: Cells, number: int, place: Place) -> UsageLine:
    return UsageLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=day_of(instant_cell(row.get("Date"), place, "Date")),
        quantities=_quantities(row, place),
        requests=1,
        # Cursor has no keys: whoever used it is who it is divided by.
        api_key=row.get("User"),
        model=row.get("Model"),
        tags=facts_of(row, FACTS, place),
    )


def _quantities(row: Cells, place: Place) -> dict[str, int]:
    names = (WITH_WRITE, WITHOUT_WRITE, CACHE_READ, OUTPUT, TOTAL)
    counts = [count_cell(row.get(name), place, name) or 0 for name in names]
    with_write, without_write, cached, output, total = counts
    if with_write + without_write + cached + output == total:
        fresh, written = with_write + without_write, with_write
    elif with_write + cached + output == total and with_write >= without_write:
        fresh, written = with_write, with_write - without_write
    else:
        raise place.refuse(
            TOTAL, f"{total} is no sum of the token columns, with or without overlap"
        )
    return {
        "input_tokens": fresh + cached,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": output,
    }


def _cost(row: Cells, place: Place) -> Decimal:
    cell = row.get(COST)
    if cell is None or cell.lower() in NOTHING_BILLED:
        return Decimal(0)
    match = NUMBER.fullmatch(cell)
    if match is None:
        raise place.refuse(COST, f"{shown(cell)} is neither an amount nor Included or Free")
    return amount_cell(match[1], place, COST)

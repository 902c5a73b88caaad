"""The two CSV files in the ZIP that DeepSeek's console exports: costs (a bill) and usage.

Nobody documents them: columns were seen in public copies. ``cost-*.csv`` is what a wallet paid, in
its currency; ``amount-*.csv`` has a row per key, model and kind of token, in which cache hits and
misses are apart. Unpack the ZIP and import both. Amounts are a period's, mostly of a UTC day.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.cells import count_cell, facts_of, instant_cell, looks_like
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    Place,
    UsageLine,
    amount_cell,
    currency_cell,
    period_of,
    required_text_cell,
    shown,
)
from tokenbudget.formats.bills.tables import Cells, read_rows

COST_SOURCE: Final = "deepseek-costs"
USAGE_SOURCE: Final = "deepseek-usage"
PROVIDER: Final = "deepseek"
START, END = "start_time_iso", "end_time_iso"
COST_COLUMNS: Final = (START, END, "wallet_type", "cost", "currency")
USAGE_COLUMNS: Final = (START, END, "model", "type", "amount")
UNITS_OF_TYPES: Final = {
    "input_cache_hit_tokens": ("input_tokens", "cached_input_tokens"),
    "input_cache_miss_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
}
REQUESTS: Final = "request_count"
KEY_FACTS: Final = {"api_key_name": "x_api_key_name"}


def recognises_costs(head: bytes) -> bool:
    """Tell whether a file begins like an export of costs."""
    return looks_like(head, *COST_COLUMNS)


def recognises_usage(head: bytes) -> bool:
    """Tell whether a file begins like an export of amounts."""
    return looks_like(head, *USAGE_COLUMNS, "price")


def read_costs(path: Path) -> Iterator[BillEntry]:
    """Give the lines in order; raises BadFile naming the row, the column and the rule."""
    for number, row in read_rows(path, required=COST_COLUMNS, numbers=("cost",)):
        place = Place(path, f"row {number}")
        currency = required_text_cell(row.get("currency"), place, "currency")
        yield BillLine(
            row_number=number,
            provider=PROVIDER,
            account=row.get("user_id") or "",
            period=_period(row, place),
            category=ChargeCategory.USAGE,
            billed=amount_cell(row.get("cost"), place, "cost"),
            currency=currency_cell(currency.upper(), place, "currency"),
            api_key=row.get("api_key"),
            model=row.get("model"),
            tags=facts_of(row, {**KEY_FACTS, "wallet_type": "x_wallet"}, place),
        )


def read_usage(path: Path) -> Iterator[BillEntry]:
    """Give what was used in order, a line per kind; raises BadFile as ``read_costs`` does."""
    for number, row in read_rows(path, required=USAGE_COLUMNS, numbers=("amount",)):
        place = Place(path, f"row {number}")
        kind = row.get("type")
        units = UNITS_OF_TYPES.get(kind or "", ())
        if not units and kind != REQUESTS:
            raise place.refuse("type", f"{shown(kind)} is no kind of usage that is known")
        amount = count_cell(row.get("amount"), place, "amount")
        if amount is None:
            raise place.refuse("amount", "must not be null")
        yield UsageLine(
            row_number=number,
            provider=PROVIDER,
            account=row.get("user_id") or "",
            period=_period(row, place),
            quantities=dict.fromkeys(units, amount),
            requests=None if units else amount,
            api_key=row.get("api_key"),
            model=row.get("model"),
            tags=facts_of(row, KEY_FACTS, place),
        )


def _period(row: Cells, place: Place) -> Period:
    start, end = (instant_cell(row.get(name), place, name) for name in (START, END))
    return period_of(start, end, place, END)

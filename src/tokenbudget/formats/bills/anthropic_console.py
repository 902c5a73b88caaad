"""CSV exports of Anthropic's Console: costs (a bill) and usage.

Nobody documents them: columns were seen in public copies, older ones have fewer. They tell what the
API tells (``anthropic_costs.py``, ``anthropic_usage.py``), so they are stored under its sources.
Costs are **dollars rounded to cents in each row**: their sum is not that of the API, which is the
better evidence where both can be had. Models of costs are display names; their ids follow from them
as far as the usual pattern goes. Workspaces and keys are names, a key's id only where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenbudget.formats.bills.anthropic_usage import PROVIDER, total_input
from tokenbudget.formats.bills.cells import (
    category_of,
    count_cell,
    counts_of,
    day_cell,
    facts_of,
    looks_like,
)
from tokenbudget.formats.bills.lines import BillEntry, BillLine, Place, UsageLine, amount_cell
from tokenbudget.formats.bills.tables import Cells, read_rows

DAY: Final = "usage_date_utc"
COST: Final = "cost_usd"
LIST_PRICE: Final = "list_price_usd"
UNCACHED: Final = "usage_input_tokens_no_cache"
CURRENCY: Final = "USD"
DEFAULT_WORKSPACE: Final = "Default"
UNITS_OF_TOKENS: Final = {
    "input_no_cache": "input_tokens",
    "input_cache_read": "cached_input_tokens",
    "input_cache_write_5m": "cache_write_5m_tokens",
    "input_cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
}
UNITS_OF_COSTS: Final = {"web_search": "web_searches", "code_execution": "code_executions"}
COUNTS: Final = {
    "usage_input_tokens_cache_read": "cached_input_tokens",
    "usage_input_tokens_cache_write_5m": "cache_write_5m_tokens",
    "usage_input_tokens_cache_write_1h": "cache_write_1h_tokens",
    "usage_output_tokens": "output_tokens",
    "web_search_count": "web_searches",
}
WINDOWS: Final = {"≤ 200k": "0-200k", "> 200k": "200k-1M"}
TIERS: Final = {"message": "standard"}
FACTS: Final = {
    "api_key": "x_api_key_name",
    "inference_geo": "x_region",
    "speed": "x_speed",
    "cost_type": "x_cost_type",
}
# "Claude Sonnet 3.7" is claude-3-7-sonnet; from version 4 on the words keep their order.
OLD_NAME: Final = re.compile(r"claude (?P<size>haiku|sonnet|opus) (?P<version>3(?:\.\d)?)")


def recognises_costs(head: bytes) -> bool:
    """Tell whether a file begins like an export of costs."""
    return looks_like(head, DAY, COST)


def recognises_usage(head: bytes) -> bool:
    """Tell whether a file begins like an export of usage."""
    return looks_like(head, DAY, UNCACHED)


def read_costs(path: Path) -> Iterator[BillEntry]:
    """Give the lines in order; raises BadFile naming the row, the column and the rule."""
    rows = read_rows(path, required=(DAY, COST, "model"), numbers=(COST, LIST_PRICE))
    for number, row in rows:
        yield _cost_of(row, number, Place(path, f"row {number}"))


def read_usage(path: Path) -> Iterator[BillEntry]:
    """Give what was used in order; raises BadFile naming the row, the column and the rule."""
    for number, row in read_rows(path, required=(DAY, UNCACHED, "model_version")):
        yield _usage_of(row, number, Place(path, f"row {number}"))


def model_id_of(display_name: str | None) -> str | None:
    """Give the model that a display name stands for, by the pattern names follow."""
    if display_name is None:
        return None
    lowered = display_name.lower()
    old = OLD_NAME.fullmatch(lowered)
    name = f"claude-{old['version']}-{old['size']}" if old else lowered
    return re.sub(r"[ .]", "-", name)


def _cost_of(row: Cells, number: int, place: Place) -> BillLine:
    model = model_id_of(row.get("model"))
    billed = amount_cell(row.get(COST), place, COST)
    listed = row.get(LIST_PRICE)
    kind = row.get("usage_type")
    tier = {} if kind is None else {"x_service_tier": TIERS.get(kind, kind)}
    return BillLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=day_cell(row.get(DAY), place, DAY),
        category=category_of(model, billed),
        billed=billed,
        currency=CURRENCY,
        project=_workspace(row),
        api_key=row.get("api_key_id") or row.get("api_key"),
        model=model,
        usage_type=_usage_type(row),
        description=row.get("model"),
        listed=None if listed is None else amount_cell(listed, place, LIST_PRICE),
        tags={**facts_of(row, FACTS, place), **tier, **_window(row)},
    )


def _usage_of(row: Cells, number: int, place: Place) -> UsageLine:
    uncached = count_cell(row.get(UNCACHED), place, UNCACHED)
    if uncached is None:
        raise place.refuse(UNCACHED, "must not be null")
    quantities = counts_of(row, COUNTS, place)
    return UsageLine(
        row_number=number,
        provider=PROVIDER,
        account="",
        period=day_cell(row.get(DAY), place, DAY),
        quantities={"input_tokens": total_input(uncached, quantities), **quantities},
        project=_workspace(row),
        api_key=row.get("api_key_id") or row.get("api_key"),
        model=row.get("model_version"),
        service_tier=row.get("usage_type"),
        region=row.get("inference_geo"),
        tags={**facts_of(row, {"speed": "x_speed"}, place), **_window(row)},
    )


def _usage_type(row: Cells) -> str | None:
    token_type, cost_type = row.get("token_type"), row.get("cost_type")
    if token_type is not None:
        return UNITS_OF_TOKENS.get(token_type, token_type)
    return None if cost_type is None else UNITS_OF_COSTS.get(cost_type, cost_type)


def _workspace(row: Cells) -> str | None:
    workspace = row.get("workspace")
    return None if workspace == DEFAULT_WORKSPACE else workspace


def _window(row: Cells) -> dict[str, str]:
    window = row.get("context_window")
    return {} if window is None else {"x_context_window": WINDOWS.get(window, window)}

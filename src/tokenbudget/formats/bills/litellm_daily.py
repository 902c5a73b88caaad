"""LiteLLM's daily tables, exported from its database: a meter, never a bill.

Shape: ``LiteLLM_DailyUserSpend`` and ``LiteLLM_DailyTeamSpend``, litellm 1.106 (``schema.prisma``).
Spend is what LiteLLM worked out; it is kept as a tag, and the tokens are also in the providers' own
reports, so neither is ever added to them. ``LiteLLM_DailyTagSpend`` is refused: it has a row per
tag, so a request with two tags is in it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenbudget.formats.bills.cells import count_cell, counts_of, day_cell, facts_of, looks_like
from tokenbudget.formats.bills.lines import (
    BillEntry,
    Place,
    UsageLine,
    decimal_cell,
    refuse_file,
)
from tokenbudget.formats.bills.tables import Cells, read_rows

SOURCE: Final = "litellm-daily"
UNKNOWN_PROVIDER: Final = "unknown"
REQUIRED: Final = ("date", "api_key", "prompt_tokens", "completion_tokens", "spend", "api_requests")
TAG: Final = "tag"
COUNTS: Final = {
    "prompt_tokens": "input_tokens",
    "cache_read_input_tokens": "cached_input_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "completion_tokens": "output_tokens",
}
FACTS: Final = {
    "user_id": "x_user",
    "team_id": "x_team",
    "organization_id": "x_organization",
    "model_group": "x_model_group",
    "failed_requests": "x_failed_requests",
}


def recognises(head: bytes) -> bool:
    """Tell whether a file begins like one of the daily tables."""
    return looks_like(head, *REQUIRED)


def read(path: Path) -> Iterator[BillEntry]:
    """Give what was used in order; raises BadFile naming the row, the column and the rule."""
    for number, row in read_rows(path, required=REQUIRED, numbers=("spend",)):
        if TAG in row:
            raise refuse_file(
                path,
                "has a row per tag, so that a request with two tags counts twice; export"
                " LiteLLM_DailyTeamSpend or LiteLLM_DailyUserSpend instead",
            )
        yield _read_row(row, number, Place(path, f"row {number}"))


def _read_row(row: Cells, number: int, place: Place) -> UsageLine:
    spend = decimal_cell(row.get("spend"), place, "spend")
    quantities = counts_of(row, COUNTS, place)
    for unit in ("cached_input_tokens", "cache_write_tokens"):
        # Whether the prompt's tokens include those of the cache depends on the provider.
        if quantities.get(unit, 0) > quantities.get("input_tokens", 0):
            raise place.refuse("prompt_tokens", f"is less than its {unit}")
    return UsageLine(
        row_number=number,
        provider=row.get("custom_llm_provider") or UNKNOWN_PROVIDER,
        account="",
        period=day_cell(row.get("date"), place, "date"),
        quantities=quantities,
        requests=count_cell(row.get("api_requests"), place, "api_requests"),
        api_key=row.get("api_key"),
        model=row.get("model"),
        tags={**facts_of(row, FACTS, place), "x_computed_cost": f"{spend:f} USD"},
    )

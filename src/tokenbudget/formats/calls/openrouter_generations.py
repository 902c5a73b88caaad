"""OpenRouter's export of generations: one row a call, told by the provider itself.

Columns as seen in public copies of 2026. The generation id is the response id that callers got, so
a row joins what the caller reported and, being the provider's, counts instead of it. A call on the
customer's own key is told too, under OpenRouter, where the caller reported it; who was paid is told
by its tag ``byok``. What OpenRouter took is kept as the reported cost and never rates.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.usage import OK_STATUS
from tokenbudget.formats.bills.cells import count_cell, looks_like
from tokenbudget.formats.bills.lines import Place, amount_cell, required_text_cell
from tokenbudget.formats.bills.openrouter import PROVIDER
from tokenbudget.formats.bills.tables import Cells
from tokenbudget.formats.calls.cells import is_true, texts_of, time_cell

SOURCE: Final = "openrouter-generations"
CANCELLED: Final = "cancelled"
STANDARD_VARIANT: Final = "standard"
REQUIRED: Final = (
    "generation_id",
    "created_at",
    "cost_total",
    "tokens_prompt",
    "tokens_completion",
    "model_permaslug",
)
COUNTS: Final = {
    "tokens_prompt": "input_tokens",
    "tokens_cached": "cached_input_tokens",
    "tokens_completion": "output_tokens",
    "tokens_reasoning": "reasoning_tokens",
}
BYOK_COST: Final = "byok_usage_inference"


def recognises(head: bytes) -> bool:
    """Tell whether a file begins like an export of generations."""
    return looks_like(head, *REQUIRED)


def wire_of(row: Cells, place: Place) -> dict[str, object]:
    """Give the row as a usage event in the words of the API; raises BadFile for a wrong cell."""
    generation = required_text_cell(row.get("generation_id"), place, "generation_id")
    byok = _amount(row, BYOK_COST, place)
    tags = texts_of(
        {
            "user": row.get("user"),
            "key_alias": row.get("api_key_name"),
            "app": row.get("app_name"),
            "upstream_provider": row.get("provider_name"),
            "byok": "true" if byok else None,
        }
    )
    return {
        "source": SOURCE,
        "event_id": generation,
        "response_id": generation,
        "occurred_at": format_instant(time_cell(row.get("created_at"), place, "created_at")),
        "provider": PROVIDER,
        "model": _model(row, place),
        # There are no ids of keys; the name is what identity mapping goes by.
        "account": row.get("api_key_name"),
        "status": CANCELLED if is_true(row.get("cancelled")) else OK_STATUS,
        "latency_ms": count_cell(row.get("generation_time_ms"), place, "generation_time_ms"),
        "time_to_first_token_ms": count_cell(
            row.get("time_to_first_token_ms"), place, "time_to_first_token_ms"
        ),
        "reported_cost": _amount(row, "cost_total", place) + byok,
        "usage": _usage(row, place),
        "tags": tags,
    }


def _usage(row: Cells, place: Place) -> dict[str, int]:
    counts = {unit: count_cell(row.get(name), place, name) for name, unit in COUNTS.items()}
    usage = {unit: count for unit, count in counts.items() if count is not None}
    if usage.get("cached_input_tokens", 0) > usage.get("input_tokens", 0):
        # Replayed hits count more than was sent; then it is not known what was inside.
        del usage["cached_input_tokens"]
    return usage


def _model(row: Cells, place: Place) -> str:
    slug = required_text_cell(row.get("model_permaslug"), place, "model_permaslug")
    variant = row.get("variant")
    has_variant = variant is not None and variant != STANDARD_VARIANT and ":" not in slug
    return f"{slug}:{variant}" if has_variant else slug


def _amount(row: Cells, column: str, place: Place) -> Decimal:
    cell = row.get(column)
    return Decimal(0) if cell is None else amount_cell(cell, place, column)

"""Langfuse's export of observations: one row a model call, told by who traced it.

Shape: the blob export's ``observations_v2`` (Langfuse field reference, 2026). Only generations and
embeddings are calls of a model; other observations are passed over. Costs are worked out by
Langfuse and are no bill: they are kept as the reported cost, but for 0, which may mean that it knew
no price. ``usage_details`` has a count a price is put to, so its classes stand apart; ``total`` is
their sum and tells whether they do. A call is known by its trace and observation, which are trace
and span where OpenTelemetry made them, and by the response id that LiteLLM puts into the id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.usage import OK_STATUS
from tokenbudget.formats.bills.cells import count_cell, looks_like
from tokenbudget.formats.bills.lines import Place, decimal_cell, required_text_cell
from tokenbudget.formats.bills.tables import Cells
from tokenbudget.formats.calls.cells import object_cell, structure_cell, texts_of, time_cell
from tokenbudget.formats.otlp.providers import provider_of_model

SOURCE: Final = "langfuse"
REQUIRED: Final = ("id", "trace_id", "type", "start_time", "provided_model_name", "usage_details")
CALLS: Final = frozenset({"GENERATION", "EMBEDDING"})
UNKNOWN: Final = "unknown"
ERROR_LEVEL: Final = "ERROR"
ERROR: Final = "error"
TOTAL: Final = "total"
TOTAL_DIFFERS: Final = "langfuse_total_differs"
PROVIDER_KEYS: Final = ("gen_ai.provider.name", "gen_ai.system", "ls_provider", "provider")
# LiteLLM names its generations "time-10-00-00-123000_chatcmpl-…".
LITELLM_ID: Final = re.compile(r"time-\d\d-\d\d-\d\d-\d+_(?P<response>.+)")
CACHED_WORDS: Final = ("cache_read", "cached")
WRITTEN_WORDS: Final = ("cache_creation", "cache_write")
MILLISECONDS: Final = Decimal(1000)


def recognises(head: bytes) -> bool:
    """Tell whether a file begins like an export of observations."""
    return looks_like(head, *REQUIRED)


def wire_of(row: Cells, place: Place) -> tuple[dict[str, object], tuple[str, ...]] | None:
    """Give the row as a usage event in the words of the API, and its flags.

    It is None for an observation that is no call of a model. Raises BadFile for a wrong cell.
    """
    if row.get("type") not in CALLS:
        return None
    observation = required_text_cell(row.get("id"), place, "id")
    model = row.get("provided_model_name") or UNKNOWN
    metadata = object_cell(row.get("metadata"), place, "metadata")
    usage, flags = _usage(object_cell(row.get("usage_details"), place, "usage_details"), place)
    response = LITELLM_ID.fullmatch(observation)
    is_error = row.get("level") == ERROR_LEVEL
    wire = {
        "source": SOURCE,
        "event_id": observation,
        "trace_id": row.get("trace_id"),
        "span_id": observation,
        "response_id": None if response is None else response["response"],
        "occurred_at": format_instant(time_cell(row.get("start_time"), place, "start_time")),
        "provider": _provider(metadata, model),
        "model": model,
        "status": ERROR if is_error else OK_STATUS,
        "latency_ms": _milliseconds(row, "latency", place),
        "time_to_first_token_ms": _milliseconds(row, "time_to_first_token", place),
        "reported_cost": _cost(row, place),
        "usage": usage or None,
        "tags": _tags(row, metadata, place),
    }
    return {name: value for name, value in wire.items() if value is not None}, flags


def _usage(details: Mapping[str, Any], place: Place) -> tuple[dict[str, int], tuple[str, ...]]:
    counts = {
        name: count_cell(value, place, f"usage_details.{name}") or 0
        for name, value in details.items()
    }
    total = counts.pop(TOTAL, None)
    if not counts:
        return {}, ()
    parts = {name: _unit_of(name) for name in counts}
    inputs = {name: unit for name, unit in parts.items() if unit in _INPUT_UNITS}
    outputs = {name: unit for name, unit in parts.items() if unit in _OUTPUT_UNITS}
    stand_apart = sum(counts[name] for name in (*inputs, *outputs))
    nested = counts.get("input", 0) + counts.get("output", 0)
    is_nested = total is not None and total == nested != stand_apart
    flags = () if total in (None, stand_apart, nested) else (TOTAL_DIFFERS,)
    usage: dict[str, int] = {}
    for name, unit in (*inputs.items(), *outputs.items()):
        whole = "input_tokens" if name in inputs else "output_tokens"
        if not is_nested or unit == whole:
            usage[whole] = usage.get(whole, 0) + counts[name]
        if unit != whole:
            usage[unit] = usage.get(unit, 0) + counts[name]
    return usage, flags


_INPUT_UNITS: Final = frozenset(
    {"input_tokens", "cached_input_tokens", "cache_write_tokens", "input_audio_tokens"}
)
_OUTPUT_UNITS: Final = frozenset({"output_tokens", "reasoning_tokens", "output_audio_tokens"})


def _unit_of(name: str) -> str | None:
    """Give the unit of one of the classes, which have no fixed names; None for none of ours."""
    lowered = name.lower()
    if any(word in lowered for word in CACHED_WORDS):
        return "cached_input_tokens"
    if any(word in lowered for word in WRITTEN_WORDS):
        return "cache_write_tokens"
    if "reasoning" in lowered:
        return "reasoning_tokens"
    for side in ("input", "output"):
        if lowered.startswith(side):
            return f"{side}_audio_tokens" if "audio" in lowered else f"{side}_tokens"
    return None


def _provider(metadata: Mapping[str, Any], model: str) -> str:
    named = (metadata.get(key) for key in PROVIDER_KEYS)
    told = next((name for name in named if isinstance(name, str) and name), None)
    return told or provider_of_model(model) or UNKNOWN


def _cost(row: Cells, place: Place) -> Decimal | None:
    cell = row.get("total_cost")
    cost = None if cell is None else decimal_cell(cell, place, "total_cost")
    return cost or None


def _milliseconds(row: Cells, column: str, place: Place) -> int | None:
    cell = row.get(column)
    if cell is None:
        return None
    return int((decimal_cell(cell, place, column) * MILLISECONDS).to_integral_value())


def _tags(row: Cells, metadata: Mapping[str, Any], place: Place) -> dict[str, str]:
    listed = structure_cell(row.get("tags"), place, "tags")
    words = [word for word in listed if isinstance(word, str)] if isinstance(listed, list) else []
    return texts_of(
        {
            "environment": row.get("environment"),
            "user": row.get("user_id"),
            "session_id": row.get("session_id"),
            "name": row.get("name"),
            "prompt_version": row.get("prompt_version"),
            "langfuse_project": row.get("project_id"),
            "langfuse_tags": ",".join(sorted(set(words))),
            **{name: metadata.get(name) for name in TAG_DIMENSIONS if metadata.get(name)},
        }
    )

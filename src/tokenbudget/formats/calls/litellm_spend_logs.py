"""LiteLLM's spend logs, exported from its database or API: one row a call, told by a gateway.

Shape: ``LiteLLM_SpendLogs`` of litellm 1.106 (``schema.prisma``). A row is turned into the record
that LiteLLM's callback sends of the same call, so that both are understood alike
(``formats/litellm.py``). ``spend`` is what LiteLLM worked out: the reported cost, it never rates.
What its cache answered counts its tokens and costs nothing; a failure may have used nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from tokenbudget.domain.periods import to_micros
from tokenbudget.formats.bills.cells import count_cell, looks_like
from tokenbudget.formats.bills.lines import Place, decimal_cell, required_text_cell
from tokenbudget.formats.bills.tables import Cells
from tokenbudget.formats.calls.cells import is_true, object_cell, structure_cell, time_cell
from tokenbudget.formats.otlp.providers import provider_of_model

SOURCE: Final = "litellm-spend-logs"
UNKNOWN_PROVIDER: Final = "unknown"
KEY_TAG: Final = "litellm_key"
REQUIRED: Final = ("request_id", "api_key", "spend", "startTime", "model", "prompt_tokens")
TIMES: Final = ("startTime", "endTime", "completionStartTime")
TOTALS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
COPIED: Final = ("call_type", "status", "model_group", "end_user", "api_base")
MICRO: Final = Decimal("0.000001")
FAILURE: Final = "failure"
# Spend logs may name the kind of error without its code; these never reached a model.
REFUSED: Final = {
    "AuthenticationError": "401",
    "BadRequestError": "400",
    "BudgetExceededError": "400",
    "ContentPolicyViolationError": "400",
    "ContextWindowExceededError": "400",
    "NotFoundError": "404",
    "PermissionDeniedError": "403",
    "RateLimitError": "429",
}


def recognises(head: bytes) -> bool:
    """Tell whether a file begins like an export of spend logs."""
    return looks_like(head, *REQUIRED)


def record_of(row: Cells, place: Place) -> dict[str, Any]:
    """Give the row as LiteLLM's callback would tell of it; raises BadFile for a wrong cell."""
    metadata = dict(object_cell(row.get("metadata"), place, "metadata"))
    model = required_text_cell(row.get("model"), place, "model")
    provider = row.get("custom_llm_provider") or provider_of_model(model) or UNKNOWN_PROVIDER
    status = row.get("status") or metadata.get("status")
    tags = structure_cell(row.get("request_tags"), place, "request_tags")
    record = {
        "id": required_text_cell(row.get("request_id"), place, "request_id"),
        "model": model,
        "custom_llm_provider": provider,
        "cache_hit": is_true(row.get("cache_hit")),
        "trace_id": row.get("session_id"),
        "response_cost": decimal_cell(row.get("spend") or "0", place, "spend"),
        "request_tags": tags if isinstance(tags, list) else [],
        "error_information": _error(metadata, place),
        "metadata": _metadata(row, metadata),
        **{name: row.get(name) for name in COPIED},
        **{name: _seconds(row, name, place) for name in TIMES},
        **{name: count_cell(row.get(name), place, name) for name in TOTALS},
    }
    if status is not None:
        record["status"] = status
    if status == FAILURE:
        # What failed has no response; its id is that of the call.
        record["litellm_call_id"] = record["id"]
    return {name: value for name, value in record.items() if value is not None}


def _seconds(row: Cells, column: str, place: Place) -> Decimal | None:
    cell = row.get(column)
    if cell is None:
        if column == TIMES[0]:
            raise place.refuse(column, "must not be null")
        return None
    return to_micros(time_cell(cell, place, column)) * MICRO


def _error(metadata: Mapping[str, Any], place: Place) -> dict[str, Any] | None:
    error = metadata.get("error_information")
    if not isinstance(error, dict):
        return None
    code = error.get("error_code") or REFUSED.get(str(error.get("error_class")))
    return {**error, "error_code": code} if code else error


def _metadata(row: Cells, metadata: dict[str, Any]) -> dict[str, Any]:
    given = metadata.get("spend_logs_metadata")
    own = given if isinstance(given, dict) else {}
    filled = {
        "user_api_key_user_id": row.get("user"),
        "user_api_key_team_id": row.get("team_id"),
        "user_api_key_org_id": row.get("organization_id"),
    }
    for name, value in filled.items():
        if value is not None and not metadata.get(name):
            metadata[name] = value
    key = row.get("api_key")
    metadata["spend_logs_metadata"] = {**own, **({KEY_TAG: key} if key else {})}
    return metadata

"""LiteLLM's record of a call, its standard logging payload, as fields of our usage event.

It owns what of a record is told: counts, names, times and LiteLLM's own cost, which is kept as
reported. It never reads prompts, answers or texts of errors, and prices nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tokenbudget.client._failures import Failure, Reach, causes_of, failure_of
from tokenbudget.gateways._tags import MAX_CHARACTERS, object_of

OPERATIONS: Final = {
    "completion": "chat",
    "anthropic_messages": "chat",
    "responses": "chat",
    "generate_content": "chat",
    "embedding": "embeddings",
}
USUAL_TIERS: Final = frozenset({"default", "auto"})
TOTALS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
MICROSECONDS: Final = 1_000_000
MICROS_A_MILLISECOND: Final = 1_000
MAX_MILLISECONDS: Final = 2**31 - 1
MAX_REMEMBERED: Final = 64
# LiteLLM's names for answers of providers that did not do the work.
REFUSALS: Final = frozenset(
    {
        "AuthenticationError",
        "BadRequestError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServiceUnavailableError",
        "UnprocessableEntityError",
        "UnsupportedParamsError",
    }
)

Facts = Mapping[str, Any]


def answer_of(record: Facts) -> dict[str, Any]:
    """Give what the client reads of an answer: id, tier and LiteLLM's usage object.

    The id is the one that the caller got, by which other witnesses of the call know it; an answer
    from LiteLLM's cache repeats that of another call, and has none.
    """
    usage = object_of(object_of(record, "metadata"), "usage_object")
    totals = {name: record[name] for name in TOTALS if _whole(record.get(name))}
    is_own = record.get("id") not in (None, record.get("litellm_call_id"))
    return {
        "id": text_of(record.get("id")) if is_own and not is_cached(record) else None,
        "service_tier": _tier(record),
        "usage": (dict(usage) if _has_counts(usage) else totals) or None,
    }


def facts_of(record: Facts) -> dict[str, Any]:
    """Give the event's fields that LiteLLM knows better than who asked for the call."""
    known = {
        "provider": text_of(record.get("custom_llm_provider")),
        "model": model_of(record),
        "request_model": text_of(record.get("model_group")),
        "reported_cost": _cost(record),
        "cache_hit": True if is_cached(record) else None,
        "region": text_of(object_of(record, "cost_breakdown").get("vertex_location")),
        "latency_ms": _elapsed(record, "endTime"),
        "time_to_first_token_ms": _elapsed(record, "completionStartTime")
        if record.get("stream") is True
        else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def event_of_record(record: Facts, tags: Mapping[str, str], *, source: str) -> dict[str, Any]:
    """Give the event of a call that nobody checked; its usage may be unknown."""
    answer = answer_of(record)
    occurred_at = _instant(record.get("startTime")) or _instant(record.get("endTime"))
    known = {
        "event_id": text_of(record.get("litellm_call_id")),
        "source": source,
        "occurred_at": occurred_at,
        "provider": "unknown",
        "model": "unknown",
        "operation": operation_of(record.get("call_type")),
        "status": "ok" if answer["usage"] else "unknown",
        "response_id": answer["id"],
        "service_tier": answer["service_tier"],
        "provider_usage": answer["usage"],
        "tags": dict(tags),
        **facts_of(record),
    }
    return {name: value for name, value in known.items() if value is not None}


def model_of(record: Facts) -> str | None:
    """Give the deployment's model; what a response names may be the alias that was asked for."""
    model = text_of(record.get("model"))
    return None if model is None else model.removeprefix(f"{record.get('custom_llm_provider')}/")


def operation_of(call_type: object) -> str | None:
    """Give what kind of call this is; the asynchronous twin of each has an "a" in front."""
    name = text_of(call_type)
    if name is None:
        return None
    return OPERATIONS.get(name) or OPERATIONS.get(name.removeprefix("a")) or name


def is_cached(record: Facts) -> bool:
    """Tell whether LiteLLM answered out of its own cache."""
    return record.get("cache_hit") is True


def failure_of_attempt(error: BaseException, *, is_first: bool) -> Failure:
    """Give what an error that LiteLLM raised says of the attempt it ended.

    The error of a first attempt has only its own causes behind it: when there was no connection,
    nothing was sent. Behind later ones stand those of earlier attempts, too.
    """
    for cause in causes_of(error) if is_first else ():
        failure = failure_of(cause)
        if failure.reach is Reach.NOT_SENT:
            return failure
    return failure_of(error)


def remembered_failure(earlier: object, call_id: object) -> Failure | None:
    """Give how the last attempt of this call failed, as LiteLLM's router noted before a retry.

    The router notes the newest few failures of all calls together, so that it may be forgotten.
    """
    listed = earlier if isinstance(earlier, list) else []
    for note in reversed(listed[-MAX_REMEMBERED:]):
        if not isinstance(note, Mapping) or note.get("litellm_call_id") != call_id:
            continue
        kind = note.get("exception_type")
        is_time_out = isinstance(kind, str) and "Timeout" in kind
        reach = Reach.REFUSED if kind in REFUSALS else Reach.UNKNOWN
        return Failure("timeout" if is_time_out else "error", reach)
    return None


def text_of(value: object) -> str | None:
    """Give a text that fits a field of ours; None for anything else."""
    is_fit = isinstance(value, str) and value.strip() and len(value) <= MAX_CHARACTERS
    return value if is_fit and isinstance(value, str) and "\0" not in value else None


def _has_counts(usage: Facts) -> bool:
    return any(
        _has_counts(value) if isinstance(value, Mapping) else _whole(value)
        for value in usage.values()
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _tier(record: Facts) -> str | None:
    places = (object_of(record, name) for name in ("response", "cost_breakdown"))
    tier = next((text for place in places if (text := text_of(place.get("service_tier")))), None)
    return None if tier in USUAL_TIERS else tier


def _cost(record: Facts) -> str | None:
    """Give LiteLLM's figure by its shortest digits; its zero means that it knew no price."""
    cost = record.get("response_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not math.isfinite(cost):
        return None
    is_told = cost > 0 or (cost == 0 and is_cached(record))
    return format(Decimal(repr(cost)), "f") if is_told else None


def _elapsed(record: Facts, name: str) -> int | None:
    start, end = record.get("startTime"), record.get(name)
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return None
    if not math.isfinite(start) or not math.isfinite(end):
        return None
    elapsed = (round(end * MICROSECONDS) - round(start * MICROSECONDS)) // MICROS_A_MILLISECOND
    return elapsed if 0 <= elapsed <= MAX_MILLISECONDS else None


def _instant(seconds: object) -> str | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return None

"""LiteLLM's ``generic_api`` callback: its standard logging payload as usage events.

It owns which fields of a record are read, and so which may be stored: an allow-list, in which
prompts, answers, error texts and headers have no place. Written by LiteLLM 1.109
(https://docs.litellm.ai/docs/proxy/logging_spec). It refuses to price: LiteLLM's own cost is kept
as what was reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant, from_micros
from tokenbudget.domain.usage import OK_STATUS, Witness
from tokenbudget.formats.events import MAX_TAGS, Door, ParsedItem, Rejection
from tokenbudget.formats.foreign_records import (
    Inside,
    Keep,
    Reading,
    counts,
    flagged,
    number,
    parse_one,
    read_record,
    reread_record,
    scalar,
    scalars,
    short_text,
    split_records,
    texts,
)
from tokenbudget.formats.provider_usage import normalise

SOURCE: Final = "litellm"
SUCCESS: Final = "success"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
ERROR: Final = "error"
TAG_DROPPED: Final = "tag_dropped"
TOTALS_ONLY: Final = "usage_object_unread"
NO_USER: Final = "default_user_id"
AGENT_TAG: Final = "user-agent:"
BARE_TAGS: Final = "request_tags"
TOTALS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
NOTHING_USED: Final = {"input_tokens": 0, "output_tokens": 0}
MICROS_PER_SECOND: Final = 10**6
MILLISECONDS_PER_SECOND: Final = 1000
MAX_MILLISECONDS: Final = 2**31 - 1
MAX_SECONDS: Final = 253_402_300_799
MAX_ATTEMPT: Final = 1000
USUAL_TIERS: Final = frozenset({"default", "auto"})
TIMED_OUT_CODES: Final = frozenset({"408", "504"})
CLIENT_CLOSED: Final = "499"
OPERATIONS: Final = {
    "completion": "chat",
    "anthropic_messages": "chat",
    "responses": "chat",
    "generate_content": "chat",
    "embedding": "embeddings",
}
RETRIES: Final = ("x-litellm-attempted-retries", "x-litellm-attempted-fallbacks")


def _host(value: object) -> object:
    """Keep a URL's host alone: its query may hold a key."""
    if not isinstance(value, str):
        return None
    try:
        return scalar(urlsplit(value).hostname)
    except ValueError:
        return None


def _dimension_headers(value: object) -> object:
    """Keep the headers named like a dimension, such as ``x-team``; others may hold secrets."""
    if not isinstance(value, Mapping):
        return None
    named = {str(name).lower().removeprefix("x-").replace("-", "_"): name for name in value}
    kept = {tag: scalar(value[named[tag]]) for tag in TAG_DIMENSIONS if tag in named}
    return {tag: text for tag, text in kept.items() if text is not None} or None


KEY_FIELDS: Final = (
    "user_api_key_alias",
    "user_api_key_team_id",
    "user_api_key_team_alias",
    "user_api_key_org_id",
    "user_api_key_org_alias",
    "user_api_key_project_id",
    "user_api_key_project_alias",
    "user_api_key_user_id",
)
KEPT_FIELDS: Final[Mapping[str, Keep]] = {
    **dict.fromkeys(
        (
            "id",
            "litellm_call_id",
            "trace_id",
            "call_type",
            "cache_hit",
            "stream",
            "status",
            "custom_llm_provider",
            "model",
            "model_group",
            "end_user",
        ),
        scalar,
    ),
    **dict.fromkeys(
        (
            "startTime",
            "endTime",
            "completionStartTime",
            "response_cost",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
        ),
        number,
    ),
    "api_base": _host,
    "request_tags": texts,
    "cost_breakdown": Inside({"service_tier": scalar, "vertex_location": scalar}),
    "response": Inside({"service_tier": scalar}),
    "error_information": Inside({"error_code": scalar, "error_class": scalar}),
    "hidden_params": Inside({"additional_headers": Inside(dict.fromkeys(RETRIES, number))}),
    "metadata": Inside(
        {
            **dict.fromkeys(KEY_FIELDS, scalar),
            "spend_logs_metadata": scalars,
            "requester_custom_headers": _dimension_headers,
            "requester_metadata": Inside({"trace_id": scalar, "session_id": scalar}),
            "usage_object": counts,
        }
    ),
}


@dataclass(frozen=True, slots=True)
class CallbackDoor:
    """What a record is read with: the door, and the price book's names of providers.

    ``provider_of`` gives None for a provider that the price book has not.
    """

    door: Door
    provider_of: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class _Measured:
    quantities: Mapping[str, int] | None
    flags: tuple[str, ...] = ()
    service_tier: str | None = None
    region: str | None = None


def read_callback(body: bytes, door: CallbackDoor, *, max_records: int) -> list[Reading]:
    """Give the records of a callback's body, whatever its media type says, each with its usage.

    Raises TooLarge for more than ``max_records``; nothing else is an error of the body.
    """
    return [
        read_record(raw, index, KEPT_FIELDS, partial(_interpret, index=index, door=door))
        for index, raw in enumerate(split_records(body, max_records=max_records))
    ]


def reread_callback(kept: str, door: CallbackDoor) -> ParsedItem:
    """Give the usage of a record that was set aside, as it is understood now."""
    return reread_record(kept, partial(_interpret, index=0, door=door))


def _interpret(record: dict[str, Any], *, index: int, door: CallbackDoor) -> ParsedItem:
    """Give a record that was cut down as a usage event, or why it cannot be one."""
    name = record.get("litellm_call_id") or record.get("id")
    try:
        measured = _measure(record)
    except InvalidInput as error:
        return Rejection(index, short_text(name), "usage_invalid", error.detail)
    tags, flags = _tags(record)
    provider = record.get("custom_llm_provider")
    known = door.provider_of(provider) if isinstance(provider, str) else None
    wire = {
        "source": SOURCE,
        "event_id": name,
        "occurred_at": _instant(record),
        "provider": known or provider,
        "model": _model(record),
        "request_model": short_text(record.get("model_group")),
        "operation": _operation(record),
        "service_tier": _service_tier(record) or measured.service_tier,
        "region": measured.region,
        "status": _status(record),
        "cache_hit": record.get("cache_hit") is True,
        "response_id": _response_id(record),
        "reported_cost": _reported_cost(record),
        "usage": measured.quantities,
        "tags": tags,
        **_durations(record),
        **_lineage(record),
    }
    # A field that is left out is reported as missing by its name; null would only be of no type.
    present = {field: value for field, value in wire.items() if value is not None}
    item = parse_one(present, index, replace(door.door, witness=Witness.GATEWAY))
    return flagged(item, (*measured.flags, *flags))


def _measure(record: Mapping[str, Any]) -> _Measured:
    """Give the counts of a record; None where LiteLLM was told none, which is not zero.

    Raises InvalidInput for counts that cannot be read.
    """
    usage = _object(_object(record, "metadata"), "usage_object")
    totals = {name: record.get(name) for name in TOTALS if record.get(name)}
    provider = record.get("custom_llm_provider")
    region = short_text(_object(record, "cost_breakdown").get("vertex_location"))
    if not any(_is_counted(usage, name) for name in usage) and not totals:
        is_refused = _status(record) != OK_STATUS and _was_refused(record)
        return _Measured(dict(NOTHING_USED) if is_refused else None, region=region)
    flags: tuple[str, ...] = ()
    try:
        read = normalise(str(provider), usage)
    except InvalidInput:
        if not totals:
            raise
        read, flags = normalise(str(provider), totals), (TOTALS_ONLY,)
    return _Measured(
        read.quantities, (*read.flags, *flags), read.service_tier, region or read.region
    )


def _is_counted(usage: Mapping[str, Any], name: str) -> bool:
    value = usage[name]
    if isinstance(value, Mapping):
        return any(_is_counted(value, inner) for inner in value)
    return isinstance(value, int | Decimal) and bool(value)


def _was_refused(record: Mapping[str, Any]) -> bool:
    """Tell whether the provider answered that it did not do the work, which costs nothing."""
    code = _error_code(record)
    return len(code) == len("4xx") and code[0] == "4" and _status(record) == ERROR


def _status(record: Mapping[str, Any]) -> str:
    if record.get("status", SUCCESS) == SUCCESS:
        return OK_STATUS
    code = _error_code(record)
    error_class = str(_object(record, "error_information").get("error_class", ""))
    if code in TIMED_OUT_CODES or TIMEOUT in error_class.lower():
        return TIMEOUT
    is_cancelled = code == CLIENT_CLOSED or "cancel" in error_class.lower()
    return CANCELLED if is_cancelled else ERROR


def _error_code(record: Mapping[str, Any]) -> str:
    return str(_object(record, "error_information").get("error_code", ""))


def _model(record: Mapping[str, Any]) -> object:
    """Give the deployment's model; what a response names may be the alias that was asked for."""
    model, provider = record.get("model"), record.get("custom_llm_provider")
    if not isinstance(model, str):
        return model
    return model.removeprefix(f"{provider}/")


def _operation(record: Mapping[str, Any]) -> str | None:
    call_type = short_text(record.get("call_type"))
    if call_type is None:
        return None
    # The asynchronous twin of every call is named with an "a" in front.
    for name in (call_type, call_type.removeprefix("a")):
        if name in OPERATIONS:
            return OPERATIONS[name]
    return call_type


def _service_tier(record: Mapping[str, Any]) -> str | None:
    tiers = (_object(record, part).get("service_tier") for part in ("response", "cost_breakdown"))
    tier = next((text for text in map(short_text, tiers) if text), None)
    return None if tier in USUAL_TIERS else tier


def _response_id(record: Mapping[str, Any]) -> str | None:
    """Give the id of the response as the caller got it, which is the provider's or LiteLLM's own.

    None where it only repeats the call's id, and for an answer from LiteLLM's cache: that one has
    the id of the response that was cached, which is another call's.
    """
    if record.get("cache_hit") is True or record.get("id") == record.get("litellm_call_id"):
        return None
    return short_text(record.get("id"))


def _reported_cost(record: Mapping[str, Any]) -> Decimal | int | None:
    """Give LiteLLM's figure; its zero means that it knew no price, but for its own cache."""
    cost = record.get("response_cost")
    if not isinstance(cost, Decimal | int) or isinstance(cost, bool):
        return None
    return cost if cost > 0 or record.get("cache_hit") is True else None


def _instant(record: Mapping[str, Any]) -> str | None:
    micros = _micros(record, "startTime")
    if micros is None:
        micros = _micros(record, "endTime")
    return None if micros is None else format_instant(from_micros(micros))


def _durations(record: Mapping[str, Any]) -> dict[str, int | None]:
    """Give how long the call took; when the first token came is known of streams alone."""
    is_stream = record.get("stream") is True
    return {
        "latency_ms": _elapsed(record, "endTime"),
        "time_to_first_token_ms": _elapsed(record, "completionStartTime") if is_stream else None,
    }


def _elapsed(record: Mapping[str, Any], field: str) -> int | None:
    start, end = _micros(record, "startTime"), _micros(record, field)
    if start is None or end is None:
        return None
    elapsed = (end - start) * MILLISECONDS_PER_SECOND // MICROS_PER_SECOND
    return elapsed if 0 <= elapsed <= MAX_MILLISECONDS else None


def _micros(record: Mapping[str, Any], field: str) -> int | None:
    """Give seconds since 1970 in microseconds, by the digits that were sent."""
    seconds = record.get(field)
    if not isinstance(seconds, Decimal | int) or not 0 <= seconds <= MAX_SECONDS:
        return None
    return int((Decimal(seconds) * MICROS_PER_SECOND).to_integral_value())


def _lineage(record: Mapping[str, Any]) -> dict[str, object]:
    """Give what ties attempts together.

    LiteLLM's trace id groups the attempts of one request; a session that was named replaces it.
    """
    asked = _object(_object(record, "metadata"), "requester_metadata")
    session, trace = short_text(asked.get("session_id")), short_text(asked.get("trace_id"))
    group = short_text(record.get("trace_id"))
    headers = _object(_object(record, "hidden_params"), "additional_headers")
    earlier = sum(headers[name] for name in RETRIES if isinstance(headers.get(name), int))
    return {
        "operation_id": trace if group == session else group,
        "trace_id": trace,
        "attempt": min(max(earlier, 0) + 1, MAX_ATTEMPT),
    }


def _tags(record: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give the tags, those of the virtual key first, and the flag of any that did not fit.

    A caller sets request tags, headers and metadata at will; the key is the proxy's own word.
    """
    metadata = _object(record, "metadata")
    given: dict[str, object] = {**_key_tags(record, metadata)}
    for source in (
        _request_tags(record.get("request_tags")),
        _object(metadata, "spend_logs_metadata"),
        _object(metadata, "requester_custom_headers"),
    ):
        for name, value in source.items():
            given.setdefault(name, value)
    fit = {name: text for name, value in given.items() if (text := _tag_text(name, value))}
    kept = dict(list(fit.items())[:MAX_TAGS])
    return kept, (TAG_DROPPED,) if len(kept) < len(given) else ()


def _tag_text(name: str, value: object) -> str | None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return short_text(text) if short_text(name) else None


def _key_tags(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, object]:
    user = metadata.get("user_api_key_user_id")
    session = _object(metadata, "requester_metadata").get("session_id")
    tags = {
        "team": _first(metadata, "user_api_key_team_alias", "user_api_key_team_id"),
        "organization": _first(metadata, "user_api_key_org_alias", "user_api_key_org_id"),
        "project": _first(metadata, "user_api_key_project_alias", "user_api_key_project_id"),
        "key_alias": metadata.get("user_api_key_alias"),
        "user": record.get("end_user") or (None if user == NO_USER else user),
        "session_id": session,
        "api_host": record.get("api_base"),
    }
    return {name: value for name, value in tags.items() if value not in (None, "")}


def _request_tags(listed: object) -> dict[str, object]:
    """Give ``name:value`` tags by name, and those that are one word together under one name.

    LiteLLM adds tags of its own that name the caller's program; they are left out.
    """
    tags: dict[str, object] = {}
    bare = []
    for text in listed if isinstance(listed, list) else ():
        if text.lower().startswith(AGENT_TAG):
            continue
        name, separator, value = text.partition(":")
        if separator and name.strip() and value.strip():
            tags.setdefault(name.strip(), value.strip())
        elif text.strip():
            bare.append(text.strip())
    if bare:
        tags.setdefault(BARE_TAGS, ",".join(sorted(set(bare))))
    return tags


def _first(record: Mapping[str, Any], *fields: str) -> object:
    return next((record[field] for field in fields if record.get(field)), None)


def _object(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = record.get(field)
    return value if isinstance(value, Mapping) else {}

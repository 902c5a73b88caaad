"""Coding agents' log events as usage events: Claude Code, Codex and Gemini CLI.

It owns which of their events is one billable request and what its fields mean. Every other log
record is ignored, above all the event of the GenAI conventions that repeats a span
(``gen_ai.client.inference.operation.details``): the span is counted.

Sources: https://code.claude.com/docs/en/monitoring-usage (API request and API error events);
openai/codex, codex-rs/otel/src/events/session_telemetry.rs (``sse_event_completed``);
google-gemini/gemini-cli, docs/cli/telemetry.md (API events).

Claude's input leaves out what the cache held. Codex's input and output are totals. Gemini's input
holds the cache, its output leaves out thoughts, and the prompt of tools stands beside both. Only
Claude tells an id of the request, under which its span, if traced, is found to be the same call.
Trace and span of a record are those of the whole turn, so they never identify the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import parse_instant
from tokenbudget.domain.usage import OK_STATUS, UsageEvent, Witness
from tokenbudget.formats.otlp import names
from tokenbudget.formats.otlp.outcomes import (
    CANCELLED,
    ERROR,
    FIRST_ERROR_STATUS,
    LAST_ERROR_STATUS,
    NOTHING_SERVED,
    TIMED_OUT,
    TIMEOUT,
    WAS_CANCELLED,
)
from tokenbudget.formats.otlp.providers import provider_of_model
from tokenbudget.formats.otlp.shapes import Attributes, LogRecord
from tokenbudget.formats.otlp.span_usage import (
    Measured,
    checked,
    measure_claude_code,
    nanos_of,
)
from tokenbudget.formats.otlp.traces import (
    CALL_REFUSED,
    CHAT,
    MAX_MS,
    MODEL_UNNAMED,
    UNKNOWN_MODEL,
    Reading,
    content_hash_of,
    source_of,
)
from tokenbudget.formats.otlp.values import decimal_of, find_count, find_text, text_of
from tokenbudget.formats.usage_counts import total_flags

EVENT_NAME: Final = "event.name"
EVENT_TIME: Final = "event.timestamp"
MODEL: Final = "model"
REQUEST_ID: Final = "request_id"
ATTEMPT: Final = "attempt"
DURATION: Final = "duration_ms"
COST: Final = "cost_usd"
MAX_ATTEMPT: Final = 1_000
CODEX_KIND: Final = "event.kind"
CODEX_COMPLETED: Final = "response.completed"
DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """The requests among log records; ``ignored`` counts the records that are none.

    ``unusable`` counts the requests without a time, which nothing can be made of.
    """

    events: tuple[UsageEvent, ...]
    ignored: int
    unusable: int


@dataclass(frozen=True, slots=True)
class _Agent:
    """How one agent tells of a request; ``measure`` gives None for a record that is none."""

    provider: str
    measure: Callable[[Attributes], Measured | None]


def read_log_records(records: Sequence[LogRecord], reading: Reading) -> ReadRecords:
    """Give the usage events among these log records, in their order; resends once."""
    events: dict[tuple[str, str], UsageEvent] = {}
    ignored = unusable = 0
    for record in records:
        agent = AGENTS.get(_name_of(record))
        measured = agent.measure(record.attributes) if agent else None
        if agent is None or measured is None:
            ignored += 1
            continue
        occurred_at = _time_of(record)
        if occurred_at is None:
            unusable += 1
            continue
        event = _event(record, agent.provider, measured, occurred_at)
        tags = {
            **reading.tag_rules.tags_of(record.origin.resource),
            **reading.tag_rules.tags_of(record.attributes),
        }
        events.setdefault((event.source, event.event_ref), replace(event, tags=tags))
    return ReadRecords(tuple(events.values()), ignored, unusable)


def _name_of(record: LogRecord) -> str:
    """Give the event's full name; Claude Code has it in the body and its last part as attribute."""
    told = (record.name, text_of(record.body), find_text(record.attributes, EVENT_NAME))
    return next((name for name in told if name is not None and name in AGENTS), "")


def _time_of(record: LogRecord) -> datetime | None:
    told = find_text(record.attributes, EVENT_TIME)
    if told is None:
        return record.occurred_at
    try:
        return parse_instant(told, field=EVENT_TIME)
    except InvalidInput:
        return record.occurred_at


def _event(
    record: LogRecord, provider: str, measured: Measured, occurred_at: datetime
) -> UsageEvent:
    attributes = record.attributes
    model = find_text(attributes, MODEL)
    status = _status_of(record)
    quantities = measured.quantities
    flags = (*measured.flags, *(() if model else (MODEL_UNNAMED,)))
    if quantities is None and status == ERROR and _was_refused(attributes):
        quantities, flags = dict(NOTHING_SERVED), (*flags, CALL_REFUSED)
    elapsed = find_count(attributes, DURATION)
    event_ref = _event_ref(record)
    return UsageEvent(
        source=source_of(record.origin),
        event_ref=event_ref,
        content_hash=content_hash_of(event_ref, provider, model, status, quantities),
        occurred_at=_began_at(occurred_at, elapsed),
        provider=(provider_of_model(model) if model else None) or provider,
        model=model or UNKNOWN_MODEL,
        quantities=quantities,
        operation=CHAT,
        service_tier=measured.service_tier,
        status=status,
        attempt=min(MAX_ATTEMPT, max(1, find_count(attributes, ATTEMPT) or 1)),
        trace_ref=record.trace_ref or None,
        response_ref=find_text(attributes, REQUEST_ID),
        latency_ms=None if elapsed is None else min(elapsed, MAX_MS),
        reported_nanos=nanos_of(decimal_of(attributes.get(COST))),
        flags=flags,
        witness=Witness.OTLP,
    )


def _began_at(ended_at: datetime, elapsed_ms: int | None) -> datetime:
    """Give when a request began: its event is told when it has ended."""
    return ended_at - timedelta(milliseconds=min(elapsed_ms or 0, MAX_MS))


def _event_ref(record: LogRecord) -> str:
    """Give an id of the record's content: agents send none of their own.

    When the record was observed is no part of it, since that changes as it is passed on.
    """
    facts = (
        record.name,
        record.occurred_at,
        sorted((name, str(value)) for name, value in record.attributes.items()),
    )
    return "log:" + hashlib.blake2b(repr(facts).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _status_of(record: LogRecord) -> str:
    attributes = record.attributes
    told = find_text(attributes, "error_type", "error", "error.message")
    if told is None and not _name_of(record).endswith("api_error"):
        return OK_STATUS
    if told is not None and TIMED_OUT.search(told):
        return TIMEOUT
    return CANCELLED if told is not None and WAS_CANCELLED.search(told) else ERROR


def _was_refused(attributes: Attributes) -> bool:
    status = find_count(attributes, *names.FIELDS[names.HTTP_STATUS])
    return status is not None and FIRST_ERROR_STATUS <= status <= LAST_ERROR_STATUS


def _measure_codex(attributes: Attributes) -> Measured | None:
    """Give the usage of a finished response; the same kind comes without counts as well."""
    if find_text(attributes, CODEX_KIND) != CODEX_COMPLETED:
        return None
    counts = _counts(
        attributes,
        {
            "input_tokens": "input_token_count",
            "cached_input_tokens": "cached_token_count",
            "output_tokens": "output_token_count",
            "reasoning_tokens": "reasoning_token_count",
        },
    )
    return checked(Measured(counts)) if counts else None


def _measure_gemini(attributes: Attributes) -> Measured:
    counts = _counts(
        attributes,
        {
            "input_tokens": "input_token_count",
            "cached_input_tokens": "cached_content_token_count",
            "output_tokens": "output_token_count",
            "reasoning_tokens": "thoughts_token_count",
        },
    )
    if not counts:
        return Measured()
    tools = find_count(attributes, "tool_token_count") or 0
    counts["input_tokens"] = counts.get("input_tokens", 0) + tools
    counts["output_tokens"] = counts.get("output_tokens", 0) + counts.get("reasoning_tokens", 0)
    flags = total_flags(counts, find_count(attributes, "total_token_count"))
    return checked(Measured(counts, flags=flags))


def _measure_failure(attributes: Attributes) -> Measured:
    return Measured()


def _counts(attributes: Attributes, names_by_unit: Mapping[str, str]) -> dict[str, int]:
    found = {unit: find_count(attributes, name) for unit, name in names_by_unit.items()}
    return {unit: count for unit, count in found.items() if count is not None}


AGENTS: Final[Mapping[str, _Agent]] = {
    "claude_code.api_request": _Agent("anthropic", measure_claude_code),
    "claude_code.api_error": _Agent("anthropic", _measure_failure),
    "codex.sse_event": _Agent("openai", _measure_codex),
    "gemini_cli.api_response": _Agent("google", _measure_gemini),
    "gemini_cli.api_error": _Agent("google", _measure_failure),
}
"""The events that are one request each, by name."""

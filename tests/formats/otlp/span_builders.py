"""Spans, log records and data points with boring defaults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.otlp import Reading, read_spans
from tokenbudget.formats.otlp.shapes import LogRecord, Origin, Span

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
START: Final = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
SCOPE: Final = "opentelemetry.instrumentation.genai.openai"
CHAT: Final[Mapping[str, Any]] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 1_000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 0,
}


def span_id(number: int) -> str:
    return f"{number:016x}"


def make_span(number: int = 1, attributes: Mapping[str, Any] | None = None, **changes: Any) -> Span:
    """Give a chat span; ``parent``, ``scope``, ``start_ms`` and ``end_ms`` are said in short."""
    parent = changes.pop("parent", None)
    scope = changes.pop("scope", SCOPE)
    resource = changes.pop("resource", {"service.name": "support-bot"})
    start_ms, end_ms = changes.pop("start_ms", 0), changes.pop("end_ms", 1_000)
    span = Span(
        origin=Origin(resource, scope),
        trace_ref=TRACE,
        span_ref=span_id(number),
        parent_ref=None if parent is None else span_id(parent),
        name="chat gpt-5-mini",
        started_at=START + timedelta(milliseconds=start_ms),
        ended_at=START + timedelta(milliseconds=end_ms),
        attributes=dict(CHAT) if attributes is None else attributes,
    )
    return replace(span, **changes)


def chat(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give the attributes of a chat with these changes; None takes an attribute away."""
    merged = {**CHAT, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def make_record(name: str, attributes: Mapping[str, Any], **changes: Any) -> LogRecord:
    record = LogRecord(
        origin=Origin({"service.name": "agent", "team": "platform"}),
        name=name,
        occurred_at=START,
        body=None,
        attributes=attributes,
    )
    return replace(record, **changes)


def event_of(span: Span, reading: Reading | None = None) -> UsageEvent:
    """Give the one event of a span."""
    (event,) = read_spans([span], reading or Reading()).events
    return event

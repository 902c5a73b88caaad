"""Spans of model calls as usage events, and what to remember of every span.

It owns which spans are one billable call and what such a span says. It refuses to join spans
(``joining.py``) and to know what was recorded before.

A span counts when its operation is a model call; agents, workflows, tools and everything else are
ignored. Only where no operation is named at all, a span that names provider, model and tokens
counts too: older emitters and gateways send no more. Of Claude Code the requests count that carry
an id, since each is told of by a log record as well and nothing else would join the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.otlp import names
from tokenbudget.formats.otlp.fields import HOLDERS, Fields
from tokenbudget.formats.otlp.outcomes import ERROR, NOTHING_SERVED, status_of, was_refused
from tokenbudget.formats.otlp.providers import (
    UNKNOWN_PROVIDER,
    fold_provider,
    provider_of_host,
    provider_of_model,
)
from tokenbudget.formats.otlp.shapes import Origin, Span
from tokenbudget.formats.otlp.span_usage import (
    Emission,
    measure_claude_code,
    measure_span,
)
from tokenbudget.formats.otlp.tags import DEFAULT_TAG_RULES, TagRules, parse_tag_rules
from tokenbudget.formats.otlp.values import (
    MAX_TEXT_CHARACTERS,
    find_text,
    host_of,
    object_of,
    text_of,
)

SOURCE_PREFIX: Final = "otlp:"
NAMELESS_SOURCE: Final = "otlp"
SERVICE_NAME: Final = "service.name"
UNKNOWN_MODEL: Final = "unknown"
MODELS_PREFIX: Final = "models/"
CHAT: Final = "chat"
MAX_MS: Final = 2**31 - 1
MS_PER_SECOND: Final = 1_000
MAX_ATTEMPT: Final = 1_000
FIRST_TOKEN_FIELDS: Final = ((names.FIRST_TOKEN_SECONDS, MS_PER_SECOND), (names.FIRST_TOKEN_MS, 1))
NEEDED_FIELDS: Final = (names.PROVIDER, names.REQUEST_MODEL, "input_tokens")
TRACE_ID_DIGITS: Final = 32
SPAN_ID_DIGITS: Final = 16
NO_TRACE: Final = "0" * TRACE_ID_DIGITS
NO_SPAN: Final = "0" * SPAN_ID_DIGITS
PROVIDER_INFERRED: Final = "provider_inferred"
PROVIDER_UNNAMED: Final = "provider_unnamed"
MODEL_UNNAMED: Final = "model_unnamed"
CALL_REFUSED: Final = "call_refused"


@dataclass(frozen=True, slots=True)
class Reading:
    """How telemetry is read, as the operator set it.

    ``hosts`` maps hosts and domains to providers, before our own. ``accepts_guesses`` lets an
    emitter's estimate of a stream's tokens count as estimated; otherwise it is unknown.
    """

    tag_rules: TagRules = field(default_factory=lambda: parse_tag_rules(DEFAULT_TAG_RULES))
    hosts: Mapping[str, str] = field(default_factory=dict)
    accepts_guesses: bool = False


class Call(msgspec.Struct, frozen=True, gc=False):
    """What tells one model call from another within a trace.

    ``tokens`` are input and output, None where usage is unknown. ``is_log`` marks the span on which
    Logfire tells of a stream's usage after the stream's own span.
    """

    scope: str
    operation: str
    models: frozenset[str]
    response_ref: str | None
    tokens: tuple[int, int] | None
    is_log: bool = False


class SpanFacts(msgspec.Struct, frozen=True, gc=False):
    """What to remember of a span while the rest of its trace may still come.

    ``tags`` are the span's own, without its resource's; ``call`` is None for a span that is none.
    """

    trace_ref: str
    span_ref: str
    parent_ref: str | None
    started_at: datetime
    ended_at: datetime
    tags: Mapping[str, str]
    call: Call | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Give trace and span id."""
        return self.trace_ref, self.span_ref


@dataclass(frozen=True, slots=True)
class ReadSpans:
    """The calls among the spans of one request, and all its spans.

    ``events`` are not joined yet: two spans may tell of one call. ``ignored`` counts the spans that
    are no model call, ``unusable`` the calls without ids or times, which nothing can be made of.
    """

    events: tuple[UsageEvent, ...]
    spans: tuple[SpanFacts, ...]
    ignored: int
    unusable: int


class _Emitter(msgspec.Struct, frozen=True, gc=False):
    """What all spans of one origin have in common."""

    source: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, origin: Origin, reading: Reading) -> _Emitter:
        return cls(source_of(origin), reading.tag_rules.tags_of(origin.resource))


class _Place(msgspec.Struct, frozen=True, gc=False):
    """A span that is a call, where and when it happened."""

    span: Span
    operation: str
    occurred_at: datetime
    source: str
    tags: Mapping[str, str]


def read_spans(spans: Sequence[Span], reading: Reading) -> ReadSpans:
    """Give the usage events and the facts of these spans, in their order; resends once."""
    events: list[UsageEvent] = []
    facts: dict[tuple[str, str], SpanFacts] = {}
    emitters: dict[int, _Emitter] = {}
    ignored = unusable = 0
    for span in spans:
        operation = operation_of(span)
        started_at = span.started_at or span.ended_at
        if not _has_ids(span) or started_at is None:
            ignored, unusable = ignored + (operation is None), unusable + (operation is not None)
            continue
        key = span.trace_ref, span.span_ref
        if key in facts:
            continue
        own_tags = reading.tag_rules.tags_of(span.attributes)
        call = None
        if operation is None:
            ignored += 1
        else:
            emitter = emitters.get(id(span.origin))
            if emitter is None:
                emitter = emitters[id(span.origin)] = _Emitter.of(span.origin, reading)
            tags = {**emitter.tags, **own_tags}
            place = _Place(span, operation, started_at, emitter.source, tags)
            event = _event(place, Fields(span.attributes), reading)
            events.append(event)
            call = _call(span, event)
        ended_at = max(started_at, span.ended_at or started_at)
        facts[key] = SpanFacts(*key, span.parent_ref, started_at, ended_at, own_tags, call)
    return ReadSpans(tuple(events), tuple(facts.values()), ignored, unusable)


def operation_of(span: Span) -> str | None:
    """Give the operation of a span that is one billable call, None for any other span."""
    attributes = span.attributes
    for name in names.OPERATION:
        operation = attributes.get(name)
        if operation is not None:
            return names.COUNTED_OPERATIONS.get(operation) if isinstance(operation, str) else None
    if span.name == names.CLAUDE_CODE_CALL:
        return CHAT if names.RESPONSE_ID in Fields(attributes) else None
    if not HOLDERS.of(attributes):
        return None
    fields = Fields(attributes)
    return CHAT if all(field in fields for field in NEEDED_FIELDS) else None


def source_of(origin: Origin) -> str:
    """Give the source of what a resource emits: ``otlp:`` and the name of its service."""
    service = find_text(origin.resource, SERVICE_NAME)
    return NAMELESS_SOURCE if service is None else (SOURCE_PREFIX + service)[:MAX_TEXT_CHARACTERS]


def content_hash_of(*parts: object) -> int:
    """Give 64 bits over what an event says, equal whenever it is sent again.

    Tags are no part of it: they may be filled in from other spans, or mapped anew.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def milliseconds(started_at: datetime | None, ended_at: datetime | None) -> int | None:
    """Give how long something took, None where that is not known or not possible."""
    if started_at is None or ended_at is None or ended_at < started_at:
        return None
    elapsed = ended_at - started_at
    return min(MAX_MS, round(elapsed.total_seconds() * MS_PER_SECOND))


def _event(place: _Place, fields: Fields, reading: Reading) -> UsageEvent:
    span = place.span
    request_model, response_model = _models(fields)
    model = response_model or request_model or UNKNOWN_MODEL
    provider, flags = _provider(fields, model, reading.hosts)
    if model == UNKNOWN_MODEL:
        flags = (*flags, MODEL_UNNAMED)
    emission = Emission(span.origin.scope, provider, place.operation, reading.accepts_guesses)
    is_claude_code = span.name == names.CLAUDE_CODE_CALL
    measured = (
        measure_claude_code(span.attributes) if is_claude_code else measure_span(fields, emission)
    )
    status = status_of(span, fields)
    quantities = measured.quantities
    if quantities is None and status == ERROR and was_refused(span, fields):
        quantities, flags = dict(NOTHING_SERVED), (*flags, CALL_REFUSED)
    response_ref = fields.text(names.RESPONSE_ID) or text_of(measured.response_ref)
    event_ref = f"{span.trace_ref}:{span.span_ref}"
    return UsageEvent(
        source=place.source,
        event_ref=event_ref,
        content_hash=content_hash_of(
            event_ref, place.occurred_at, provider, model, status, response_ref, quantities
        ),
        occurred_at=place.occurred_at,
        provider=provider,
        model=model,
        quantities=quantities,
        operation=place.operation,
        service_tier=measured.service_tier,
        region=measured.region,
        status=status,
        attempt=_attempt(fields),
        trace_ref=span.trace_ref,
        span_ref=span.span_ref,
        response_ref=response_ref,
        request_model=None if request_model == model else request_model,
        latency_ms=milliseconds(span.started_at, span.ended_at),
        time_to_first_token_ms=_first_token_ms(fields),
        tags=place.tags,
        reported_nanos=measured.reported_nanos,
        basis=measured.basis,
        flags=(*flags, *measured.flags),
        witness=Witness.OTLP,
    )


def _call(span: Span, event: UsageEvent) -> Call:
    quantities = event.quantities
    models = (event.model, event.request_model or event.model)
    return Call(
        span.origin.scope,
        event.operation or CHAT,
        frozenset([model for model in models if model != UNKNOWN_MODEL]),
        event.response_ref,
        None
        if quantities is None
        else (quantities.get("input_tokens", 0), quantities.get("output_tokens", 0)),
        span.origin.scope.startswith(names.LOGFIRE_SCOPES)
        and span.attributes.get(names.LOGFIRE_SPAN_TYPE) == names.LOGFIRE_LOG,
    )


def _has_ids(span: Span) -> bool:
    return (
        len(span.trace_ref) == TRACE_ID_DIGITS
        and len(span.span_ref) == SPAN_ID_DIGITS
        and span.trace_ref != NO_TRACE
        and span.span_ref != NO_SPAN
    )


def _models(fields: Fields) -> tuple[str | None, str | None]:
    """Give the model asked for and the model that answered."""
    request_model = fields.text(names.REQUEST_MODEL)
    if request_model is None and names.INVOCATION in fields:
        asked = (object_of(fields.get(names.INVOCATION)) or {}).get("model")
        request_model = text_of(asked) if isinstance(asked, str) else None
    response_model = fields.text(names.RESPONSE_MODEL)
    return _without_prefix(request_model), _without_prefix(response_model)


def _without_prefix(model: str | None) -> str | None:
    return model.removeprefix(MODELS_PREFIX) if model else None


def _provider(fields: Fields, model: str, hosts: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Give the provider, and the flag that says so when it was only inferred."""
    if names.ADDRESS in fields:
        found = provider_of_host(host_of(fields.get(names.ADDRESS)), hosts)
        if found is not None:
            return found, ()
    word = fields.text(names.PROVIDER)
    if word is not None:
        return fold_provider(word), ()
    inferred = provider_of_model(model)
    if inferred is not None:
        return inferred, (PROVIDER_INFERRED,)
    return UNKNOWN_PROVIDER, (PROVIDER_UNNAMED,)


def _attempt(fields: Fields) -> int:
    attempt = fields.count(names.ATTEMPT)
    return attempt if attempt is not None and 1 <= attempt <= MAX_ATTEMPT else 1


def _first_token_ms(fields: Fields) -> int | None:
    for name, factor in FIRST_TOKEN_FIELDS:
        if name not in fields.found:
            continue
        elapsed = fields.number(name)
        if elapsed is not None and 0 <= elapsed * factor <= MAX_MS:
            return round(elapsed * factor)
    return None

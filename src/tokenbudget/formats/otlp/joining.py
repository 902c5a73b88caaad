"""Which spans of a trace tell of one call, and which tags a call has from the spans around it.

It owns the comparison of spans. It refuses to remember them: whoever does gives all it knows of a
trace, in the order in which the spans came, those of the present request last.

A call is told of twice when two emitters trace the same client, or one traces the client and one
the framework around it. Spans with one response id are one call, which the ledger sees for itself.
Where one of them has no id, these are one call:

    a span and a span it lies in      of one model, with equal tokens, or of two emitters
                                      of which one does not know them
    spans of two emitters, in time    of one model, with equal tokens
    Logfire's span of a stream        and its later log-like span, which has the stream's usage

The span that came first stands for the call: the others are given its span id, under which the
ledger finds the call again. A span around a call that is another call's is a wrapper: what it
counts is counted by the calls inside it. Only where both were answered under ids of their own, and
tell of different tokens, are they two calls.

Tags come down from the spans a call lies in: the nearest that has a tag gives it. They come down an
unbroken line only, so that what a call ends up with does not depend on the order of arrival.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

import msgspec

from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.otlp.names import EMBEDDINGS, LOGFIRE_SCOPES
from tokenbudget.formats.otlp.traces import Call, SpanFacts

EVENT_FIELDS: Final = tuple(each.name for each in fields(UsageEvent))
SPAN_REF, TAGS = EVENT_FIELDS.index("span_ref"), EVENT_FIELDS.index("tags")
MAX_ANCESTORS: Final = 64
MAX_CANDIDATES: Final = 64
"""How many of the latest spans that might tell of the same call are looked at."""
NO_TOKENS: Final = (0, 0)

SpanKey = tuple[str, str]
values_of: Final[Callable[[UsageEvent], tuple[Any, ...]]] = attrgetter(*EVENT_FIELDS)


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Tags that a call recorded earlier has from spans around it: they fill what it lacks.

    Giving the same again changes nothing.
    """

    trace_ref: str
    span_ref: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """What one request adds to what was known.

    ``events`` are to be recorded, wrappers left out. ``enrichments`` are for calls of earlier
    requests. ``retracted`` (trace and span id) are those of them that were taken for calls of
    their own and turn out to be wrappers, or part of another call: they are to be voided.
    """

    events: tuple[UsageEvent, ...]
    enrichments: tuple[Enrichment, ...]
    retracted: tuple[SpanKey, ...]


@dataclass(slots=True)
class _Standing:
    """A call as told so far: the span that stands for it, and the emitters that told of it."""

    span: SpanFacts
    call: Call
    scopes: set[str] = field(default_factory=set)
    is_wrapper: bool = False
    has_inner: bool = False


class _Line(msgspec.Struct, frozen=True, gc=False):
    """The spans that a span lies in: which of them are calls, nearest first, and all their tags.

    ``last_ref`` is the outermost that is known, None where there is none.
    """

    last_ref: str | None = None
    calls: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}


@dataclass(slots=True)
class _Trace:
    """What is known of one trace; ``lines`` are those of spans with the parent that is named."""

    spans: dict[str, SpanFacts] = field(default_factory=dict)
    lines: dict[str, _Line] = field(default_factory=dict)
    standing: dict[str, _Standing] = field(default_factory=dict)
    by_response: dict[str, _Standing] = field(default_factory=dict)
    by_tokens: dict[tuple[str, tuple[int, int]], list[_Standing]] = field(
        default_factory=lambda: defaultdict(list)
    )
    streams: dict[tuple[str | None, bool], list[_Standing]] = field(
        default_factory=lambda: defaultdict(list)
    )
    scopes: set[str] = field(default_factory=set)
    inner: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def line(self, span: SpanFacts) -> _Line:
        """Give the line of a span, which is found out once for all spans of one parent."""
        parent_ref = span.parent_ref
        if parent_ref is None:
            return NO_LINE
        line = self.lines.get(parent_ref)
        if line is None:
            line = self.lines[parent_ref] = _line_of(self._from(parent_ref, set()))
        if line.last_ref == span.span_ref:
            # It comes back to this span, and is as it is for all spans but this one.
            return _line_of(self._from(parent_ref, {span.span_ref}))
        return line

    def standing_ref(self, span_ref: str) -> str | None:
        """Give the id of the span that stands for the call of a span, None for a wrapper."""
        standing = self.standing.get(span_ref)
        if standing is None:
            return span_ref
        return None if standing.is_wrapper else standing.span.span_ref

    def inherited(self, span_ref: str) -> Mapping[str, str]:
        """Give the tags that come down to a span, none for a span that is not known."""
        span = self.spans.get(span_ref)
        return NO_LINE.tags if span is None else self.line(span).tags

    def _from(self, span_ref: str | None, inside: set[str]) -> Iterator[SpanFacts]:
        """Give a span and those around it, as far as the line is known and leads to no other."""
        seen: set[str] = set()
        while span_ref is not None and span_ref not in seen and len(seen) < MAX_ANCESTORS:
            span = self.spans.get(span_ref)
            if span is None or span_ref in inside:
                return
            seen.add(span_ref)
            yield span
            span_ref = span.parent_ref


NO_LINE: Final = _Line()


def join(
    events: Iterable[UsageEvent], spans: Iterable[SpanFacts], known: Iterable[SpanFacts] = ()
) -> Joined:
    """Give what to record of a request's ``events`` and ``spans``, given the spans ``known``.

    ``known`` are those of the same traces that came earlier, in their order.
    """
    earlier = list({span.key: span for span in known}.values())
    earlier_keys = {span.key for span in earlier}
    present = _in_time(span for span in spans if span.key not in earlier_keys)
    traces = _place_all([*earlier, *present])
    recorded = tuple(told for event in events if (told := _as_told(event, traces)) is not None)
    if not earlier:
        return Joined(recorded, (), ())
    touched = {span.trace_ref for span in present}
    recorded_earlier = [span for span in earlier if span.call and span.trace_ref in touched]
    before = _place_all(earlier)
    return Joined(
        recorded,
        tuple(_list_enrichments(recorded_earlier, traces, before)),
        tuple(_list_retracted(recorded_earlier, traces, before)),
    )


def find_standing(spans: Sequence[SpanFacts]) -> dict[SpanKey, str | None]:
    """Give for each span that is a call the id of the span that stands for it.

    That is its own where no span before it tells of the same call, and None for a wrapper. The
    order of ``spans`` is that of their arrival.
    """
    return {
        (trace_ref, span_ref): trace.standing_ref(span_ref)
        for trace_ref, trace in _place_all(spans).items()
        for span_ref in trace.standing
    }


def _as_told(event: UsageEvent, traces: Mapping[str, _Trace]) -> UsageEvent | None:
    """Give the event under the span that stands for its call, with the tags that come down to it.

    None for a wrapper.
    """
    trace = traces.get(event.trace_ref or "")
    if trace is None or event.span_ref is None:
        return event
    standing_ref, inherited = trace.standing_ref(event.span_ref), trace.inherited(event.span_ref)
    if standing_ref is None:
        return None
    if standing_ref == event.span_ref and not inherited:
        return event
    values = list(values_of(event))
    values[SPAN_REF], values[TAGS] = standing_ref, {**inherited, **event.tags}
    return UsageEvent(*values)


def _list_enrichments(
    recorded: Iterable[SpanFacts], traces: Mapping[str, _Trace], before: Mapping[str, _Trace]
) -> Iterator[Enrichment]:
    for span in recorded:
        tags = traces[span.trace_ref].inherited(span.span_ref)
        if tags != before[span.trace_ref].inherited(span.span_ref):
            yield Enrichment(span.trace_ref, span.span_ref, tags)


def _list_retracted(
    recorded: Iterable[SpanFacts], traces: Mapping[str, _Trace], before: Mapping[str, _Trace]
) -> Iterator[SpanKey]:
    for span in recorded:
        stood = before[span.trace_ref].standing_ref(span.span_ref)
        if stood == span.span_ref != traces[span.trace_ref].standing_ref(span.span_ref):
            yield span.key


def _place_all(spans: Iterable[SpanFacts]) -> dict[str, _Trace]:
    """Give the traces of these spans, each of whose calls has found what stands for it."""
    traces: dict[str, _Trace] = {}
    for span in spans:
        trace = traces.get(span.trace_ref)
        if trace is None:
            trace = traces[span.trace_ref] = _Trace()
        trace.spans.setdefault(span.span_ref, span)
    for trace in traces.values():
        _note_inner(trace)
        for span in trace.spans.values():
            if span.call is not None:
                _place(span, span.call, trace)
    return traces


def _in_time(spans: Iterable[SpanFacts]) -> list[SpanFacts]:
    """Give the spans of one request in an order that does not depend on how it lists them."""
    return sorted(spans, key=attrgetter("ended_at", "started_at", "span_ref"))


def _line_of(spans: Iterable[SpanFacts]) -> _Line:
    last_ref = None
    calls: list[str] = []
    tags: dict[str, str] = {}
    for span in spans:
        last_ref = span.span_ref
        if span.call is not None:
            calls.append(last_ref)
        if span.tags:
            tags = {**span.tags, **tags}
    return _Line(last_ref, tuple(calls), tags)


def _note_inner(trace: _Trace) -> None:
    for span in trace.spans.values():
        if span.call is not None:
            for outer_ref in trace.line(span).calls:
                trace.inner[outer_ref].append(span.span_ref)


def _place(span: SpanFacts, call: Call, trace: _Trace) -> None:
    """Note what stands for this span's call, which is the span itself when none before it does."""
    around_refs, inner_refs = trace.line(span).calls, trace.inner.get(span.span_ref, ())
    around = [trace.standing[ref] for ref in around_refs if ref in trace.standing]
    inside = [trace.standing[ref] for ref in inner_refs if ref in trace.standing]
    standing = (
        _by_response(call, trace)
        or _nested(call, (*around, *inside))
        or _in_stream(span, call, trace)
        or _at_that_time(span, call, trace)
    )
    if standing is None:
        standing = _Standing(span, call)
        _index(standing, trace)
    standing.scopes.add(call.scope)
    trace.standing[span.span_ref] = standing
    if around or inside:
        standing.has_inner |= any(each is standing for each in (*around, *inside))
        _mark_wrappers(standing, around, inside)


def _index(standing: _Standing, trace: _Trace) -> None:
    call = standing.call
    trace.scopes.add(call.scope)
    if call.response_ref is not None:
        trace.by_response[call.response_ref] = standing
    if call.tokens is not None:
        trace.by_tokens[call.scope, call.tokens].append(standing)
    if _may_be_streamed(call):
        trace.streams[standing.span.parent_ref, call.is_log].append(standing)


def _by_response(call: Call, trace: _Trace) -> _Standing | None:
    found = None if call.response_ref is None else trace.by_response.get(call.response_ref)
    return None if found is None or found.is_wrapper else found


def _nested(call: Call, candidates: Sequence[_Standing]) -> _Standing | None:
    """Give the call around or inside this one that is the same, by its tokens if they are known."""
    fitting = [
        each
        for each in candidates
        if not each.is_wrapper and not call.models.isdisjoint(each.call.models)
    ]
    for each in fitting:
        if call.tokens is not None and call.tokens == each.call.tokens:
            return each
    for each in fitting:
        is_unknown = call.tokens is None or each.call.tokens is None
        if is_unknown and call.scope not in each.scopes and not _are_both_answered(call, each.call):
            return each
    return None


def _may_be_streamed(call: Call) -> bool:
    """Tell whether this is one of the two spans by which Logfire tells of a stream."""
    is_half = call.is_log or call.tokens is None
    return is_half and call.response_ref is None and call.scope.startswith(LOGFIRE_SCOPES)


def _in_stream(span: SpanFacts, call: Call, trace: _Trace) -> _Standing | None:
    """Give Logfire's other span of the same stream: the log comes after the stream's own."""
    if not _may_be_streamed(call):
        return None
    others = trace.streams[span.parent_ref, not call.is_log]
    for other in others[:MAX_CANDIDATES]:
        stream, log = (other.span, span) if call.is_log else (span, other.span)
        if stream.ended_at <= log.ended_at and not call.models.isdisjoint(other.call.models):
            others.remove(other)
            return other
    return None


def _at_that_time(span: SpanFacts, call: Call, trace: _Trace) -> _Standing | None:
    """Give the call that another emitter told of, with the same tokens and at the same time."""
    if call.tokens in (None, NO_TOKENS):
        return None
    for scope in sorted(trace.scopes - {call.scope}):
        for other in reversed(trace.by_tokens[scope, call.tokens][-MAX_CANDIDATES:]):
            if (
                call.scope not in other.scopes
                and not other.is_wrapper
                and not _are_both_answered(call, other.call)
                and not call.models.isdisjoint(other.call.models)
                and span.started_at <= other.span.ended_at
                and other.span.started_at <= span.ended_at
            ):
                return other
    return None


def _mark_wrappers(
    standing: _Standing, around: Sequence[_Standing], inside: Sequence[_Standing]
) -> None:
    """Mark the outer of two different calls that lie in each other."""
    for outer in around:
        if outer is not standing and not outer.has_inner:
            outer.is_wrapper |= _may_wrap(outer.call, standing.call)
    if inside and not standing.has_inner:
        standing.is_wrapper |= any(_may_wrap(standing.call, each.call) for each in inside)


def _may_wrap(outer: Call, inner: Call) -> bool:
    """Tell whether what the outer call counts is the inner one's; a refused one counts nothing."""
    is_embedding = EMBEDDINGS in (outer.operation, inner.operation)
    is_like = not is_embedding or outer.operation == inner.operation
    return is_like and inner.tokens != NO_TOKENS and not _are_both_answered(outer, inner)


def _are_both_answered(call: Call, other: Call) -> bool:
    return call.response_ref is not None and other.response_ref is not None

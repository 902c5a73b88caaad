"""Usage from spans of traces, whose parts may come in any order and in different requests.

It owns what is remembered of a trace while the rest of it may still come. What spans mean and which
of them tell of one call is decided in ``formats/otlp``. Remembering, recording, filling in tags and
taking back what turned out to be a wrapper is one transaction, so that a request sent again
changes nothing.

A span is remembered when its trace has a model call or when it says a tag. All others are far too
many to be kept; so no tags come down through one that came before any call of its trace did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec
from sqlmodel import Session

from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.events import Door, ParsedItem, check_event
from tokenbudget.formats.otlp import Call, Joined, ReadSpans, SpanFacts, join
from tokenbudget.formats.otlp.traces import content_hash_of
from tokenbudget.services.retagging import RetagUsage, SpanTarget, TagChange
from tokenbudget.services.usage import RecordUsage
from tokenbudget.store.columns import Columns
from tokenbudget.store.db import Database
from tokenbudget.store.traces import (
    SpanRow,
    add_trace_spans,
    forget_trace_spans,
    list_trace_spans,
    lock_traces,
)

SpanKey: TypeAlias = tuple[str, str]
RETRACTION: Final = 1
"""The revision that takes back what was counted for a span: no other revises one."""


@dataclass(frozen=True, slots=True)
class RecordSpans:
    """Work for the writer: the spans of one request."""

    read: ReadSpans
    door: Door
    caller: Caller

    @property
    def weight(self) -> int:
        """Give how many items of the queue's bound this takes."""
        return max(1, len(self.read.spans))


class _Remembered(msgspec.Struct, frozen=True, gc=False):
    """A call as it is remembered, with what its usage event named besides.

    That is half of the event's identity, and whom the call went to.
    """

    source: str
    provider: str
    model: str
    call: Call


_Named: TypeAlias = UsageEvent | _Remembered


@dataclass(slots=True)
class SpanDesk:
    """Joins the spans of one transaction with what is known of their traces.

    ``records`` and ``retags`` are what the recorder has to do, a record for each work.
    """

    session: Session
    now: datetime
    records: list[RecordUsage] = field(default_factory=list)
    retags: list[RetagUsage] = field(default_factory=list)

    def join(self, works: Sequence[RecordSpans]) -> None:
        """Find out what each work adds, in the order in which they came."""
        trace_refs = {span.trace_ref for work in works for span in work.read.spans}
        known: dict[str, dict[str, SpanFacts]] = defaultdict(dict)
        calls: dict[SpanKey, _Named] = {}
        if trace_refs:
            lock_traces(self.session, trace_refs)
            for row in list_trace_spans(self.session, trace_refs):
                remembered = None if row.call is None else msgspec.convert(row.call, _Remembered)
                span = _facts_of(row, remembered)
                known[span.trace_ref][span.span_ref] = span
                if remembered is not None:
                    calls[span.key] = remembered
        for work in works:
            calls.update((_key_of(event), event) for event in work.read.events)
            self._join_one(work, known, calls)

    def _join_one(
        self,
        work: RecordSpans,
        known: dict[str, dict[str, SpanFacts]],
        calls: Mapping[SpanKey, _Named],
    ) -> None:
        """Find out what one work adds to the spans ``known`` by trace, and add it to them."""
        trace_refs = dict.fromkeys(span.trace_ref for span in work.read.spans)
        earlier = [span for ref in trace_refs if ref in known for span in known[ref].values()]
        self._note(work, join(work.read.events, work.read.spans, earlier), calls)
        fresh = [span for span in work.read.spans if span.span_ref not in known[span.trace_ref]]
        for span in fresh:
            known[span.trace_ref][span.span_ref] = span
        calling = {
            ref for ref in trace_refs if any(span.call is not None for span in known[ref].values())
        }
        kept = [span for span in fresh if span.tags or span.trace_ref in calling]
        if kept:
            add_trace_spans(self.session, _columns_of(kept, calls, self.now))

    def _note(self, work: RecordSpans, joined: Joined, calls: Mapping[SpanKey, _Named]) -> None:
        items: list[ParsedItem] = [
            check_event(event, index, work.door) for index, event in enumerate(joined.events)
        ]
        items.extend(_retraction(key, calls[key], self.now) for key in joined.retracted)
        self.records.append(RecordUsage(items, work.caller))
        changes = [
            TagChange(SpanTarget(each.trace_ref, each.span_ref), each.tags)
            for each in joined.enrichments
        ]
        if changes:
            self.retags.append(RetagUsage(changes))


def forget_old_traces(database: Database, *, now: datetime, window: timedelta) -> int:
    """Forget spans whose traces nothing more is awaited of; gives how many there were."""
    with database.transaction() as session:
        return forget_trace_spans(session, before=now - window)


def _key_of(event: UsageEvent) -> SpanKey:
    return event.trace_ref or "", event.span_ref or ""


def _retraction(key: SpanKey, called: _Named, now: datetime) -> UsageEvent:
    """Give the event that takes back what was counted for a span."""
    event_ref = ":".join(key)
    return UsageEvent(
        source=called.source,
        event_ref=event_ref,
        content_hash=content_hash_of(event_ref, RETRACTION),
        occurred_at=now,
        provider=called.provider,
        model=called.model,
        quantities=None,
        revision=RETRACTION,
        witness=Witness.OTLP,
        is_void=True,
    )


def _facts_of(row: SpanRow, remembered: _Remembered | None) -> SpanFacts:
    return SpanFacts(
        row.trace_ref,
        row.span_ref,
        row.parent_ref,
        row.started_at,
        row.ended_at,
        row.tags,
        None if remembered is None else remembered.call,
    )


def _columns_of(
    spans: Sequence[SpanFacts], calls: Mapping[SpanKey, _Named], now: datetime
) -> Columns:
    """Give the rows of spans to remember, column by column."""
    remembered = []
    for span in spans:
        call = None
        if span.call is not None:
            named = calls[span.key]
            call = _Remembered(named.source, named.provider, named.model, span.call)
        remembered.append(call)
    return {
        "trace_ref": [span.trace_ref for span in spans],
        "span_ref": [span.span_ref for span in spans],
        "parent_ref": [span.parent_ref for span in spans],
        "started_at": [span.started_at for span in spans],
        "ended_at": [span.ended_at for span in spans],
        "tags": [span.tags for span in spans],
        "call": remembered,
        "seen_at": [now] * len(spans),
    }

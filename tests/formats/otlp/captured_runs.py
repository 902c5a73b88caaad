"""The captured runs: their requests, what was true, and a ledger small enough to be seen through.

The ledger keeps calls by the keys of the real one (``domain/identity.py``) and lets the telling
count that the real one would (``domain/witnesses.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenbudget.domain.identity import event_key, response_key, span_key
from tokenbudget.domain.usage import Basis, UsageEvent
from tokenbudget.domain.witnesses import Telling, find_counting
from tokenbudget.formats.otlp import (
    Encoding,
    Reading,
    SpanFacts,
    decode_spans,
    encoding_of,
    join,
    read_spans,
)
from tokenbudget.formats.otlp.shapes import Span
from tokenbudget.formats.otlp.values import count_of
from tokenbudget.formats.provider_usage import normalise

RUNS_DIRECTORY = Path(__file__).parents[2] / "data" / "otlp"
RUNS = tuple(sorted(path.name for path in RUNS_DIRECTORY.iterdir() if path.is_dir()))
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


@dataclass(frozen=True)
class Export:
    """One captured request."""

    name: str
    body: bytes
    encoding: Encoding

    def spans(self) -> list[Span]:
        return decode_spans(self.body, self.encoding)


@dataclass(frozen=True)
class TrueCall:
    """What the provider answered to one call; ``quantities`` is empty for a refused one."""

    response_ref: str | None
    model: str
    is_sent: bool
    quantities: Mapping[str, int]

    @property
    def tokens(self) -> tuple[int, int]:
        return self.quantities.get("input_tokens", 0), self.quantities.get("output_tokens", 0)


def list_exports(run: str, signal: str = "traces") -> list[Export]:
    exports = []
    for headers_path in sorted((RUNS_DIRECTORY / run).glob(f"*_{signal}.hdr.json")):
        headers = json.loads(headers_path.read_text())["headers"]
        content_type = next(
            value for name, value in headers.items() if name.lower() == "content-type"
        )
        encoding = encoding_of(content_type)
        ending = "pb" if encoding is Encoding.PROTOBUF else "json"
        body_path = headers_path.with_name(headers_path.name.replace("hdr.json", ending))
        exports.append(Export(body_path.name, body_path.read_bytes(), encoding))
    return exports


def list_true_calls(run: str) -> list[TrueCall]:
    lines = (RUNS_DIRECTORY / run / "truth.jsonl").read_text().splitlines()
    return [_true_call(json.loads(line)) for line in lines]


NAIVE_NAMES = (
    ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    ("llm.token_count.prompt", "llm.token_count.completion"),
)


def naive_sum(run: str) -> tuple[int, int]:
    """Give what adding up the input and output attributes of all spans gives."""
    spans = [span for export in list_exports(run) for span in export.spans()]
    input_tokens, output_tokens = (
        sum(count_of(span.attributes.get(name)) or 0 for span in spans for name in names)
        for names in zip(*NAIVE_NAMES, strict=True)
    )
    return input_tokens, output_tokens


@dataclass
class Account:
    """Calls counted once: events are told, the best telling of each call counts."""

    reading: Reading = field(default_factory=Reading)
    known: dict[tuple[str, str], SpanFacts] = field(default_factory=dict)
    events: list[UsageEvent] = field(default_factory=list)
    tags: list[dict[str, str]] = field(default_factory=list)
    event_keys: dict[bytes, int] = field(default_factory=dict)
    calls: list[list[int]] = field(default_factory=list)
    call_keys: dict[bytes, int] = field(default_factory=dict)
    voided: set[int] = field(default_factory=set)

    def tell(self, spans: Sequence[Span]) -> None:
        """Record one request, as a receiver does that remembers the spans of every trace."""
        read = read_spans(spans, self.reading)
        joined = join(read.events, read.spans, self.known.values())
        for event in joined.events:
            self._record(event)
        for enrichment in joined.enrichments:
            number = self._find(enrichment.trace_ref, enrichment.span_ref)
            self.tags[number] = {**enrichment.tags, **self.tags[number]}
        self.voided.update(self._find(*key) for key in joined.retracted)
        for span in read.spans:
            self.known.setdefault(span.key, span)

    def counting(self) -> Iterator[UsageEvent]:
        """Give what counts of each call, with the tags that any telling of it knows."""
        for numbers in self.calls:
            telling = find_counting(self._telling(number) for number in numbers)
            if telling is not None:
                told = [self.tags[number] for number in numbers]
                tags = {name: text for each in told for name, text in each.items()}
                yield replace(self.events[telling.usage_id], tags=tags)

    def totals(self) -> tuple[int, int]:
        known = [event.quantities for event in self.counting() if event.quantities]
        return (
            sum(quantities.get("input_tokens", 0) for quantities in known),
            sum(quantities.get("output_tokens", 0) for quantities in known),
        )

    def unknown(self) -> list[UsageEvent]:
        return [event for event in self.counting() if event.quantities is None]

    def _record(self, event: UsageEvent) -> None:
        key = event_key(event.source, event.event_ref, event.revision)
        if key in self.event_keys:
            assert self.events[self.event_keys[key]].content_hash == event.content_hash
            return
        number = len(self.events)
        self.event_keys[key] = number
        self.events.append(event)
        self.tags.append(dict(event.tags))
        keys = list(_call_keys(event))
        taken = [self.call_keys[each] for each in keys if each in self.call_keys]
        call = taken[0] if taken else len(self.calls)
        if not taken:
            self.calls.append([])
        self.calls[call].append(number)
        for each in keys:
            self.call_keys.setdefault(each, call)

    def _find(self, trace_ref: str, span_ref: str) -> int:
        event_ref = f"{trace_ref}:{span_ref}"
        return next(n for n, event in enumerate(self.events) if event.event_ref == event_ref)

    def _telling(self, number: int) -> Telling:
        event = self.events[number]
        return Telling(
            usage_id=number,
            event=(0, event.event_ref),
            revision=0,
            witness=event.witness,
            units=len(event.quantities or ()),
            is_void=number in self.voided,
            is_known=event.quantities is not None,
            is_estimated=event.basis is Basis.ESTIMATED,
        )


def told(exports: Iterable[Export], reading: Reading | None = None) -> Account:
    account = Account() if reading is None else Account(reading)
    for export in exports:
        account.tell(export.spans())
    return account


def _call_keys(event: UsageEvent) -> Iterator[bytes]:
    if event.response_ref is not None:
        yield response_key(event.provider, event.response_ref)
    if event.trace_ref is not None and event.span_ref is not None:
        yield span_key(event.trace_ref, event.span_ref)


def _true_call(line: dict[str, Any]) -> TrueCall:
    provider = PROVIDERS[line["api"].partition(".")[0]]
    usage = line["usage"]
    quantities = normalise(provider, usage).quantities if usage else {}
    return TrueCall(line["response_id"], line["response_model"], line["usage_sent"], quantities)

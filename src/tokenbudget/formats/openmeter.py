"""Events sent to OpenMeter's ingest path, as far as they are usage of a language model.

It owns which of its customers' shapes are understood: tokens of one kind an event
(https://openmeter.io/docs/get-started/quick-start), and the counts of one response
(https://openmeter.io/docs/examples/ingest-openai-chatgpt-node). Meters of anything else are not
usage of ours. It refuses to guess a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import EPOCH, format_instant
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.cloudevents import INVALID_EVENT, VERSION
from tokenbudget.formats.events import Door, ParsedItem, Rejection
from tokenbudget.formats.foreign_records import (
    MAX_KEPT_ENTRIES,
    Keep,
    Reading,
    counts,
    parse_one,
    read_record,
    reread_record,
    scalar,
    short_text,
    split_records,
)
from tokenbudget.formats.provider_usage import normalise

METER_UNKNOWN: Final = "meter_unknown"
REQUIRED: Final = ("id", "source", "type")
KINDS: Final[Mapping[str, Mapping[str, int]]] = {
    # Kinds of one call come as events of their own; the input stands for the call itself.
    "input": {"requests": 1},
    "prompt": {"requests": 1},
    "system": {"requests": 0},
    "output": {"requests": 0},
    "completion": {"requests": 0},
}
OUTPUT_KINDS: Final = frozenset({"output", "completion"})
TOTALS: Final = frozenset({"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"})
RESPONSE_PREFIXES: Final = ("chatcmpl-", "resp_", "msg_")
WORDS: Final = ("model", "provider", "type", "response_id", "service_tier", *TAG_DIMENSIONS)
MAX_DIGITS: Final = 18


def _keep_content(value: object) -> object:
    """Keep the fields we understand and every number; any other text may be a prompt."""
    if not isinstance(value, Mapping):
        return None
    kept: dict[str, object] = {}
    for name, entry in list(value.items())[:MAX_KEPT_ENTRIES]:
        if name in WORDS:
            kept[name] = scalar(entry)
        elif not isinstance(entry, str):
            kept[name] = counts(entry)
        elif entry.isascii() and entry.isdigit() and len(entry) <= MAX_DIGITS:
            kept[name] = int(entry)
    return {name: entry for name, entry in kept.items() if entry is not None}


KEPT_FIELDS: Final[Mapping[str, Keep]] = {
    **dict.fromkeys(("specversion", "id", "source", "type", "time", "subject"), scalar),
    "data": _keep_content,
}


@dataclass(frozen=True, slots=True)
class MeterDoor:
    """What an event is read with.

    ``subject_tag`` is the tag that the subject gives, empty for none; ``usual_provider`` serves the
    models of events that name no provider; ``provider_of`` gives the price book's name of one.
    """

    door: Door
    subject_tag: str
    usual_provider: str | None
    provider_of: Callable[[str], str | None]


def read_meters(body: bytes, door: MeterDoor, *, max_records: int) -> list[Reading]:
    """Give the events of a body, one or an array of them, each with its usage.

    Raises TooLarge for more than ``max_records``.
    """
    return [
        read_record(raw, index, KEPT_FIELDS, partial(_interpret, index=index, door=door))
        for index, raw in enumerate(split_records(body, max_records=max_records))
    ]


def reread_meter(kept: str, door: MeterDoor) -> ParsedItem:
    """Give the usage of an event that was set aside, as it is understood now."""
    return reread_record(kept, partial(_interpret, index=0, door=door))


def _interpret(record: dict[str, Any], *, index: int, door: MeterDoor) -> ParsedItem:
    named = short_text(record.get("id"))
    missing = next((name for name in REQUIRED if short_text(record.get(name)) is None), None)
    if missing is not None or record.get("specversion", VERSION) != VERSION:
        detail = f"a CloudEvent needs {missing or f'specversion {VERSION}'}"
        return Rejection(index, named, INVALID_EVENT, detail)
    content = record.get("data") or {}
    provider, model = _served_by(content, door)
    try:
        quantities = _measure(str(provider), content, record["type"]) if model else None
    except InvalidInput as error:
        return Rejection(index, named, "usage_invalid", error.detail)
    if quantities is None:
        detail = "data must name a model, and tokens with their type or the counts of a response"
        return Rejection(index, named, METER_UNKNOWN, detail)
    if provider is None:
        return Rejection(index, named, "missing_field", "data names no provider of the model")
    return _event(record, (provider, model, quantities), index, door)


def _event(
    record: Mapping[str, Any],
    measured: tuple[str, object, Mapping[str, int]],
    index: int,
    door: MeterDoor,
) -> ParsedItem:
    provider, model, quantities = measured
    content = record["data"]
    tags = {name: content.get(name) for name in TAG_DIMENSIONS}
    if door.subject_tag and not tags.get(door.subject_tag):
        tags[door.subject_tag] = record.get("subject")
    cost = content.get("cost")
    # An event without a time occurred when it came. That must not make its repetition another
    # content, so the time is put in only once the content has been identified.
    wire = {
        "event_id": record["id"],
        "source": record["source"],
        "occurred_at": record.get("time", format_instant(EPOCH)),
        "provider": provider,
        "model": model,
        "usage": quantities,
        "service_tier": short_text(content.get("service_tier")),
        "response_id": _response_id(record),
        "tags": {name: value for name, value in tags.items() if short_text(value)},
        "reported_cost": cost if isinstance(cost, Decimal | int) and cost > 0 else None,
    }
    item = parse_one(wire, index, door.door)
    if "time" in record or not isinstance(item, UsageEvent):
        return item
    return replace(item, occurred_at=door.door.now)


def _served_by(content: Mapping[str, Any], door: MeterDoor) -> tuple[str | None, object]:
    """Give the provider, None when nobody names one, and the model without it in front."""
    model = content.get("model")
    provider = short_text(content.get("provider"))
    if provider is None and isinstance(model, str):
        prefix, separator, rest = model.partition("/")
        if separator and rest and door.provider_of(prefix):
            provider, model = prefix, rest
    provider = provider or door.usual_provider
    return (door.provider_of(provider) or provider if provider else None), model


def _measure(
    provider: str, content: Mapping[str, Any], event_type: str
) -> Mapping[str, int] | None:
    """Give the counts of an event, None for a meter of something else; raises InvalidInput."""
    if TOTALS & content.keys():
        return normalise(provider, content).quantities
    kind = next((word for word in (content.get("type"), event_type) if word in KINDS), None)
    tokens = content.get("tokens")
    if kind is None or not isinstance(tokens, int):
        return None
    unit = "output_tokens" if kind in OUTPUT_KINDS else "input_tokens"
    return {unit: tokens, **KINDS[kind]}


def _response_id(record: Mapping[str, Any]) -> str | None:
    """Give the id of the response whose counts these are; many use it as the event's own."""
    content = record["data"]
    if not TOTALS & content.keys():
        return None
    own = record["id"] if record["id"].startswith(RESPONSE_PREFIXES) else None
    return short_text(content.get("response_id")) or own

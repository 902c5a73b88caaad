"""Usage events in CloudEvents 1.0: structured, batched and binary over HTTP.

It owns the envelope: which attributes it must have, and which fields of ours they stand in for.
What is inside is one of our events (``events.py``). By the HTTP binding and the JSON format of
https://github.com/cloudevents/spec (1.0.2). It refuses other formats than JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import msgspec

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import InvalidInput, MalformedBody, UnsupportedMediaType
from tokenbudget.formats.events import Door, ParsedItem, Rejection, parse_items, split_body
from tokenbudget.formats.wire import UNREADABLE

STRUCTURED_TYPE: Final = "application/cloudevents+json"
BATCH_TYPE: Final = "application/cloudevents-batch+json"
CLOUDEVENT_PREFIX: Final = "application/cloudevents"
HEADER_PREFIX: Final = "ce-"
VERSION: Final = "1.0"
REQUIRED: Final = ("specversion", "id", "source", "type")
INVALID_EVENT: Final = "cloudevent_invalid"
JSON_TYPE: Final = "application/json"
STAND_INS: Final = {"event_id": "id", "source": "source", "occurred_at": "time"}
"""Our fields, and the attribute that stands in for each where the event inside lacks it."""

EXTENSION_TAGS: Final = {name.replace("_", ""): name for name in (*TAG_DIMENSIONS, "user")}
"""Extensions that are tags. Others are not: brokers add attributes that differ in every event."""

ATTRIBUTE_NAME: Final = re.compile("[a-z0-9]+")
TRACE_PARENT: Final = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
NULL: Final = b"null"

Attribute = str | int | bool


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one event, without those that are null, and its content as JSON."""

    attributes: Mapping[str, Attribute]
    content: bytes


@dataclass(frozen=True, slots=True)
class EnvelopeDoor:
    """What an envelope is opened with: the door, and the tag its subject gives, empty for none."""

    door: Door
    subject_tag: str


def parse_structured(body: bytes, door: EnvelopeDoor) -> list[ParsedItem]:
    """Give the one event of a structured body; raises MalformedBody for a bad envelope."""
    return [_open(_read_envelope(body), 0, door)]


def parse_batch(body: bytes, door: EnvelopeDoor, *, max_items: int) -> list[ParsedItem]:
    """Give the events of a batch, in order, each by itself; a bad envelope is a rejection.

    Raises MalformedBody for a body that is no array and TooLarge for too many events.
    """
    if body.lstrip()[:1] != b"[":
        raise MalformedBody("a batch of CloudEvents is a JSON array")
    items: list[ParsedItem] = []
    for index, raw in enumerate(split_body(body, content_type=BATCH_TYPE, max_items=max_items)):
        try:
            items.append(_open(_read_envelope(bytes(raw)), index, door))
        except InvalidInput as error:
            items.append(Rejection(index, None, INVALID_EVENT, error.detail))
    return items


def parse_binary(
    headers: Sequence[tuple[str, str]], content_type: str, body: bytes, door: EnvelopeDoor
) -> list[ParsedItem]:
    """Give the event whose attributes are ``ce-`` headers and whose content is the body.

    Raises MalformedBody for bad attributes and UnsupportedMediaType for content that is not JSON.
    """
    attributes: dict[str, Attribute] = {}
    for header, value in headers:
        if not header.lower().startswith(HEADER_PREFIX):
            continue
        name = header.lower().removeprefix(HEADER_PREFIX)
        if name in attributes or name == "datacontenttype":
            raise MalformedBody(f"header {header} must not be there, or not twice")
        attributes[name] = _header_value(name, value)
    _require_attributes(attributes)
    _require_json_type(content_type or JSON_TYPE)
    return [_open(Envelope(attributes, body), 0, door)]


def is_binary(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether the headers claim to be those of an event: one of the required ones is there."""
    return any(name in REQUIRED_HEADERS for name, _ in headers)


REQUIRED_HEADERS: Final = frozenset(f"{HEADER_PREFIX}{name}".encode() for name in REQUIRED)


def _header_value(name: str, value: str) -> str:
    """Give an attribute's value: unquoted, then percent-decoded once (HTTP binding 3.1.3.2)."""
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if not text.isascii():
        raise MalformedBody(f"header {HEADER_PREFIX}{name} must be percent-encoded")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise MalformedBody(f"header {HEADER_PREFIX}{name} is not UTF-8 once decoded") from None


def _read_envelope(raw: bytes) -> Envelope:
    """Give the envelope of an event in the JSON format; raises MalformedBody."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        raise MalformedBody("a CloudEvent is a JSON object") from None
    content = members.pop("data", None)
    encoded = members.pop("data_base64", None)
    attributes = {name: _attribute(name, value) for name, value in members.items()}
    present = {name: value for name, value in attributes.items() if value is not None}
    _require_attributes(present)
    if (content is None) == (encoded is None):
        raise MalformedBody("exactly one of data and data_base64 is needed")
    _require_json_type(str(present.get("datacontenttype", JSON_TYPE)))
    return Envelope(present, bytes(content) if content is not None else _unpack(encoded))


def _attribute(name: str, value: msgspec.Raw) -> Attribute | None:
    """Give the value of an attribute, which has a simple type; null is the same as leaving out."""
    try:
        return msgspec.json.decode(value, type=str | int | bool | None)
    except UNREADABLE:
        raise MalformedBody(f"{name} must be text, a whole number or true or false") from None


def _unpack(encoded: msgspec.Raw | None) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(encoded or NULL, type=str), validate=True)
    except (*UNREADABLE, binascii.Error, ValueError):
        raise MalformedBody("data_base64 is not base64") from None


def _require_attributes(attributes: Mapping[str, Attribute]) -> None:
    for name in REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise MalformedBody(f"a CloudEvent needs {name}, as text that is not empty")
    if attributes["specversion"] != VERSION:
        raise MalformedBody(f"specversion {attributes['specversion']!r} is not {VERSION}")
    odd = next((name for name in attributes if not ATTRIBUTE_NAME.fullmatch(name)), None)
    if odd is not None:
        raise MalformedBody(f"attribute {odd!r} is not named by lower-case letters and digits")


def _require_json_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.endswith(("/json", "+json")):
        raise UnsupportedMediaType(f"the content of an event must be JSON, not {media_type!r}")


def _open(envelope: Envelope, index: int, door: EnvelopeDoor) -> ParsedItem:
    """Give the usage event inside, completed by the envelope; raises MalformedBody for no JSON."""
    attributes = envelope.attributes
    try:
        fields = msgspec.json.decode(envelope.content, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        named = str(attributes["id"])
        return Rejection(index, named, "invalid_field", "the content must be one usage event")
    except UNREADABLE:
        raise MalformedBody("the content of the event is not JSON") from None
    for field, name in STAND_INS.items():
        _stand_in(fields, field, attributes.get(name))
    trace = TRACE_PARENT.fullmatch(str(attributes.get("traceparent", "")))
    _stand_in(fields, "trace_id", trace[1] if trace else None)
    _add_tags(fields, attributes, door.subject_tag)
    [item] = parse_items([msgspec.json.encode(fields)], door.door, first_index=index)
    return item


def _stand_in(fields: dict[str, msgspec.Raw], field: str, value: Attribute | None) -> None:
    if value is not None and bytes(fields.get(field, NULL)) == NULL:
        fields[field] = msgspec.Raw(msgspec.json.encode(value))


def _add_tags(
    fields: dict[str, msgspec.Raw], attributes: Mapping[str, Attribute], subject_tag: str
) -> None:
    """Add the tags of the envelope to those inside, which come first."""
    given = {tag: attributes.get(name) for name, tag in EXTENSION_TAGS.items()}
    if subject_tag and given.get(subject_tag) is None:
        given[subject_tag] = attributes.get("subject")
    if all(value is None for value in given.values()):
        return
    try:
        tags = msgspec.json.decode(fields.get("tags", NULL), type=dict[str, msgspec.Raw] | None)
    except UNREADABLE:
        return
    tags = tags or {}
    for tag, value in given.items():
        _stand_in(tags, tag, None if value is None else str(value))
    fields["tags"] = msgspec.Raw(msgspec.json.encode(tags))

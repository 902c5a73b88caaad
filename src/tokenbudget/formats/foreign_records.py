"""Records of other programs: what of them may be kept, and their numbers read exactly.

It owns how a record is cut down to the fields a shape allows, so that no prompt is ever stored.
It refuses to know any program's fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec

from tokenbudget.domain.errors import TooLarge
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import Door, ParsedItem, Rejection, parse_items
from tokenbudget.formats.wire import UNREADABLE

MAX_KEPT_CHARACTERS: Final = 256
MAX_KEPT_ENTRIES: Final = 128
MAX_KEPT_DEPTH: Final = 4
LINES_LOOKED_AT: Final = 100
# 64 bits hold every count and every instant; a number beyond could only be meant to hurt.
MAX_NUMBER: Final = 2**63
MAX_EXPONENT: Final = 18
MIN_EXPONENT: Final = -30
NUL: Final = "\0"
UNREADABLE_RECORD: Final = "malformed_json"

Keep: TypeAlias = "Callable[[object], object] | Inside"
"""What keeps a value, or None of it; or the rules for what is inside an object."""

Members = dict[str, msgspec.Raw]
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic")


@dataclass(frozen=True, slots=True)
class Inside:
    """An object of which only these fields may be kept; what else it holds is never decoded."""

    fields: Mapping[str, Keep]


@dataclass(frozen=True, slots=True)
class ForeignRecord:
    """What is known of a record as it came.

    ``kept`` is JSON text with only the fields that may be stored, or None for a record that is no
    JSON object: what cannot be read cannot be cut down either.
    """

    size_bytes: int
    sha256: str
    kept: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A record beside what was made of it: usage, or why it could not become usage."""

    record: ForeignRecord
    item: ParsedItem


def read_record(
    raw: bytes, index: int, fields: Mapping[str, Keep], interpret: Callable[[Any], ParsedItem]
) -> Reading:
    """Give a record cut down to ``fields``, and what ``interpret`` makes of what is left."""
    size, digest = len(raw), hashlib.sha256(raw).hexdigest()
    try:
        kept = keep_fields(msgspec.json.decode(raw, type=Members), fields)
    except (*UNREADABLE, ValueError, ArithmeticError):
        rejection = Rejection(index, None, UNREADABLE_RECORD, "the record is no JSON object")
        return Reading(ForeignRecord(size, digest, None), rejection)
    text = _encoder.encode(kept).decode()
    return Reading(ForeignRecord(size, digest, text), interpret(kept))


def reread_record(kept: str, interpret: Callable[[Any], ParsedItem]) -> ParsedItem:
    """Give what ``interpret`` makes of a record that was kept."""
    return interpret(json.loads(kept, parse_float=Decimal))


def parse_one(wire: Mapping[str, object], index: int, door: Door) -> ParsedItem:
    """Give the event with these fields of ours, or the rejection that explains it."""
    [item] = parse_items([_encoder.encode(wire)], door, first_index=index)
    return item


def keep_fields(
    members: Mapping[str, msgspec.Raw], fields: Mapping[str, Keep]
) -> dict[str, object]:
    """Give the named fields alone, each as its rule keeps it; what a rule drops is left out."""
    found = {name: _keep(members[name], rule) for name, rule in fields.items() if name in members}
    return {name: kept for name, kept in found.items() if kept is not None}


def _keep(raw: msgspec.Raw, rule: Keep) -> object:
    if not isinstance(rule, Inside):
        return rule(json.loads(bytes(raw), parse_float=Decimal))
    try:
        members = msgspec.json.decode(raw, type=Members)
    except msgspec.ValidationError:
        return None
    return keep_fields(members, rule.fields) or None


def scalar(value: object) -> object:
    """Keep a short text, a flag or a number of sensible size."""
    if isinstance(value, str):
        return value if len(value) <= MAX_KEPT_CHARACTERS else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < MAX_NUMBER else None
    return value if isinstance(value, Decimal) and _is_sensible(value) else None


def number(value: object) -> object:
    """Keep a number of sensible size."""
    return None if isinstance(value, str | bool) else scalar(value)


def scalars(value: object) -> object:
    """Keep an object's short texts, flags and numbers, as many as there may be."""
    if not isinstance(value, Mapping):
        return None
    kept = {str(name): scalar(entry) for name, entry in _first(value.items())}
    return {
        name: entry
        for name, entry in kept.items()
        if entry is not None and len(name) <= MAX_KEPT_CHARACTERS
    } or None


def texts(value: object) -> object:
    """Keep the short texts of a list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return [
        entry
        for entry in _first(value)
        if isinstance(entry, str) and len(entry) <= MAX_KEPT_CHARACTERS
    ] or None


def counts(value: object) -> object:
    """Keep an object of numbers and short words, and the objects in it, to a few levels."""
    return _counts(value, MAX_KEPT_DEPTH)


def _counts(value: object, depth: int) -> object:
    if not isinstance(value, Mapping):
        return scalar(value)
    if depth == 0:
        return None
    kept = {str(name): _counts(entry, depth - 1) for name, entry in _first(value.items())}
    return {name: entry for name, entry in kept.items() if entry is not None} or None


def short_text(value: object) -> str | None:
    """Give a text that fits a field of ours, or None for anything else."""
    if not isinstance(value, str) or not value.strip() or NUL in value:
        return None
    return value if len(value) <= MAX_KEPT_CHARACTERS else None


def flagged(item: ParsedItem, flags: Sequence[str]) -> ParsedItem:
    """Give the event with more flags; a rejection stays as it is."""
    if not flags or not isinstance(item, UsageEvent):
        return item
    return replace(item, flags=(*item.flags, *flags))


def split_records(body: bytes, *, max_records: int) -> list[bytes]:
    """Give the records of a body that is an array, an object, or one object a line.

    A body that is none of these is one record, which nobody can read. Raises TooLarge when there
    are more than ``max_records``.
    """
    stripped = body.strip()
    if not stripped:
        return []
    records = _split_array(stripped) if stripped[:1] == b"[" else _split_lines(stripped)
    if len(records) > max_records:
        raise TooLarge(f"the batch has {len(records)} records; the limit is {max_records}")
    return records


def _split_array(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _list_decoder.decode(body)]
    except UNREADABLE:
        return [body]


def _split_lines(body: bytes) -> list[bytes]:
    """Give the lines, unless none of the first ones is an object: then it is one record."""
    lines = [line for line in body.splitlines() if line.strip()]
    return lines if any(_is_object(line) for line in lines[:LINES_LOOKED_AT]) else [body]


def _is_object(line: bytes) -> bool:
    try:
        return bytes(msgspec.json.decode(line, type=msgspec.Raw))[:1] == b"{"
    except UNREADABLE:
        return False


def _first(entries: Any) -> list[Any]:
    return list(entries)[:MAX_KEPT_ENTRIES]


def _is_sensible(value: Decimal) -> bool:
    return MIN_EXPONENT <= value.adjusted() <= MAX_EXPONENT

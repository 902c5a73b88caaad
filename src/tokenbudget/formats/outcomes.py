"""Outcomes as the HTTP API spells them (contract: Events). It owns the wire shape and its errors.

It refuses to know usage. One bad item becomes a ``Rejection``; it never spoils its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from tokenbudget.domain.money import NANO_DIGITS, decimal_to_nanos
from tokenbudget.domain.outcomes import MAX_VALUE_NANOS, NAME_RULE, OUTCOME_NAME, Outcome
from tokenbudget.domain.periods import EPOCH, format_instant
from tokenbudget.formats.events import DEFAULT_SOURCE, MAX_TAGS, Door, RawItem, Rejection
from tokenbudget.formats.wire import NUL_ESCAPE, UNREADABLE, find_nul_field, plain_fault

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Words = Annotated[str, msgspec.Meta(max_length=256)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
MAX_EXPONENT: Final = 9

ParsedOutcome: TypeAlias = Outcome | Rejection


class OutcomeShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of one outcome; field for field as in the contract."""

    name: Name
    occurred_at: Instant
    event_id: Name | None = None
    source: Name | None = None
    value: Decimal = Decimal(1)
    operation_id: Name | None = None
    tags: Annotated[dict[Name, Words | None], msgspec.Meta(max_length=MAX_TAGS)] | None = None


_decoder = msgspec.json.Decoder(OutcomeShape)
_canonical_encoder = msgspec.json.Encoder(order="deterministic")


def parse_outcomes(items: Sequence[RawItem], door: Door) -> list[ParsedOutcome]:
    """Give each item as an outcome or as the rejection that explains it, in order."""
    parsed: list[ParsedOutcome] = []
    for index, item in enumerate(items):
        try:
            parsed.append(_to_outcome(_decoder.decode(item), index, door))
        except msgspec.ValidationError as error:
            fault = plain_fault(error, "outcome")
            parsed.append(Rejection(index, _event_id_of(item), "invalid_field", fault))
        except UNREADABLE as error:
            parsed.append(Rejection(index, None, "malformed_json", str(error)))
    return parsed


def _event_id_of(item: RawItem) -> str | None:
    try:
        return msgspec.json.decode(item, type=_EventIdOnly).event_id
    except UNREADABLE:
        return None


class _EventIdOnly(msgspec.Struct):
    event_id: str | None = None


def _to_outcome(shape: OutcomeShape, index: int, door: Door) -> ParsedOutcome:
    event_ref = door.ref_of(shape.event_id, index)
    if isinstance(event_ref, Rejection):
        return event_ref
    if shape.operation_id is None and not shape.tags:
        return Rejection(index, event_ref, "missing_field", "operation_id or tags are needed")
    fault = _value_fault(shape.value) or _time_fault(shape.occurred_at, door)
    if not OUTCOME_NAME.match(shape.name):
        fault = f"name {NAME_RULE}"
    shape.occurred_at = shape.occurred_at.astimezone(UTC)
    tags = {name: value for name, value in (shape.tags or {}).items() if value is not None}
    content = _canonical(shape, tags)
    may_hold_nul = NUL_ESCAPE in content or "\x00" in f"{shape.source}{event_ref}"
    if may_hold_nul and (field := find_nul_field(shape)) is not None:
        fault = f"{field} holds a NUL character"
    if fault is not None:
        return Rejection(index, event_ref, "invalid_field", fault)
    return Outcome(
        source=shape.source or DEFAULT_SOURCE,
        event_ref=event_ref,
        content_hash=_content_hash(content),
        name=shape.name,
        value_nanos=decimal_to_nanos(shape.value),
        occurred_at=shape.occurred_at,
        operation_ref=shape.operation_id,
        tags=tags,
    )


def _value_fault(value: Decimal) -> str | None:
    if not value.is_finite() or value.adjusted() > MAX_EXPONENT:
        return "value is out of range"
    exponent: Any = value.normalize().as_tuple().exponent
    if exponent < -NANO_DIGITS:
        return f"value {value} has more than {NANO_DIGITS} decimal places"
    if abs(decimal_to_nanos(value)) > MAX_VALUE_NANOS:
        return f"value {value} is over {MAX_VALUE_NANOS // 10**NANO_DIGITS} or under its negative"
    return None


def _time_fault(occurred_at: datetime, door: Door) -> str | None:
    if occurred_at > door.now + door.future_tolerance:
        limit = int(door.future_tolerance.total_seconds())
        return f"occurred_at {occurred_at.isoformat()} is over {limit} s ahead of now"
    if occurred_at < EPOCH:
        return f"occurred_at {occurred_at.isoformat()} is before {format_instant(EPOCH)}"
    return None


def _canonical(shape: OutcomeShape, tags: dict[str, str]) -> bytes:
    """Give the content as JSON, equal for equal content; its id is no part of it."""
    value = str(shape.value.normalize()) if shape.value.is_finite() else None
    content = (shape.name, value, shape.occurred_at, shape.operation_id, tags)
    return _canonical_encoder.encode(content)


def _content_hash(content: bytes) -> int:
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)

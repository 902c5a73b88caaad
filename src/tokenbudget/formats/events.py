"""Usage events as the HTTP API and imported files spell them (contract: Events).

It owns the wire shape and its errors.

It refuses to know prices, budgets or what is already in the ledger. One bad item becomes a
``Rejection``; it never spoils its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from tokenbudget.domain.errors import InvalidInput, MalformedBody, TooLarge
from tokenbudget.domain.money import MAX_NANOS, decimal_to_nanos
from tokenbudget.domain.periods import EPOCH, format_instant
from tokenbudget.domain.usage import (
    ESTIMATED_PREFIX,
    OK_STATUS,
    Basis,
    UsageEvent,
    UsageFault,
    Witness,
    find_fault,
)
from tokenbudget.formats.provider_usage import normalise
from tokenbudget.formats.wire import NUL_ESCAPE, UNREADABLE, find_nul_field, plain_fault
from tokenbudget.tokens import count_tokens

DEFAULT_SOURCE: Final = "api"
NDJSON_TYPES: Final = frozenset({"application/x-ndjson", "application/jsonl"})
MAX_TAGS: Final = 64
MAX_UNIT_EXPONENT: Final = 18
GUESSING_WITNESSES: Final = frozenset({Witness.OTLP, Witness.GATEWAY})
"""Those that pass on what others measured, and may never have been told."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Words = Annotated[str, msgspec.Meta(max_length=256)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class EventShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of one usage event; field for field as in the contract."""

    provider: Name
    model: Name
    occurred_at: Instant
    event_id: Name | None = None
    source: Name | None = None
    operation: Words | None = None
    service_tier: Words | None = None
    region: Words | None = None
    account: Words | None = None
    status: Words = OK_STATUS
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    operation_id: Words | None = None
    trace_id: Words | None = None
    span_id: Words | None = None
    response_id: Words | None = None
    request_model: Words | None = None
    usage: dict[str, int | None] | None = None
    provider_usage: dict[str, Any] | None = None
    text: str | None = None
    latency_ms: Count | None = None
    time_to_first_token_ms: Count | None = None
    cache_hit: bool = False
    tags: Annotated[dict[Name, Words | None], msgspec.Meta(max_length=MAX_TAGS)] = {}
    hold_id: Words | None = None
    revision: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    void: bool = False
    reported_cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one item of a batch was not accepted.

    ``code`` is stable, ``detail`` names the field and the rule.
    """

    index: int
    event_id: str | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Door:
    """What the door adds to and demands of every item of one request."""

    now: datetime
    future_tolerance: timedelta
    idempotency_key: str | None = None
    witness: Witness = Witness.SDK

    def ref_of(self, event_id: str | None, index: int) -> str | Rejection:
        """Give what the item at that place is known by, or why it cannot be known."""
        if event_id is not None:
            return event_id
        if self.idempotency_key is None:
            detail = "event_id is missing and no Idempotency-Key header was given"
            return Rejection(index, None, "missing_field", detail)
        return f"{self.idempotency_key}:{index}"


RawItem: TypeAlias = msgspec.Raw | bytes
ParsedItem: TypeAlias = UsageEvent | Rejection
ValueT = TypeVar("ValueT")

_raw_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_shape_decoder = msgspec.json.Decoder(EventShape)
_canonical_encoder = msgspec.json.Encoder(order="deterministic")


def split_body(body: bytes, *, content_type: str, max_items: int) -> Sequence[RawItem]:
    """Give the items of a body: one object, an array, or one object a line.

    Raises MalformedBody when the body is no JSON at all and TooLarge when it holds more than
    ``max_items``.
    """
    stripped = body.lstrip()
    if not stripped:
        raise MalformedBody("the body is empty; send one event, an array, or one event a line")
    if content_type in NDJSON_TYPES:
        items: Sequence[RawItem] = [line for line in stripped.splitlines() if line.strip()]
    elif stripped[:1] == b"[":
        items = _decode_array(stripped)
    else:
        items = [stripped]
        _require_json(stripped)
    if len(items) > max_items:
        raise TooLarge(f"the batch has {len(items)} items; the limit is {max_items}")
    return items


def parse_items(items: Sequence[RawItem], door: Door, *, first_index: int = 0) -> list[ParsedItem]:
    """Give each item as a usage event or as the rejection that explains it, in order.

    ``first_index`` is the place of the first among those of its request.
    """
    parsed: list[ParsedItem] = []
    for index, item in enumerate(items, first_index):
        try:
            parsed.append(_to_event(_shape_decoder.decode(item), index, door))
        except msgspec.ValidationError as error:
            parsed.append(_invalid_shape(index, item, error))
        except UNREADABLE as error:
            parsed.append(Rejection(index, None, "malformed_json", str(error)))
    return parsed


def parse_objects(rows: Sequence[Mapping[str, object]], door: Door) -> list[ParsedItem]:
    """Give already decoded objects (rows of a file) as usage events or rejections, in order."""
    parsed: list[ParsedItem] = []
    for index, row in enumerate(rows):
        try:
            shape = msgspec.convert(row, EventShape, strict=False)
        except msgspec.ValidationError as error:
            event_ref = row.get("event_id")
            named = event_ref if isinstance(event_ref, str) else None
            parsed.append(_rejection_of(index, named, error))
        else:
            parsed.append(_to_event(shape, index, door))
    return parsed


def check_event(event: UsageEvent, index: int, door: Door) -> ParsedItem:
    """Give an event that came in another shape as it is, or as the rejection that explains it."""
    fault = _time_fault(event.occurred_at, door) or find_fault(event.quantities or {})
    return event if fault is None else Rejection(index, event.event_ref, fault.code, fault.detail)


def _decode_array(body: bytes) -> list[msgspec.Raw]:
    try:
        return _raw_list_decoder.decode(body)
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None


def _require_json(body: bytes) -> None:
    try:
        value = msgspec.json.decode(body, type=msgspec.Raw)
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if bytes(value)[:1] != b"{":
        raise MalformedBody("the body is not an event: send an object or an array of objects")


def _invalid_shape(index: int, item: RawItem, error: msgspec.ValidationError) -> Rejection:
    event_ref = None
    with suppress(*UNREADABLE):
        event_ref = msgspec.json.decode(item, type=_EventIdOnly).event_id
    return _rejection_of(index, event_ref, error)


class _EventIdOnly(msgspec.Struct):
    event_id: str | None = None


def _rejection_of(index: int, event_ref: str | None, error: msgspec.ValidationError) -> Rejection:
    message = plain_fault(error, "event")
    if "timezone component" in message:
        code = "naive_timestamp"
    elif "unknown field" in message:
        code = "unknown_field"
    elif "missing required field" in message:
        code = "missing_field"
    else:
        code = "invalid_field"
    return Rejection(index, event_ref, code, message)


def _to_event(shape: EventShape, index: int, door: Door) -> ParsedItem:
    event_ref = door.ref_of(shape.event_id, index)
    if isinstance(event_ref, Rejection):
        return event_ref
    shape.tags = _present(shape.tags)
    if shape.usage is not None:
        shape.usage = _present(shape.usage)
    try:
        measured = _measure(shape, door.witness)
    except InvalidInput as error:
        return Rejection(index, event_ref, "usage_invalid", error.detail)
    fault = (
        _time_fault(shape.occurred_at, door)
        or find_fault(measured.quantities or {})
        or _reported_fault(shape.reported_cost)
        or _void_fault(shape)
    )
    if fault is not None:
        return Rejection(index, event_ref, fault.code, fault.detail)
    content = _canonical(shape)
    if NUL_ESCAPE in content and (field := find_nul_field(shape)) is not None:
        return Rejection(index, event_ref, "invalid_field", f"{field} holds a NUL character")
    return _build_event(shape, event_ref, measured, content, door.witness)


def _void_fault(shape: EventShape) -> UsageFault | None:
    if shape.void and shape.revision == 0:
        return UsageFault(
            "void_without_event", "void takes an earlier revision back, and revision 0 has none"
        )
    return None


def _time_fault(occurred_at: datetime, door: Door) -> UsageFault | None:
    if occurred_at > door.now + door.future_tolerance:
        limit = int(door.future_tolerance.total_seconds())
        detail = f"occurred_at {occurred_at.isoformat()} is over {limit} s ahead of now"
        return UsageFault("occurred_in_future", detail)
    if occurred_at < EPOCH:
        detail = f"occurred_at {occurred_at.isoformat()} is before {format_instant(EPOCH)}"
        return UsageFault("invalid_field", detail)
    return None


def _reported_fault(cost: Decimal | None) -> UsageFault | None:
    if cost is None:
        return None
    is_near = cost.is_finite() and cost.adjusted() <= MAX_UNIT_EXPONENT
    if is_near and abs(decimal_to_nanos(cost)) <= MAX_NANOS:
        return None
    return UsageFault("invalid_field", "reported_cost is out of range")


def _canonical(shape: EventShape) -> bytes:
    """Give the shape as JSON: equal for equal content, whatever its order, zone and file format."""
    shape.occurred_at = shape.occurred_at.astimezone(UTC)
    if shape.reported_cost is not None:
        shape.reported_cost = shape.reported_cost.normalize()
    return _canonical_encoder.encode(shape)


class _Measured(NamedTuple):
    quantities: dict[str, int] | None
    basis: Basis
    flags: tuple[str, ...] = ()
    service_tier: str | None = None
    region: str | None = None
    reported_nanos: int | None = None


def _measure(shape: EventShape, witness: Witness) -> _Measured:
    """Give the quantities from the one of usage, provider_usage and text that is there.

    None may be where an attempt did not succeed or its witness could not know: that is unknown
    usage, which is not zero. A void event measures nothing.
    """
    if shape.usage is not None and shape.provider_usage is None and shape.text is None:
        counts = cast("dict[str, int]", shape.usage)
        return _Measured(None if shape.void else counts, Basis.RATED)
    given = [
        name for name in ("usage", "provider_usage", "text") if getattr(shape, name) is not None
    ]
    may_be_unknown = shape.status != OK_STATUS or witness in GUESSING_WITNESSES
    if shape.void or (not given and may_be_unknown):
        return _Measured(None, Basis.RATED)
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        raise InvalidInput(f"exactly one of usage, provider_usage, text is needed; found {found}")
    if shape.provider_usage is not None:
        usage = normalise(shape.provider, shape.provider_usage)
        return _Measured(
            dict(usage.quantities),
            Basis.RATED,
            usage.flags,
            usage.service_tier,
            usage.region,
            usage.reported_nanos,
        )
    estimate = count_tokens(shape.text or "", shape.model)
    flags = (f"{ESTIMATED_PREFIX}{estimate.method}_x{estimate.multiplier}",)
    return _Measured({"input_tokens": estimate.tokens}, Basis.ESTIMATED, flags)


def _build_event(
    shape: EventShape, event_ref: str, measured: _Measured, content: bytes, witness: Witness
) -> UsageEvent:
    reported = shape.reported_cost
    return UsageEvent(
        source=shape.source or DEFAULT_SOURCE,
        event_ref=event_ref,
        content_hash=_content_hash(content),
        occurred_at=shape.occurred_at,
        provider=shape.provider,
        model=shape.model,
        quantities=measured.quantities,
        operation=shape.operation,
        service_tier=shape.service_tier or measured.service_tier,
        region=shape.region or measured.region,
        account=shape.account,
        status=shape.status,
        attempt=shape.attempt,
        operation_ref=shape.operation_id,
        trace_ref=shape.trace_id,
        span_ref=shape.span_id,
        response_ref=shape.response_id,
        request_model=shape.request_model,
        latency_ms=shape.latency_ms,
        time_to_first_token_ms=shape.time_to_first_token_ms,
        cache_hit=shape.cache_hit,
        tags=cast("dict[str, str]", shape.tags),
        hold_id=shape.hold_id,
        revision=shape.revision,
        reported_nanos=measured.reported_nanos if reported is None else decimal_to_nanos(reported),
        basis=measured.basis,
        flags=measured.flags,
        witness=witness,
        is_void=shape.void,
    )


def _present(values: dict[str, ValueT | None]) -> dict[str, ValueT | None]:
    """Give what is there: null says the same as leaving out."""
    if None not in values.values():
        return values
    return {name: value for name, value in values.items() if value is not None}


def _content_hash(content: bytes) -> int:
    """Give 64 bits over the content.

    Equal for the same fields in any order and from any file format.
    """
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)

"""How much a body may hold, found out before it is decoded.

Two bytes can be a span, and a span decoded takes hundreds: a body within its limit of bytes may
still fill the memory. Bodies of some size are therefore walked first, without being decoded, and
refused when they hold too much. It refuses to judge whether a body is well formed.
"""

from __future__ import annotations

from typing import Any, Final

from tokenbudget.domain.errors import TooLarge

SMALL_BYTES: Final = 1024 * 1024
"""Bodies up to this size are decoded as they are: they take a hundred times as much at most."""

MAX_ELEMENTS: Final = 500_000
"""Most spans, records, points, events and attributes in one request."""

MAX_OBJECTS: Final = 4 * MAX_ELEMENTS
"""Most braces in a JSON body: an attribute has two, and its text may have some."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES: Final = 10

# Field numbers of the messages that lie in each other, as in opentelemetry-proto.
Fields = dict[int, Any]
_VALUE: Final[Fields] = {}
_PAIR: Final[Fields] = {2: _VALUE}
_VALUE.update({5: {1: _VALUE}, 6: {1: _PAIR}})
_EXEMPLAR: Final[Fields] = {7: _PAIR}
_NUMBERS: Final[Fields] = {1: {7: _PAIR, 5: _EXEMPLAR}}
_ITEM: Final[dict[str, Fields]] = {
    "spans": {9: _PAIR, 11: {3: _PAIR}, 13: {4: _PAIR}},
    "records": {5: _VALUE, 6: _PAIR},
    "metrics": {
        5: _NUMBERS,
        7: _NUMBERS,
        9: {1: {9: _PAIR, 8: _EXEMPLAR}},
        10: {1: {1: _PAIR, 11: _EXEMPLAR}},
        11: {1: {7: _PAIR, 6: {}}},
        12: _PAIR,
    },
}


def require_bounded_json(body: bytes) -> None:
    """Raise TooLarge for a JSON body of more objects than the limit."""
    if len(body) > SMALL_BYTES and body.count(b"{") > MAX_OBJECTS:
        raise TooLarge(f"the body holds more than {MAX_OBJECTS} objects")


def require_bounded_protobuf(body: bytes, items: str) -> None:
    """Raise TooLarge for a body of ``spans``, ``records`` or ``metrics`` above the limit."""
    if len(body) <= SMALL_BYTES:
        return
    scope: Fields = {1: {3: _PAIR}, 2: _ITEM[items]}
    waiting: list[tuple[int, int, Fields]] = [(0, len(body), {1: {1: {1: _PAIR}, 2: scope}})]
    count = 0
    while waiting:
        start, end, fields = waiting.pop()
        inner = _inner_messages(body, start, end, fields)
        count += len(inner)
        waiting.extend(inner)
        if count > MAX_ELEMENTS:
            raise TooLarge(f"the body holds more than {MAX_ELEMENTS} {items} and attributes")


def _inner_messages(
    body: bytes, start: int, end: int, fields: Fields
) -> list[tuple[int, int, Fields]]:
    """Give where the messages in one message lie; what is malformed ends the walk.

    The walk also ends where there are more than the limit, whose count is then enough.
    """
    found: list[tuple[int, int, Fields]] = []
    while start < end and len(found) <= MAX_ELEMENTS:
        tag, start = _varint(body, start, end)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, start = _varint(body, start, end)
        elif kind == LENGTH:
            size, start = _varint(body, start, end)
            if number in fields and start + size <= end:
                found.append((start, start + size, fields[number]))
            start += size
        elif kind in (FIXED64, FIXED32):
            start += 8 if kind == FIXED64 else 4
        else:
            return found
    return found


def _varint(body: bytes, start: int, end: int) -> tuple[int, int]:
    """Give a number and where it ends; one that does not end there ends with its message."""
    number = 0
    for index in range(min(MAX_VARINT_BYTES, end - start)):
        byte = body[start + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, start + index + 1
    return number, end

"""Opaque cursors of lists. It owns their encoding; it refuses to say what the parts mean."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from tokenbudget.domain.errors import InvalidInput

CursorPart = str | int | None


def encode_cursor(parts: Sequence[CursorPart]) -> str:
    """Give URL-safe text that ``decode_cursor`` turns back into the parts."""
    text = json.dumps(list(parts), separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, length: int) -> list[CursorPart]:
    """Give the ``length`` parts of a cursor; raises InvalidInput for text no page handed out."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or len(parts) != length or not all(map(_is_part, parts)):
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    return parts


def _is_part(value: object) -> bool:
    return value is None or type(value) in (str, int)

"""What all JSON shapes at the door share: what cannot be read at all, how a fault is worded, which text is refused.

It owns no shape of its own.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON: bad syntax, bad UTF-8, or too deep a nesting."""

NUL_ESCAPE: Final = b"\\u0000"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def plain_fault(error: msgspec.ValidationError, root: str) -> str:
    """Give the fault with fields named as the sender wrote them; ``root`` names the whole object."""
    return str(error).replace("`$.", "`").replace("`$", f"`{root}")


def find_nul_field(shape: msgspec.Struct) -> str | None:
    """Give the first field that holds a NUL character, which no SQL text can store, or None."""
    for name in shape.__struct_fields__:
        if _NUL.search(msgspec.json.encode(getattr(shape, name))):
            return name
    return None

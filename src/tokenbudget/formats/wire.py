"""What the JSON shapes at the door share: what is unreadable, how faults are worded, NUL refused.

It refuses to own a shape.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from tokenbudget.domain.errors import InvalidInput

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON: bad syntax, bad UTF-8, or too deep a nesting."""

UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""Characters that no database stores as text."""

NUL_ESCAPE: Final = b"\\u0000"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def plain_fault(error: msgspec.ValidationError, root: str) -> str:
    """Give the fault with fields named as the sender wrote them; ``root`` is the whole object."""
    return str(error).replace("`$.", "`").replace("`$", f"`{root}")


def find_nul_field(shape: msgspec.Struct) -> str | None:
    """Give the first field that holds a NUL character, which PostgreSQL cannot store, or None."""
    for name in shape.__struct_fields__:
        if _NUL.search(msgspec.json.encode(getattr(shape, name))):
            return name
    return None


def require_no_nul(shape: msgspec.Struct) -> None:
    """Raise InvalidInput naming the field that holds a NUL character, if one does."""
    field = find_nul_field(shape)
    if field is not None:
        raise InvalidInput(f"{field} holds a NUL character", field=field)

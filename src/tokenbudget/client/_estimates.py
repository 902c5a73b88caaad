"""How large the input of a call may be, found where the text is, so that the text stays there.

It gives upper bounds for ordinary text, not counts: two ASCII characters to a token at least, and a
token for each byte of anything else. Whoever wants it strict or exact gives a counter of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

ASCII_CHARACTERS_A_TOKEN: Final = 2
TOKENS_A_CALL: Final = 64
TOKENS_A_PART: Final = 8
# More than the largest image of the providers that we know costs.
TOKENS_AN_IMAGE: Final = 6_000
BASE64_CHARACTERS_A_TOKEN: Final = 4
MAX_DEPTH: Final = 32
IMAGE_KINDS: Final = frozenset({"image", "image_url", "input_image"})
BINARY_KINDS: Final = frozenset({"input_audio", "audio", "file", "input_file", "document"})

Counter = Callable[[str, str], int]


def bound_tokens(text: str, model: str) -> int:
    """Give a count of tokens that ordinary text does not exceed, whatever the model."""
    byte_count = len(text.encode(errors="replace"))
    if byte_count == len(text):
        return -(-byte_count // ASCII_CHARACTERS_A_TOKEN)
    ascii_count = len(text.encode("ascii", errors="ignore"))
    return -(-ascii_count // ASCII_CHARACTERS_A_TOKEN) + byte_count - ascii_count


def bound_input(parts: Iterable[object], model: str, count: Counter) -> int:
    """Give how many tokens these arguments of a call are at most."""
    return TOKENS_A_CALL + sum(_bound(part, model, count, 0) for part in parts)


def _bound(value: object, model: str, count: Counter, depth: int) -> int:
    if isinstance(value, str):
        return count(value, model)
    if isinstance(value, bool) or value is None or depth >= MAX_DEPTH:
        return 0
    if isinstance(value, int):
        # Embeddings may be given as tokens.
        return 1
    if isinstance(value, bytes | bytearray):
        return -(-len(value) // BASE64_CHARACTERS_A_TOKEN)
    if isinstance(value, Mapping):
        return TOKENS_A_PART + _bound_mapping(value, model, count, depth)
    if isinstance(value, list | tuple):
        return sum(_bound(part, model, count, depth + 1) for part in value)
    return _bound(_plain_form(value), model, count, depth + 1)


def _bound_mapping(value: Mapping[Any, Any], model: str, count: Counter, depth: int) -> int:
    kind = value.get("type")
    if kind in IMAGE_KINDS or "inlineData" in value or "inline_data" in value:
        return TOKENS_AN_IMAGE
    if kind in BINARY_KINDS:
        return _bound_binary(value, model, count, depth)
    return sum(
        count(str(name), model) + _bound(part, model, count, depth + 1)
        for name, part in value.items()
    )


def _bound_binary(value: Mapping[Any, Any], model: str, count: Counter, depth: int) -> int:
    """Give the bound of a part that is a file: what is encoded is not text by its length."""
    tokens = 0
    for part in value.values():
        if isinstance(part, str):
            tokens += -(-len(part) // BASE64_CHARACTERS_A_TOKEN)
        elif isinstance(part, Mapping):
            is_text = part.get("type") in ("text", "content")
            bound = _bound if is_text else _bound_part
            tokens += bound(part, model, count, depth + 1)
        else:
            tokens += _bound(part, model, count, depth + 1)
    return TOKENS_A_PART + tokens


def _bound_part(value: Mapping[Any, Any], model: str, count: Counter, depth: int) -> int:
    return _bound_binary(value, model, count, depth) if depth < MAX_DEPTH else 0


def _plain_form(value: object) -> object:
    """Give an object of an SDK, or a class that names a schema, as plain values; else None."""
    for name in ("model_json_schema", "model_dump", "to_dict"):
        describe = getattr(value, name, None)
        is_schema = name == "model_json_schema"
        if callable(describe) and isinstance(value, type) == is_schema:
            return describe()
    return None

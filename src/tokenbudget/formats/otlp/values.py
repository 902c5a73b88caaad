"""Attribute values as what they were meant to be: counts, text, decimals, JSON objects.

Emitters send integers as text, text quoted as JSON, and objects as JSON in text. A value that is
not what it should be is given as None: one bad attribute never spoils a span.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from tokenbudget.formats.otlp.shapes import Attributes, AttributeValue
from tokenbudget.formats.wire import UNREADABLE

MAX_TEXT_CHARACTERS: Final = 256
MAX_NUMBER_CHARACTERS: Final = 64
MAX_EXPONENT: Final = 18
MAX_ADDRESSES: Final = 1_024
STILL_TRUE: Final = frozenset({"true", "True", "1"})
ValueT = TypeVar("ValueT")


def find_text(attributes: Attributes, *names: str) -> str | None:
    """Give the first of these attributes that is text and not empty, or None."""
    for name in names:
        text = text_of(attributes.get(name))
        if text is not None:
            return text
    return None


def text_of(value: AttributeValue) -> str | None:
    """Give a value that can be stored as text of at most 256 characters, None for no such value.

    JSON quotes around it are taken off; a number is written out.
    """
    if isinstance(value, str):
        text = value.strip()
        if text[:1] == '"' and text[-1:] == '"' and len(text) > 1:
            inner = decode_json(text, str)
            text = text if inner is None else inner.strip()
        return text[:MAX_TEXT_CHARACTERS] if text and "\0" not in text else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)[:MAX_TEXT_CHARACTERS]
    return None


def find_count(attributes: Attributes, *names: str) -> int | None:
    """Give the first of these attributes that is a whole number of at least zero, or None."""
    for name in names:
        value = attributes.get(name)
        if value is None:
            continue
        count = count_of(value)
        if count is not None:
            return count
    return None


def count_of(value: AttributeValue) -> int | None:
    """Give a whole number of at least zero, also one sent as text, or None."""
    if type(value) is int:
        return value if value >= 0 else None
    number = decimal_of(value)
    if number is None or number < 0 or number != number.to_integral_value():
        return None
    return int(number)


def decimal_of(value: AttributeValue) -> Decimal | None:
    """Give a finite number of a size that money and time have, also one sent as text, or None."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARACTERS:
        return None
    try:
        number = Decimal(value)
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= MAX_EXPONENT else None


def is_true(value: AttributeValue) -> bool:
    """Tell whether a flag is set, also one sent as text."""
    return value is True or (isinstance(value, str) and value in STILL_TRUE)


def object_of(value: AttributeValue) -> Mapping[str, object] | None:
    """Give a JSON object sent as text or as an attribute that holds attributes, or None."""
    if isinstance(value, Mapping):
        return value
    return decode_json(value, dict[str, object]) if isinstance(value, str) else None


def decode_json(text: str, shape: type[ValueT]) -> ValueT | None:
    """Give the JSON in a text when it has this shape, or None."""
    try:
        return msgspec.json.decode(text, type=shape)
    except (*UNREADABLE, ValueError):
        return None


def host_of(value: AttributeValue) -> str | None:
    """Give the lower-case host of an address or URL, or None."""
    text = text_of(value)
    return None if text is None else _host_in(text)


@lru_cache(MAX_ADDRESSES)
def _host_in(text: str) -> str | None:
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname
    except ValueError:
        return None
    return host or None

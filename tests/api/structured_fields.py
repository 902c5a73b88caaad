"""Reading structured fields (RFC 9651): one string with parameters, as strictly as the RFC says."""

from __future__ import annotations

import re
from typing import Final

STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
INTEGER: Final = re.compile(r"-?\d{1,15}(?![\d.])")


def read_item(field: str) -> tuple[str, dict[str, int | str]]:
    """Give the one string in the field and its parameters; raises ValueError for anything else."""
    name, rest = _take(STRING, field)
    parameters: dict[str, int | str] = {}
    while rest:
        if not rest.startswith(";"):
            raise ValueError(f"{rest!r} is no parameter")
        key, rest = _take(KEY, rest[1:].lstrip(" "))
        if not rest.startswith("="):
            raise ValueError(f"parameter {key} has no value")
        rest = rest[1:]
        if rest.startswith('"'):
            text, rest = _take(STRING, rest)
            parameters[key] = _unquote(text)
        else:
            number, rest = _take(INTEGER, rest)
            parameters[key] = int(number)
    return _unquote(name), parameters


def _take(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    found = pattern.match(text)
    if found is None:
        raise ValueError(f"{text!r} does not begin with {pattern.pattern}")
    return found[0], text[found.end() :]


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])

"""Tags of bill lines: flat JSON objects in the ways that clouds write them.

It owns parsing them; it refuses to know which tag means what.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from tokenbudget.formats.bills.lines import Place, shown, text_cell

CACHED_TAGS: Final = 8_192
NO_TAGS: Final[Mapping[str, str]] = {}


def tags_cell(cell: str | None, place: Place, column: str) -> Mapping[str, str]:
    """Give the tags of a JSON object, of its inside without braces, or of a list of pairs.

    A tag without a value comes as null or as true. Values that are no texts are their JSON.
    """
    text = text_cell(cell, place, column)
    if text is None:
        return NO_TAGS
    tags = _parse(text)
    if tags is None:
        raise place.refuse(column, f"{shown(text)} is not a flat JSON object")
    return tags


@lru_cache(maxsize=CACHED_TAGS)
def _parse(text: str) -> Mapping[str, str] | None:
    # Azure leaves the braces out.
    bare = text.strip()
    document = f"{{{bare}}}" if bare.startswith('"') else bare
    try:
        value = json.loads(document, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        value = _paired(value)
    if not isinstance(value, dict) or any(isinstance(each, dict | list) for each in value.values()):
        return None
    return {name: _tag_text(each) for name, each in value.items()}


def _paired(pairs: list[Any]) -> dict[str, Any] | None:
    """Give the object that a Parquet map or BigQuery's labels hold, None when they are neither."""
    if any(not isinstance(pair, dict) or not isinstance(pair.get("key"), str) for pair in pairs):
        return None
    return {pair["key"]: pair.get("value") for pair in pairs}


def _tag_text(value: str | bool | None) -> str:
    return value if isinstance(value, str) else "true" if value else ""

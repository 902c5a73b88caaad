"""What a provider's response says of its usage, whatever SDK or plain dictionary it came as.

Only counts and ids are read; the text of a prompt or an answer is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

USAGE_NAMES: Final = ("usage", "usage_metadata", "usageMetadata")
ID_NAMES: Final = ("id", "response_id", "responseId")
MODEL_NAMES: Final = ("model", "model_version", "modelVersion")
TIER_NAMES: Final = {"auto": "standard", "default": "standard", "unspecified": "standard"}
# The only words of a usage object that tell what its counts mean; any other text stays here.
TEXT_NAMES: Final = frozenset(
    {
        "inference_geo",
        "modality",
        "serviceTier",
        "service_tier",
        "speed",
        "trafficType",
        "traffic_type",
        "ttl",
        "type",
    }
)
MAX_TEXT: Final = 64
MAX_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What was read: the provider's own usage object, the response's id, model and tier."""

    usage: dict[str, Any] | None
    response_id: str | None
    model: str | None
    service_tier: str | None


def read_response(response: object) -> ResponseFacts:
    """Give what a response says; a usage object on its own is taken for what it is."""
    facts = read_facts(response)
    if facts.usage is not None:
        return facts
    bare = _plain(response)
    is_usage = isinstance(bare, dict) and any(map(_names_tokens, bare))
    return replace(facts, usage=bare if is_usage else None)


def read_facts(response: object) -> ResponseFacts:
    """Give what a response says, with the usage that it names as such."""
    usage = _plain(first_of(response, USAGE_NAMES))
    return ResponseFacts(
        usage if isinstance(usage, dict) else None,
        _text(first_of(response, ID_NAMES)),
        _text(first_of(response, MODEL_NAMES)),
        tier_of(first_of(response, ("service_tier",))),
    )


def tier_of(value: object) -> str | None:
    """Give a service tier by the name it is priced under; None where none is named."""
    tier = _text(value)
    return None if tier is None else TIER_NAMES.get(tier, tier)


def get(thing: object, name: str) -> Any:
    """Give an attribute of an SDK's object, or an entry of a dictionary; None when absent."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def first_of(response: object, names: tuple[str, ...]) -> object:
    """Give the first of these that is there."""
    return next((value for name in names if (value := get(response, name)) is not None), None)


def _names_tokens(name: str) -> bool:
    return name.lower().replace("_", "").endswith(("tokens", "tokencount"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _plain(value: object, depth: int = 0) -> Any:
    """Give the counts of an SDK's object as dictionaries, lists and numbers; None for the rest."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH or isinstance(value, type):
        return None
    if isinstance(value, Mapping):
        parts = ((str(name), part) for name, part in value.items())
        return {name: _part(name, part, depth) for name, part in parts if not _is_prose(name, part)}
    if isinstance(value, list | tuple):
        return [_plain(part, depth + 1) for part in value if not isinstance(part, str)]
    dump = getattr(value, "model_dump", None) or getattr(value, "to_dict", None)
    if callable(dump):
        return _plain(dump(), depth + 1)
    return _plain(vars(value), depth + 1) if hasattr(value, "__dict__") else None


def _part(name: str, part: object, depth: int) -> Any:
    return part if isinstance(part, str) else _plain(part, depth + 1)


def _is_prose(name: str, part: object) -> bool:
    return isinstance(part, str) and (name not in TEXT_NAMES or len(part) > MAX_TEXT)

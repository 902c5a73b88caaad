"""Tags that travel: OpenTelemetry's baggage read for tags, and tags written as its header.

Entries named ``tokenbudget.<tag>`` are ours; others count only where an application names them.
Baggage comes from outside and may be forged: it fills in what nobody nearer has said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

try:
    from opentelemetry import baggage as carried
except ImportError:  # pragma: no cover
    is_carried = False
else:
    is_carried = True


BAGGAGE_HEADER: Final = "baggage"
PREFIX: Final = "tokenbudget."
# W3C Baggage, section 3.3.1.3 (limits): what every receiver must at least pass on.
MAX_ENTRIES: Final = 64
MAX_HEADER_BYTES: Final = 8_192
MAX_TAG: Final = 256
# RFC 7230 tokens, less what quote() would change.
NAME_CHARACTERS: Final = "!#$&'*+-.^_`|~"


def tags_from_baggage(header: str, keys: Iterable[str] = ()) -> dict[str, str]:
    """Give the tags in a ``baggage`` header: our own entries, and those named in ``keys``."""
    entries: dict[str, str] = {}
    for member in header.split(",")[:MAX_ENTRIES]:
        name, separator, value = member.partition(";")[0].partition("=")
        if separator:
            entries[unquote(name.strip())] = unquote(value.strip())
    return _tags_of(entries, keys)


def tags_in_context(keys: Iterable[str] = ()) -> dict[str, str]:
    """Give the tags in OpenTelemetry's current baggage; none where it is not installed."""
    return _tags_of(carried.get_all(), keys) if is_carried else {}


def baggage_of(tags: Mapping[str, str], present: str = "") -> str:
    """Give a ``baggage`` header with these tags after what is present already.

    Our own entries in ``present`` are replaced; tags beyond the header's bounds are left out.
    """
    kept = [
        member.strip()
        for member in present.split(",")
        if member.strip() and not member.strip().startswith(PREFIX)
    ]
    length = sum(len(member) + 1 for member in kept)
    for name, value in tags.items():
        member = f"{PREFIX}{quote(name, safe=NAME_CHARACTERS)}={quote(value)}"
        length += len(member) + 1
        if len(kept) >= MAX_ENTRIES or length > MAX_HEADER_BYTES:
            break
        kept.append(member)
    return ",".join(kept)


def _tags_of(entries: Mapping[str, object], keys: Iterable[str]) -> dict[str, str]:
    wanted = set(keys)
    tags = {}
    for name, value in entries.items():
        is_ours = name.startswith(PREFIX) and len(name) > len(PREFIX)
        if (is_ours or name in wanted) and isinstance(value, str) and 0 < len(value) <= MAX_TAG:
            tags[name.removeprefix(PREFIX)] = value
    return tags

"""What an event and a call are known by. It owns the keys; it refuses to look anything up.

A key is 128 bits, so that no two things that differ share one: among a billion keys the chance of
that is below one in 10**20.
"""

from __future__ import annotations

import hashlib
from typing import Final

KEY_BYTES: Final = 16
REPEATING_PROVIDERS: Final = frozenset({"ollama", "ollama_chat"})
"""Providers that draw the numbers of their responses from a thousand, so that they come again."""


def event_key(source: str, event_ref: str, revision: int) -> bytes:
    """Give the key of one revision of an event; its time is never part of it."""
    return _key("event", source, event_ref, str(revision))


def has_lasting_ids(provider: str) -> bool:
    """Tell whether a response id of the provider stands for one call for ever."""
    return provider not in REPEATING_PROVIDERS


def response_key(provider: str, response_ref: str) -> bytes:
    """Give the key of the call that a provider answered with this response id."""
    return _key("response", provider, response_ref)


def span_key(trace_ref: str, span_ref: str) -> bytes:
    """Give the key of the call that this span of a trace was."""
    return _key("span", trace_ref, span_ref)


def _key(*parts: str) -> bytes:
    # The length before each part keeps ("a", "bc") and ("ab", "c") apart.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()

"""What the events of a stream say of its usage, as an SDK's objects or as decoded JSON.

Providers repeat usage cumulatively: the last figure of each kind is the usage. Text is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from tokenbudget.client._responses import ResponseFacts, get, read_facts

DONE_KINDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
FAILED_KIND: Final = "response.failed"
FIRST_KINDS: Final = frozenset({"content_block_start", "content_block_delta", "text"})
DELTA_SUFFIX: Final = ".delta"
RESPONSE_PREFIX: Final = "response."
MESSAGE_PREFIX: Final = "message_"
MESSAGE_DELTA: Final = "message_delta"
WHOLE_MESSAGE: Final = "message"


@dataclass(slots=True)
class StreamReading:
    """What was seen of one stream so far.

    ``is_complete`` when the provider has said that the answer ends here; ``is_failed`` when it said
    that it has failed; ``has_begun`` once a part of the answer came, ``is_looked_at`` once
    anything did.
    """

    facts: ResponseFacts = field(default_factory=lambda: ResponseFacts(None, None, None, None))
    is_complete: bool = False
    is_failed: bool = False
    has_begun: bool = False
    is_looked_at: bool = False

    def see(self, event: object) -> None:
        """Take in one event.

        It runs for every token of an answer, so that it asks for little that is not there.
        """
        self.is_looked_at = True
        choices = get(event, "choices")
        kind = None if choices is not None else get(event, "type")
        if kind == "chunk":
            # A helper of OpenAI's SDK hands each chunk on inside an event of its own.
            event = get(event, "chunk")
            choices = get(event, "choices")
        if choices is not None:
            self._see_chat(event, choices)
        elif isinstance(kind, str):
            self._see_named(event, kind)
        else:
            self._see_other(event)

    def _see_chat(self, chunk: object, choices: Iterable[object]) -> None:
        for choice in choices:
            self.has_begun = True
            self.is_complete = self.is_complete or get(choice, "finish_reason") is not None
        if self.facts.response_id is None or get(chunk, "usage") is not None:
            self._merge(read_facts(chunk))

    def _see_named(self, event: object, kind: str) -> None:
        """Take in an event of OpenAI's responses or of Anthropic's messages."""
        self.has_begun = self.has_begun or kind in FIRST_KINDS or kind.endswith(DELTA_SUFFIX)
        self.is_complete = self.is_complete or kind in DONE_KINDS
        self.is_failed = self.is_failed or kind == FAILED_KIND
        if kind.startswith(RESPONSE_PREFIX):
            carrier = get(event, "response")
        elif kind == MESSAGE_DELTA:
            carrier = event
            self.is_complete = self.is_complete or bool(get(get(event, "delta"), "stop_reason"))
        else:
            carrier = get(event, "message") if kind.startswith(MESSAGE_PREFIX) else None
            carrier = event if kind == WHOLE_MESSAGE else carrier
        if carrier is not None:
            self._merge(read_facts(carrier))

    def _see_other(self, event: object) -> None:
        """Take in a part of Gemini's answers, or an answer of a shape without events."""
        candidates = get(event, "candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            self.has_begun = True
            self.is_complete = self.is_complete or bool(get(candidate, "finishReason"))
        self._merge(read_facts(event))

    def _merge(self, seen: ResponseFacts) -> None:
        known = self.facts
        if seen.usage is not None:
            counts = {name: count for name, count in seen.usage.items() if count is not None}
            known = replace(known, usage={**(known.usage or {}), **counts})
        self.facts = ResponseFacts(
            known.usage,
            seen.response_id if known.response_id is None else known.response_id,
            seen.model or known.model,
            seen.service_tier or known.service_tier,
        )


def is_usage_only(event: object) -> bool:
    """Tell whether a chunk of a chat is the extra one at the end that only carries usage."""
    choices = get(event, "choices")
    if choices is None and get(event, "type") == "chunk":
        event = get(event, "chunk")
        choices = get(event, "choices")
    return choices == [] and get(event, "usage") is not None

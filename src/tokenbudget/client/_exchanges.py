"""Calls of providers as plain HTTP: what a request asks for, and what an answer's bytes tell.

It reads JSON and server-sent events, as they come, in bounded memory, and keeps nothing of them but
counts, ids and names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from tokenbudget.client._attempts import Attempt
from tokenbudget.client._plans import (
    CHAT,
    COMPLETIONS,
    CONVERSE,
    EMBEDDINGS,
    GEMINI,
    GEMINI_EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Endpoint,
    Plan,
)
from tokenbudget.client._stream_reading import is_usage_only

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
EVENT_STREAM: Final = "text/event-stream"
JSON_SUFFIX: Final = "json"
EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
LONGEST_END: Final = 3
EVENT_FIELD: Final = b"data:"
DONE: Final = b"[DONE]"

# In this order, since chats are completions by their paths, too. A model may be in the path.
ENDPOINTS: Final[tuple[tuple[re.Pattern[str], Endpoint], ...]] = (
    (re.compile(r"/deployments/(?P<model>[^/]+)/chat/completions$"), CHAT),
    (re.compile(r"/deployments/(?P<model>[^/]+)/completions$"), COMPLETIONS),
    (re.compile(r"/deployments/(?P<model>[^/]+)/embeddings$"), EMBEDDINGS),
    (re.compile(r"/chat/completions$"), CHAT),
    (re.compile(r"/completions$"), COMPLETIONS),
    (re.compile(r"/responses$"), RESPONSES),
    (re.compile(r"/embeddings$"), EMBEDDINGS),
    (re.compile(r"/messages$"), MESSAGES),
    (re.compile(r"/models/(?P<model>[^/:]+):(stream)?GenerateContent$", re.IGNORECASE), GEMINI),
    (
        re.compile(r"/models/(?P<model>[^/:]+):(batchE|e)mbedContents?$"),
        GEMINI_EMBEDDINGS,
    ),
    (re.compile(r"/model/(?P<model>[^/]+)/converse(-stream)?$"), CONVERSE),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that a request makes: its shape and its arguments, the model among them.

    ``is_model_fixed`` when the path names the model, whatever the body says.
    """

    endpoint: Endpoint
    arguments: Mapping[str, Any]
    model_is_in_body: bool
    is_model_fixed: bool = False

    @property
    def is_streamed(self) -> bool:
        """Tell whether the answer is asked for as a stream of events."""
        return bool(self.arguments.get("stream"))

    def body_of(self, arguments: Mapping[str, Any]) -> bytes:
        """Give the body that asks for these arguments instead."""
        sent = dict(arguments)
        if not self.model_is_in_body:
            sent.pop("model", None)
        return json.dumps(sent, separators=(",", ":"), ensure_ascii=False).encode()


def endpoint_of(path: str) -> tuple[Endpoint, str | None] | None:
    """Give the endpoint at a path, and the model if the path names it; None for other paths."""
    for pattern, endpoint in ENDPOINTS:
        found = pattern.search(path)
        if found is not None:
            return endpoint, unquote(found.groupdict().get("model") or "") or None
    return None


def wanted_by(path: str, body: bytes) -> Wanted | None:
    """Give the call that a POST to a provider makes; None for what is no such call."""
    found = endpoint_of(path)
    if found is None:
        return None
    try:
        arguments = json.loads(body)
    except ValueError:
        return None
    if not isinstance(arguments, dict):
        return None
    endpoint, model = found
    is_in_body = "model" in arguments
    if model is not None and not is_in_body:
        arguments = {**arguments, "model": model}
    return Wanted(endpoint, arguments, is_in_body, is_model_fixed=model is not None)


class BodyReader:
    """Reads the bytes of one answer on their way; ``feed`` gives what goes on to the caller."""

    def __init__(self, attempt: Attempt, plan: Plan, headers: Mapping[str, str]) -> None:
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_plain = headers.get("content-encoding", "identity").lower() == "identity"
        self.attempt = attempt
        self._hides_usage = plan.is_usage_added
        self._is_events = is_plain and content_type == EVENT_STREAM
        self._is_json = is_plain and content_type.endswith(JSON_SUFFIX)
        self._kept = bytearray()

    def feed(self, content: bytes) -> bytes:
        """Take in a piece of the answer."""
        if not self._is_events and not self._is_json:
            return content
        known = len(self._kept)
        self._kept += content
        if self._is_events:
            passed = self._take_events(known)
            return passed if self._hides_usage else content
        if len(self._kept) > MAX_BODY_BYTES:
            self._is_json = False
            self._kept.clear()
        return content

    def end(self) -> bytes:
        """End the call with its answer, and give what of it has not gone on yet."""
        rest = bytes(self._kept)
        if self._is_json:
            self._read_json(rest)
            rest = b""
        elif self._is_events:
            self._read_event(rest)
            rest = rest if self._hides_usage else b""
        self.attempt.end_stream()
        return rest

    def break_off(self) -> None:
        """End the call at an answer that is not read to its end."""
        self.attempt.break_off()

    def _take_events(self, known: int) -> bytes:
        """Read the events that are whole, of which none ended in the first ``known`` bytes."""
        passed = bytearray()
        # An end may have begun in what was there.
        start = max(0, known - LONGEST_END)
        while (end := EVENT_END.search(self._kept, start)) is not None:
            event = bytes(self._kept[: end.end()])
            del self._kept[: end.end()]
            start = 0
            if not self._read_event(event):
                passed += event
        if len(self._kept) > MAX_BODY_BYTES:
            passed += self._kept
            self._kept.clear()
        return bytes(passed)

    def _read_event(self, text: bytes) -> bool:
        """Take in one event; tell whether it carries nothing but usage."""
        lines = (line for line in text.splitlines() if line.startswith(EVENT_FIELD))
        content = b"\n".join(line[len(EVENT_FIELD) :].strip() for line in lines)
        if not content or content == DONE:
            return False
        try:
            event = json.loads(content)
        except ValueError:
            return False
        self.attempt.see(event)
        return is_usage_only(event)

    def _read_json(self, text: bytes) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            return
        # Gemini streams an array of answers where events were not asked for.
        for part in answer if isinstance(answer, list) else [answer]:
            self.attempt.reading.see(part)
        # It came whole, whether or not it says so.
        self.attempt.reading.is_complete = True

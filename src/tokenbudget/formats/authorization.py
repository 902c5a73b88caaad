"""Requests that a gateway asks about, as its external authorisation sends them.

It owns where tags, model and sizes are found: in headers of ours, or in the body of the provider's
request, which is counted and not kept. It refuses to decide and to know HTTP's answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.errors import InvalidInput, MalformedBody
from tokenbudget.domain.holds import CheckRequest
from tokenbudget.formats.quota import CheckShape, request_of
from tokenbudget.formats.wire import UNREADABLE, plain_fault, require_no_nul

PREFIX: Final = "x-tokenbudget-"
TAGS_HEADER: Final = f"{PREFIX}tags"
TEXT_HEADERS: Final = {
    f"{PREFIX}provider": "provider",
    f"{PREFIX}model": "model",
    f"{PREFIX}service-tier": "service_tier",
    f"{PREFIX}estimate": "estimate",
    "idempotency-key": "idempotency_key",
}
COUNT_HEADERS: Final = {
    f"{PREFIX}input-tokens": "input_tokens",
    f"{PREFIX}max-output-tokens": "max_output_tokens",
    f"{PREFIX}ttl-seconds": "ttl_seconds",
}
MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""How the common APIs name the most output a call may have; the first that is there counts."""

PREAMBLES: Final = ("system", "instructions")


def parse_authorization(headers: Mapping[str, str], body: bytes) -> CheckRequest:
    """Give the check that a request to a provider amounts to; header names are in lower case.

    Raises MalformedBody for a body that is no JSON object and InvalidInput naming the header or
    field and the rule.
    """
    fields = {**_fields_of_body(body), **_fields_of_headers(headers)}
    if "input_tokens" in fields:
        fields.pop("messages", None)
    try:
        shape = msgspec.convert({**fields, "tags": _tags_of(headers)}, CheckShape, strict=False)
        require_no_nul(shape)
    except msgspec.ValidationError as error:
        raise InvalidInput(plain_fault(error, "request")) from None
    return request_of(shape)


def _fields_of_headers(headers: Mapping[str, str]) -> dict[str, str]:
    named = {**TEXT_HEADERS, **COUNT_HEADERS}
    return {field: headers[name] for name, field in named.items() if headers.get(name)}


def _tags_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Give the tags of our own header, and of W3C baggage those that are dimensions."""
    carried = _members(headers.get("baggage", ""))
    known = {name: value for name, value in carried.items() if name in TAG_DIMENSIONS}
    return {**known, **_members(headers.get(TAGS_HEADER, ""))}


def _members(text: str) -> dict[str, str]:
    """Give the members of a list in the form of W3C baggage: ``team=growth,feature=a%20b``."""
    members = {}
    for member in text.split(","):
        name, is_pair, value = member.partition(";")[0].partition("=")
        if is_pair and name.strip():
            members[name.strip()] = unquote(value.strip())
    return members


def _fields_of_body(body: bytes) -> dict[str, Any]:
    """Give what the body of a chat, messages, responses or embeddings request says of its size."""
    if not body.strip():
        return {}
    try:
        request = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise MalformedBody("the body is not a request to a provider: send a JSON object")
    fields: dict[str, Any] = {}
    if isinstance(request.get("model"), str):
        fields["model"] = request["model"]
    maximum = next((request[name] for name in MAXIMA if request.get(name) is not None), None)
    if maximum is not None:
        fields["max_output_tokens"] = maximum
    messages = _messages_of(request)
    if messages:
        fields["messages"] = messages
    return fields


def _messages_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give everything that will be read by the model, as messages to be counted."""
    messages = [
        {"role": "system", "content": request[name]} for name in PREAMBLES if request.get(name)
    ]
    for name in ("messages", "input", "prompt"):
        given = request.get(name)
        if isinstance(given, list) and all(isinstance(each, dict) for each in given):
            messages.extend(given)
        elif given:
            texts = given if isinstance(given, list) else [given]
            messages.extend({"role": "user", "content": text} for text in texts)
    return messages

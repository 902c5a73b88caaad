"""The tags of a LiteLLM call, by the names that the service's door for LiteLLM's callback uses.

It owns which of LiteLLM's fields are tags and which of them beats which: what an administrator
wrote on a virtual key or its team, the key's own fields, then what the caller said. It reads no
prompt and refuses what does not fit, since a tag must never stop a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tokenbudget.client import tags_from_baggage

# The same names and bounds as formats.litellm and formats.events have; a test compares them.
DIMENSIONS: Final = (
    "team",
    "feature",
    "tenant",
    "request_type",
    "environment",
    "prompt_version",
)
OWN_ENTRY: Final = "tokenbudget"
KEY_NOTES: Final = ("user_api_key_metadata", "user_api_key_team_metadata")
NO_USER: Final = "default_user_id"
AGENT_TAG: Final = "user-agent:"
BARE_TAGS: Final = "request_tags"
HEADER_PREFIX: Final = "x-"
MAX_TAGS: Final = 64
MAX_CHARACTERS: Final = 256

Facts = Mapping[str, Any]


def tags_of_request(asked: Facts, metadata: Facts) -> dict[str, str]:
    """Give the tags of a request that the proxy has authenticated and not sent yet.

    ``asked`` is the request and ``metadata`` LiteLLM's own notes on it.
    """
    headers = object_of(metadata, "headers")
    caller = object_of(metadata, "requester_metadata")
    own = {
        **object_of(object_of(asked, "metadata"), OWN_ENTRY),
        **object_of(caller, OWN_ENTRY),
        **object_of(metadata, OWN_ENTRY),
    }
    end_user = metadata.get("user_api_key_end_user_id") or asked.get("user")
    return _first_of(
        *(object_of(object_of(metadata, name), OWN_ENTRY) for name in KEY_NOTES),
        _key_tags(metadata, end_user, caller.get("session_id")),
        own,
        tags_from_baggage(str(headers.get("baggage") or "")),
        _request_tags(metadata.get("tags")),
        object_of(metadata, "spend_logs_metadata"),
        _dimension_headers(headers),
    )


def tags_of_record(record: Facts) -> dict[str, str]:
    """Give the tags in LiteLLM's record of a call, as the service's own door reads them."""
    metadata = object_of(record, "metadata")
    session = object_of(metadata, "requester_metadata").get("session_id")
    tags = _first_of(
        {**_key_tags(metadata, record.get("end_user"), session), **host_tag(record)},
        _request_tags(record.get("request_tags")),
        object_of(metadata, "spend_logs_metadata"),
        _dimension_headers(object_of(metadata, "requester_custom_headers")),
    )
    return tags


def host_tag(record: Facts) -> dict[str, str]:
    """Give the tag of the host that was called; a URL's path and query are left out."""
    address = record.get("api_base")
    try:
        host = urlsplit(address).hostname if isinstance(address, str) else None
    except ValueError:
        host = None
    return {"api_host": host} if host else {}


def object_of(facts: Facts, name: str) -> Facts:
    """Give the object under this name; an empty one where there is none."""
    value = facts.get(name)
    return value if isinstance(value, Mapping) else {}


def _first_of(*sources: Facts) -> dict[str, str]:
    """Give each tag by the first source that has it and fits, within the bound on their number."""
    tags: dict[str, str] = {}
    for source in sources:
        for name, value in source.items():
            text = _text(value)
            if text and len(str(name).strip()) > 0 and len(str(name)) <= MAX_CHARACTERS:
                tags.setdefault(str(name), text)
    return dict(list(tags.items())[:MAX_TAGS])


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() and len(text) <= MAX_CHARACTERS and "\0" not in text else None


def _key_tags(metadata: Facts, end_user: object, session: object) -> Facts:
    user = metadata.get("user_api_key_user_id")
    tags = {
        "team": _either(metadata, "user_api_key_team_alias", "user_api_key_team_id"),
        "organization": _either(metadata, "user_api_key_org_alias", "user_api_key_org_id"),
        "project": _either(metadata, "user_api_key_project_alias", "user_api_key_project_id"),
        "key_alias": metadata.get("user_api_key_alias"),
        "user": end_user or (None if user == NO_USER else user),
        "session_id": session,
    }
    return {name: value for name, value in tags.items() if value not in (None, "")}


def _either(metadata: Facts, *names: str) -> object:
    return next((metadata[name] for name in names if metadata.get(name)), None)


def _request_tags(listed: object) -> Facts:
    """Give ``name:value`` tags by name, and those that are one word together under one name."""
    tags: dict[str, str] = {}
    bare = set()
    for text in listed if isinstance(listed, list) else ():
        if not isinstance(text, str) or text.lower().startswith(AGENT_TAG):
            continue
        name, separator, value = text.partition(":")
        if separator and name.strip() and value.strip():
            tags.setdefault(name.strip(), value.strip())
        elif text.strip():
            bare.add(text.strip())
    if bare:
        tags.setdefault(BARE_TAGS, ",".join(sorted(bare)))
    return tags


def _dimension_headers(headers: Facts) -> Facts:
    """Give the ``x-`` headers that are named like a dimension; others may hold secrets."""
    named = {
        str(name).lower().removeprefix(HEADER_PREFIX).replace("-", "_"): value
        for name, value in headers.items()
        if str(name).lower().startswith(HEADER_PREFIX)
    }
    return {name: named[name] for name in DIMENSIONS if name in named}

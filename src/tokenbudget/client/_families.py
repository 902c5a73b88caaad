"""Which methods of an SDK make calls that cost, and which of the two known families it is of.

An SDK is known by the module of its class, else by its shape, so that compatible ones and stand-ins
are too. Neither SDK is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbudget.client._hosts import provider_of_sdk
from tokenbudget.client._plans import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Endpoint,
)

Path = tuple[str, ...]

STREAM: Final = "stream"
RAW: Final = "with_raw_response"
STREAMED_RAW: Final = "with_streaming_response"
MODES: Final = frozenset({RAW, STREAMED_RAW})
COPIES: Final = frozenset({"copy", "with_options"})


@dataclass(frozen=True, slots=True)
class Family:
    """The methods of one SDK that cost, by the attributes that lead to them."""

    name: str
    endpoints: Mapping[Path, Endpoint]

    def leads_on(self, path: Path) -> bool:
        """Tell whether a method that costs lies below this path."""
        return any(known[: len(path)] == path for known in self.endpoints)


def _methods(resources: Mapping[Path, Endpoint], *names: str) -> dict[Path, Endpoint]:
    return {(*path, name): endpoint for path, endpoint in resources.items() for name in names}


OPENAI: Final = Family(
    "openai",
    {
        **_methods(
            {
                ("chat", "completions"): CHAT,
                ("beta", "chat", "completions"): CHAT,
                ("responses",): RESPONSES,
            },
            "create",
            "parse",
            STREAM,
        ),
        **_methods({("completions",): COMPLETIONS, ("embeddings",): EMBEDDINGS}, "create"),
    },
)
ANTHROPIC: Final = Family(
    "anthropic",
    _methods({("messages",): MESSAGES, ("beta", "messages"): MESSAGES}, "create", "parse", STREAM),
)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a resource: itself, and its sibling that also shows the HTTP exchange."""

    endpoint: Endpoint
    name: str
    function: Callable[..., Any]
    raw: Callable[..., Any] | None
    mode: str | None

    @property
    def shows_exchange(self) -> bool:
        """Tell whether what it answers is a raw response, to be parsed."""
        return self.mode == RAW or self.raw is not None


def family_of(sdk: object) -> Family:
    """Give the family of an SDK's client; TypeError for what is of none."""
    modules = {parent.__module__.partition(".")[0] for parent in type(sdk).__mro__}
    for family in (OPENAI, ANTHROPIC):
        if family.name in modules:
            return family
    if hasattr(getattr(sdk, "messages", None), "create"):
        return ANTHROPIC
    if hasattr(getattr(getattr(sdk, "chat", None), "completions", None), "create"):
        return OPENAI
    raise TypeError(
        f"{type(sdk).__name__} is no client of the openai or anthropic SDK; "
        "use client.transport() for others"
    )


def provider_of(sdk: object, family: Family) -> str:
    """Give the provider that this client calls."""
    return provider_of_sdk(sdk, family.name)


def is_async(sdk: object) -> bool:
    """Tell whether the client's calls are awaited."""
    return hasattr(type(sdk), "__aenter__") or "Async" in type(sdk).__name__


def method_at(resource: object, name: str, endpoint: Endpoint, mode: str | None) -> Method:
    """Give a method of a resource, which is one of a raw variant in a mode."""
    function = getattr(resource, name)
    raw = None
    if mode is None and name != STREAM:
        candidate = getattr(getattr(resource, RAW, None), name, None)
        raw = candidate if callable(candidate) else None
    return Method(endpoint, name, function, raw, mode)


def takes_part(method: Method, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a call makes something new; looking again at a stored answer does not."""
    return not (method.name == STREAM and arguments.get("response_id"))

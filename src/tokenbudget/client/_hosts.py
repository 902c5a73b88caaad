"""Which provider a host, or an SDK's client, belongs to, by the names of the price book."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tokenbudget.client._responses import get

PROVIDER_HOSTS: Final[Mapping[str, str]] = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.voyageai.com": "voyageai",
    "api.x.ai": "xai",
    "api.z.ai": "zai",
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
HOST_SUFFIXES: Final[Mapping[str, str]] = {
    ".api.openai.com": "openai",
    ".cognitiveservices.azure.com": "azure",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    "aiplatform.googleapis.com": "google",
}
BEDROCK_PREFIX: Final = "bedrock-runtime"
BEDROCK_SUFFIXES: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# A class of an SDK that reaches another cloud says so in its name.
CLOUDS: Final[Mapping[str, str]] = {
    "Azure": "azure",
    "Bedrock": "bedrock",
    "Foundry": "azure",
    "Vertex": "google",
}


def provider_of_host(host: str, more: Mapping[str, str] | None = None) -> str | None:
    """Give the provider behind a host; None for one that is not known.

    ``more`` maps further hosts, or ``host:port``, and is asked first.
    """
    name = host.lower()
    bare = name.rpartition(":")[0] or name
    known = {**PROVIDER_HOSTS, **(more or {})}
    for spelling in (name, bare):
        if spelling in known:
            return known[spelling]
    if bare.startswith(BEDROCK_PREFIX) and bare.endswith(BEDROCK_SUFFIXES):
        return "bedrock"
    return next(
        (provider for suffix, provider in HOST_SUFFIXES.items() if bare.endswith(suffix)), None
    )


def provider_of_sdk(sdk: object, usual: str) -> str:
    """Give the provider that a client of an SDK calls: by its class, its address, else ``usual``.

    Any class above it counts, so that an application's own subclass is known too.
    """
    names = [parent.__name__ for parent in type(sdk).__mro__]
    for word, provider in CLOUDS.items():
        if any(word in name for name in names):
            return provider
    host = urlsplit(str(get(sdk, "base_url") or "")).netloc
    return provider_of_host(host) or usual

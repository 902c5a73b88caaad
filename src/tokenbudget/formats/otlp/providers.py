"""Which provider a call went to, as the price book spells it.

It owns the folding of emitters' words, of hosts and, where an emitter names no provider at all, of
models' names. It refuses to know prices.

The host is asked first: whatever speaks OpenAI's protocol says ``openai``, and only the address
tells who served it. The operator's hosts come before ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

UNKNOWN_PROVIDER: Final = "unknown"
MAX_HOSTS: Final = 1_024
INTERFACES: Final = frozenset(
    {"chat", "completion", "embedding", "image", "messages", "responses", "speech", "transcription"}
)
"""What follows the provider's name in the words of the Vercel AI SDK."""

WORDS: Final[Mapping[str, str]] = {
    "amazon-bedrock": "bedrock",
    "aws": "bedrock",
    "aws.bedrock": "bedrock",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure-openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gcp.vertex.agent": "google",
    "gemini": "google",
    "google-gla": "google",
    "google-vertex": "google",
    "google.generative-ai": "google",
    "google.vertex": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "togetherai": "together",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "x_ai": "xai",
}
HOSTS: Final[Mapping[str, str]] = {
    "anthropic.com": "anthropic",
    "aiplatform.googleapis.com": "google",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.x.ai": "xai",
    "cognitiveservices.azure.com": "azure",
    "cohere.com": "cohere",
    "generativelanguage.googleapis.com": "google",
    "models.ai.azure.com": "azure",
    "openai.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "services.ai.azure.com": "azure",
}
REGIONAL_HOSTS: Final = (
    (re.compile(r"bedrock-runtime(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"), "bedrock"),
    (re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com"), "google"),
)
MODELS: Final = (
    (re.compile(r"([a-z]{2,6}\.)?(anthropic|amazon|meta|mistral|cohere|ai21)\..+"), "bedrock"),
    (re.compile(r"claude-.+@[0-9]+"), "google"),
    (re.compile(r"(gpt-|chatgpt-|o[134](-|$)|text-embedding-|codex-|davinci|whisper)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(gemini|gemma|text-bison|chat-bison)-"), "google"),
    (re.compile(r"(mistral|codestral|ministral|pixtral|magistral|devstral)-"), "mistral"),
    (re.compile(r"grok-"), "xai"),
    (re.compile(r"deepseek-"), "deepseek"),
    (re.compile(r"(command-|embed-(english|multilingual)-|rerank-)"), "cohere"),
    (re.compile(r"sonar"), "perplexity"),
)


def fold_provider(word: str) -> str:
    """Give our name for an emitter's word, the word in lower case where we have none."""
    folded = word.strip().lower()
    head, _, interface = folded.rpartition(".")
    if interface in INTERFACES:
        folded = head
    return WORDS.get(folded, folded)


def provider_of_host(host: str | None, hosts: Mapping[str, str]) -> str | None:
    """Give the provider at a host, None for a host of nobody's.

    ``hosts`` are the operator's: host or domain to provider; the longest name that fits wins.
    """
    if host is None:
        return None
    if hosts:
        for domain in _domains(host):
            if domain in hosts:
                return hosts[domain]
    return _provider_at(host)


@lru_cache(MAX_HOSTS)
def _provider_at(host: str) -> str | None:
    for domain in _domains(host):
        if domain in HOSTS:
            return HOSTS[domain]
    for pattern, provider in REGIONAL_HOSTS:
        if pattern.fullmatch(host):
            return provider
    return None


def _domains(host: str) -> Iterator[str]:
    """Give the host and the domains it lies in, longest first."""
    labels = host.split(".")
    return (".".join(labels[start:]) for start in range(len(labels)))


def provider_of_model(model: str) -> str | None:
    """Give the provider that a model of this name is most likely served by, or None."""
    lowered = model.lower()
    for pattern, provider in MODELS:
        if pattern.match(lowered):
            return provider
    return None

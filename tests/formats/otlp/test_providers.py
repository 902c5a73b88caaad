"""Emitters' words, hosts and models' names lead to providers as the price book spells them."""

from __future__ import annotations

import pytest

from tokenbudget.formats.otlp.providers import (
    fold_provider,
    provider_of_host,
    provider_of_model,
)
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.settings import packaged_path

PRICES = load_price_book(packaged_path("pricing"))


@pytest.mark.parametrize(
    ("word", "provider"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("openai.chat", "openai"),
        ("openai.responses", "openai"),
        ("openai.embedding", "openai"),
        ("anthropic.messages", "anthropic"),
        ("google.generative-ai", "google"),
        ("google.vertex.chat", "google"),
        ("gemini", "google"),
        ("gcp.gen_ai", "google"),
        ("gcp.vertex_ai", "google"),
        ("gcp.gemini", "google"),
        ("vertex_ai", "google"),
        ("azure.ai.openai", "azure"),
        ("azure.ai.inference", "azure"),
        ("az.ai.openai", "azure"),
        ("az.ai.inference", "azure"),
        ("azure", "azure"),
        ("aws.bedrock", "bedrock"),
        ("amazon-bedrock", "bedrock"),
        ("x_ai", "xai"),
        ("xai.chat", "xai"),
        ("mistral_ai", "mistral"),
        ("mistralai", "mistral"),
        ("cohere", "cohere"),
        ("perplexity", "perplexity"),
        ("deepseek", "deepseek"),
        ("groq.chat", "groq"),
        ("togetherai.chat", "together"),
    ],
)
def test_a_word_is_folded_to_a_provider_of_the_price_book(word: str, provider: str) -> None:
    assert fold_provider(word) == provider
    assert PRICES.canonical_provider(provider) == provider


@pytest.mark.parametrize("word", ["ibm.watsonx.ai", "house.llm"])
def test_a_word_of_nobody_stays(word: str) -> None:
    assert fold_provider(word) == word


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("acme.openai.azure.com", "azure"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
        ("us-central1-aiplatform.googleapis.com", "google"),
        ("aiplatform.googleapis.com", "google"),
        ("s3.amazonaws.com", None),
        ("127.0.0.1", None),
        ("localhost", None),
        (None, None),
        ("llm.corp", "groq"),
        ("eu.llm.corp", "groq"),
        ("special.llm.corp", "xai"),
    ],
)
def test_a_host_leads_to_its_provider(host: str | None, provider: str | None) -> None:
    hosts = {"llm.corp": "groq", "special.llm.corp": "xai"}

    assert provider_of_host(host, hosts) == provider


def test_the_operators_host_comes_before_ours() -> None:
    assert provider_of_host("api.openai.com", {"openai.com": "house"}) == "house"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-5-mini-2025-08-07", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-sonnet-4-5-20250929", "anthropic"),
        ("claude-sonnet-4-5@20250929", "google"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock"),
        ("amazon.nova-lite-v1:0", "bedrock"),
        ("gemini-2.5-flash", "google"),
        ("mistral-large-2512", "mistral"),
        ("grok-4", "xai"),
        ("deepseek-chat", "deepseek"),
        ("command-r", "cohere"),
        ("sonar-pro", "perplexity"),
        ("octopus", None),
        ("llama-3-70b", None),
    ],
)
def test_a_model_leads_to_its_likely_provider(model: str, provider: str | None) -> None:
    assert provider_of_model(model) == provider

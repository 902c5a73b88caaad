"""Names of meters, as far as they tell a model and a unit."""

from __future__ import annotations

import pytest

from tokenbudget.formats.bills.cloud_meters import (
    Meter,
    read_aws,
    read_azure,
    read_google,
    read_usage_type,
)

EDITION = "(Amazon Bedrock Edition)"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("input_uncached", "input_tokens"),
        ("input_cached", "cached_input_tokens"),
        ("cache_read_input_tokens", "cached_input_tokens"),
        ("CacheReadInputTokenCount", "cached_input_tokens"),
        ("input_cache_write_5m", "cache_write_5m_tokens"),
        ("CacheWrite1hInputTokenCount_Global", "cache_write_1h_tokens"),
        ("cache-write-input-token-count", "cache_write_tokens"),
        ("Text Output", "output_tokens"),
        ("Thinking Text Output", "reasoning_tokens"),
        ("Audio Output", "output_audio_tokens"),
        ("gpt-4o-rt-aud-1217 Inp regnl", "input_audio_tokens"),
        ("gpt-4o-rt-aud-1217 cchd Inp glbl", "cached_input_audio_tokens"),
        ("Image Input", "input_image_tokens"),
        ("Text Input Caching Storage", "cache_storage"),
        ("5.4 opt Dz 1M Tokens", "output_tokens"),
        ("Provisioned Managed Global Unit", None),
        ("seats", None),
    ],
)
def test_words_name_a_unit_of_the_ledger(text: str, unit: str | None) -> None:
    assert read_usage_type(text) == unit


@pytest.mark.parametrize(
    ("usage_type", "product", "model", "unit"),
    [
        ("USE1-NovaPro-input-tokens", "", "amazon.nova-pro-v1:0", "input_tokens"),
        ("EUW2-NovaLite-output-tokens-batch", "", "amazon.nova-lite-v1:0", "output_tokens"),
        (
            "USE1-openai.gpt-oss-20b-mantle-input-tokens-standard",
            "",
            "openai.gpt-oss-20b",
            "input_tokens",
        ),
        ("USE1-Zeta9Ultra-cache-read-input-token-count", "", "Zeta9Ultra", "cached_input_tokens"),
        (
            "USE1-MP:USE1_InputTokenCount-Units",
            f"Claude Sonnet 4.5 {EDITION}",
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "input_tokens",
        ),
        (
            "USE1-MP:USE1_CacheWrite1hInputTokenCount_Global-Units",
            f"Claude Opus 4.8 {EDITION}",
            "global.anthropic.claude-opus-4-8-v1:0",
            "cache_write_1h_tokens",
        ),
        (
            "USE1-MP:USE1_OutputTokenCount-Units",
            f"Command R {EDITION}",
            "Command R",
            "output_tokens",
        ),
        ("USE1-MP:USE1_OutputTokenCount-Units", "", None, "output_tokens"),
        ("USE1-BoxUsage:t3.micro", "", None, None),
        ("", "", None, None),
    ],
)
def test_usage_types_of_bedrock_name_model_and_unit(
    usage_type: str, product: str, model: str | None, unit: str | None
) -> None:
    assert read_aws(usage_type, product) == Meter(model, unit)


@pytest.mark.parametrize(
    ("name", "model", "unit"),
    [
        ("gpt 4.1 cchd Inp glbl Tokens", "gpt-4.1", "cached_input_tokens"),
        ("5.4 opt Dz 1M Tokens", "gpt-5.4", "output_tokens"),
        ("gpt 4.1 mini Inp regnl Tokens", "gpt-4.1-mini", "input_tokens"),
        ("Inp Tokens", None, "input_tokens"),
        ("Provisioned Managed Global Unit", None, None),
    ],
)
def test_meters_of_azure_name_model_and_unit(
    name: str, model: str | None, unit: str | None
) -> None:
    assert read_azure(name) == Meter(model, unit)


@pytest.mark.parametrize(
    ("sku", "model", "unit"),
    [
        ("Gemini 2.5 Flash GA Text Input - Predictions", "gemini-2.5-flash", "input_tokens"),
        ("Gemini 3 Flash Text Input Caching Storage", "gemini-3-flash", "cache_storage"),
        ("Generate content input token count Gemini 2.5 Flash", "gemini-2.5-flash", "input_tokens"),
        ("Claude Sonnet 4.5 Input Tokens", "claude-sonnet-4-5", "input_tokens"),
        ("Imagen 4 Output", None, "output_tokens"),
        ("Vertex AI: Training/Pipelines", None, None),
    ],
)
def test_skus_of_google_name_model_and_unit(sku: str, model: str | None, unit: str | None) -> None:
    assert read_google(sku) == Meter(model, unit)

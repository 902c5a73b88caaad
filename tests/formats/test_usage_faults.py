"""What no reader may accept, and how the error names it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.provider_usage import normalise
from tokenbudget.formats.usage_counts import MAX_LIST_ENTRIES


@pytest.mark.parametrize(
    ("usage", "detail"),
    [
        ({"prompt_tokens": -1}, "provider_usage.prompt_tokens is negative"),
        ({"prompt_tokens": 1.5}, "provider_usage.prompt_tokens is not a whole number"),
        ({"prompt_tokens": True}, "provider_usage.prompt_tokens is not a number"),
        ({"prompt_tokens": "12"}, "provider_usage.prompt_tokens is not a number"),
        ({"prompt_tokens": Decimal("NaN")}, "provider_usage.prompt_tokens is not finite"),
        (
            {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": -2}},
            "provider_usage.prompt_tokens_details.cached_tokens is negative",
        ),
        (
            {"prompt_tokens": 1, "prompt_tokens_details": 7},
            "provider_usage.prompt_tokens_details.cached_tokens does not lie in an object",
        ),
        ({"prompt_tokens": 1, "service_tier": 3}, "provider_usage.service_tier is not text"),
        (
            {"promptTokenCount": 1, "promptTokensDetails": "TEXT"},
            "provider_usage.promptTokensDetails is not a list",
        ),
        (
            {"promptTokenCount": 1, "promptTokensDetails": {"modality": "TEXT"}},
            "provider_usage.promptTokensDetails is not a list",
        ),
        (
            {"promptTokenCount": 1, "promptTokensDetails": [3]},
            "provider_usage.promptTokensDetails[0] is not an object",
        ),
        (
            {
                "promptTokenCount": 1,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": -5}],
            },
            "provider_usage.promptTokensDetails[0].tokenCount is negative",
        ),
        (
            {"promptTokenCount": 1, "promptTokensDetails": [{}] * (MAX_LIST_ENTRIES + 1)},
            "provider_usage.promptTokensDetails has more than 1000 entries",
        ),
    ],
)
def test_an_impossible_value_is_an_error_that_names_its_field(
    usage: dict[str, Any], detail: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        normalise("openai", usage)

    assert caught.value.detail == detail


@pytest.mark.parametrize("cost", [9_223_372_037, 1e300, 10**400])
def test_a_price_that_fits_no_ledger_is_an_error(cost: object) -> None:
    with pytest.raises(InvalidInput, match=r"provider_usage\.cost is out of range"):
        normalise("openrouter", {"prompt_tokens": 1, "cost": cost})


def test_a_whole_number_of_any_numeric_type_is_a_count() -> None:
    read = normalise("openai", {"prompt_tokens": 12.0, "completion_tokens": Decimal(3)})

    assert read.quantities == {"input_tokens": 12, "output_tokens": 3}


def test_an_unknown_shape_is_an_error_that_names_the_provider_and_the_keys() -> None:
    with pytest.raises(InvalidInput) as caught:
        normalise("acme", {"words": 12, "letters": 60})

    assert caught.value.detail == (
        "provider_usage of acme has no known shape; its keys: letters, words"
    )


def test_an_empty_object_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="has no known shape; its keys: none"):
        normalise("openai", {})


@pytest.mark.parametrize("key", ["prompt_tokens", "seconds", "pages_processed", "output_tokens"])
def test_an_object_whose_counts_are_all_null_is_an_error(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"provider_usage of openai holds no count; .* {key}"):
        normalise("openai", {key: None})


def test_the_error_shows_only_so_many_keys() -> None:
    usage = {f"key-{number:03}": number for number in range(500)}

    with pytest.raises(InvalidInput) as caught:
        normalise("acme", usage)

    assert "key-019" in caught.value.detail
    assert "key-020" not in caught.value.detail


def test_a_toolkits_respelling_is_not_mistaken_for_bedrock() -> None:
    usage = {"inputTokens": 100, "cachedInputTokens": 90, "outputTokens": 5}

    with pytest.raises(InvalidInput, match="has no known shape"):
        normalise("openai", usage)


def test_anthropics_keys_beside_openais_are_read_in_openais_sense() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 90},
        "cache_read_input_tokens": 90,
        "output_tokens": 5,
    }

    read = normalise("openrouter", usage)

    assert read.quantities["input_tokens"] == 100
    assert read.quantities["cached_input_tokens"] == 90


def test_what_is_absent_stays_absent_and_zero_stays_zero() -> None:
    read = normalise("openai", {"prompt_tokens": 0, "completion_tokens": None})

    assert read.quantities == {"input_tokens": 0}

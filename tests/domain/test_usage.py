"""Impossible counts are found and named; absent and zero stay different."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.usage import Basis, UsageEvent, UsageFault, find_fault


@pytest.mark.parametrize(
    "quantities",
    [
        {},
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 10**8},
        {"input_tokens": 10, "cached_input_tokens": 6, "cache_write_5m_tokens": 4},
        {"input_tokens": 10, "input_audio_tokens": 10, "cached_input_tokens": 10},
        {
            "input_tokens": 10,
            "input_audio_tokens": 4,
            "cached_input_tokens": 5,
            "cached_audio_tokens": 4,
        },
        {"output_tokens": 5, "reasoning_tokens": 5, "output_audio_tokens": 5},
        {"cached_input_tokens": 0, "reasoning_tokens": 0},
        {"images": 3, "web_searches": 1, "requests": 1},
    ],
)
def test_counts_that_can_be_true_have_no_fault(quantities: dict[str, int]) -> None:
    assert find_fault(quantities) is None


@pytest.mark.parametrize(
    ("quantities", "code", "detail"),
    [
        ({"prompt_tokens": 1}, "unknown_field", "usage.prompt_tokens is not a known unit"),
        ({"input_tokens": -1}, "usage_negative", "input_tokens -1 is negative"),
        (
            {"output_tokens": 100_000_001},
            "usage_out_of_range",
            "output_tokens 100000001 exceeds 100000000",
        ),
        (
            {"input_tokens": 10, "cached_input_tokens": 20},
            "usage_inconsistent",
            "cached_input_tokens 20 exceeds input_tokens 10",
        ),
        (
            {"input_tokens": 10, "cached_input_tokens": 6, "cache_write_1h_tokens": 5},
            "usage_inconsistent",
            "cached_input_tokens + cache_write_1h_tokens 11 exceeds input_tokens 10",
        ),
        (
            {"cached_input_tokens": 1},
            "usage_inconsistent",
            "cached_input_tokens is part of input_tokens, which is absent",
        ),
        (
            {"input_tokens": 9, "input_audio_tokens": 5, "input_image_tokens": 5},
            "usage_inconsistent",
            "input_audio_tokens + input_image_tokens 10 exceeds input_tokens 9",
        ),
        (
            {
                "input_tokens": 9,
                "input_audio_tokens": 2,
                "cached_input_tokens": 9,
                "cached_audio_tokens": 3,
            },
            "usage_inconsistent",
            "cached_audio_tokens 3 exceeds input_audio_tokens 2",
        ),
        (
            {
                "input_tokens": 9,
                "input_audio_tokens": 4,
                "input_image_tokens": 4,
                "cached_input_tokens": 5,
                "cached_audio_tokens": 3,
                "cached_image_tokens": 3,
            },
            "usage_inconsistent",
            "cached_audio_tokens + cached_image_tokens 6 exceeds cached_input_tokens 5",
        ),
        (
            {"output_tokens": 5, "reasoning_tokens": 6},
            "usage_inconsistent",
            "reasoning_tokens 6 exceeds output_tokens 5",
        ),
        (
            {"output_tokens": 5, "output_audio_tokens": 4, "output_image_tokens": 2},
            "usage_inconsistent",
            "output_audio_tokens + output_image_tokens 6 exceeds output_tokens 5",
        ),
    ],
)
def test_an_impossible_count_is_named_with_its_rule(
    quantities: dict[str, int], code: str, detail: str
) -> None:
    assert find_fault(quantities) == UsageFault(code, detail)


def test_an_event_without_counts_is_unknown_and_not_zero() -> None:
    event = UsageEvent(
        source="checkout-api",
        event_ref="e1",
        content_hash=1,
        occurred_at=datetime(2026, 11, 20, 12, tzinfo=UTC),
        provider="openai",
        model="gpt-5.2",
        quantities=None,
    )

    assert event.quantities is None
    assert event.basis is Basis.RATED
    assert event.tags == {}

"""Pages of OpenAI's usage API: ten endpoints, each with counts of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import EmptyPeriod, UsageLine
from tokenbudget.formats.bills.openai_usage import (
    COMPLETIONS,
    ENDPOINT_BY_NAME,
    ENDPOINTS,
    read_page,
    reader,
)
from tokenbudget.formats.bills.pages import load_pages

FIRST_OF_SEPTEMBER = 1_788_220_800
DAY_SECONDS = 86_400
DAY_ONE = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))


def write_page(directory: Path, *results: object, **overrides: Any) -> Path:
    bucket = {
        "object": "bucket",
        "start_time": FIRST_OF_SEPTEMBER,
        "end_time": FIRST_OF_SEPTEMBER + DAY_SECONDS,
        "results": list(results),
    }
    path = directory / "usage.json"
    path.write_text(json.dumps({"object": "page", "data": [{**bucket, **overrides}]}))
    return path


def read_one(directory: Path, name: str, **result: Any) -> UsageLine:
    [line] = reader(ENDPOINT_BY_NAME[name])(write_page(directory, result))
    assert isinstance(line, UsageLine)
    return line


def sample_lines(*names: str) -> list[UsageLine]:
    read = reader(COMPLETIONS)
    entries = [entry for name in names for entry in read(BILLING / name)]
    return [entry for entry in entries if isinstance(entry, UsageLine)]


def test_the_two_sample_pages_sum_to_their_published_totals() -> None:
    lines = sample_lines(
        "openai-usage-completions.page1.json", "openai-usage-completions.page2.json"
    )

    sums = {
        unit: sum(line.quantities[unit] for line in lines)
        for unit in ("input_tokens", "cached_input_tokens", "output_tokens", "cache_write_tokens")
    }
    assert sums == {
        "input_tokens": 11_967_311,
        "cached_input_tokens": 3_577_777,
        "output_tokens": 1_494_220,
        "cache_write_tokens": 1_200,
    }
    assert sum(line.requests or 0 for line in lines) == 6_059
    assert [line.service_tier for line in lines] == ["standard"] * 2 + [
        "batch",
        "standard",
        "standard",
        "priority",
    ]


def test_an_empty_bucket_is_a_day_without_usage() -> None:
    entries = list(reader(COMPLETIONS)(BILLING / "openai-usage-completions.page2.json"))

    third = datetime(2026, 9, 3, tzinfo=UTC)
    assert entries[1:] == [EmptyPeriod("", Period(third, third + timedelta(days=1)))]


@pytest.mark.parametrize(
    ("name", "quantities", "requests"),
    [
        ("embeddings", {"input_tokens": 4_000_000}, 120),
        ("images", {"images": 14}, 12),
        ("audio_transcriptions", {"audio_seconds": 5_410}, 33),
        # The requests that searched are completions, which are counted there.
        ("web_search_calls", {"web_searches": 40}, None),
    ],
)
def test_the_other_samples_have_one_line_each(
    name: str, quantities: dict[str, int], requests: int | None
) -> None:
    [line] = reader(ENDPOINT_BY_NAME[name])(BILLING / f"openai-usage-{name}.json")

    assert isinstance(line, UsageLine)
    assert (line.quantities, line.requests) == (quantities, requests)


@pytest.mark.parametrize(
    ("name", "counts", "quantities"),
    [
        ("moderations", {"input_tokens": 7, "num_model_requests": 2}, {"input_tokens": 7}),
        ("audio_speeches", {"characters": 90}, {"input_characters": 90}),
        ("vector_stores", {"usage_bytes": 2**40}, {"usage_bytes": 2**40}),
        ("code_interpreter_sessions", {"num_sessions": 3}, {"code_executions": 3}),
        ("file_search_calls", {"num_requests": 4}, {"file_searches": 4}),
    ],
)
def test_every_further_endpoint_has_its_count(
    tmp_path: Path, name: str, counts: dict[str, int], quantities: dict[str, int]
) -> None:
    assert read_one(tmp_path, name, **counts).quantities == quantities


def test_modalities_hold_what_of_them_was_cached(tmp_path: Path) -> None:
    line = read_one(
        tmp_path,
        "completions",
        input_tokens=100,
        output_tokens=5,
        input_audio_tokens=20,
        input_cached_audio_tokens=10,
        input_image_tokens=None,
    )

    assert line.quantities == {
        "input_tokens": 100,
        "output_tokens": 5,
        "cached_audio_tokens": 10,
        "input_audio_tokens": 30,
    }


def test_a_line_keeps_the_names_a_page_was_grouped_by(tmp_path: Path) -> None:
    line = read_one(
        tmp_path,
        "images",
        object="organization.usage.images.result",
        images=2,
        num_model_requests=1,
        organization_id="org-1",
        project_id="proj",
        api_key_id="key",
        user_id="user",
        model="gpt-image-1",
        size="1024x1024",
    )

    assert line == UsageLine(
        row_number=1,
        provider="openai",
        account="org-1",
        period=DAY_ONE,
        quantities={"images": 2},
        requests=1,
        project="proj",
        api_key="key",
        model="gpt-image-1",
        tags={"x_user": "user", "x_size": "1024x1024"},
    )


def test_a_page_that_was_fetched_reads_like_one_from_a_file() -> None:
    path = BILLING / "openai-usage-completions.page1.json"
    [page] = load_pages(path, "usage")

    assert list(read_page(page, path, COMPLETIONS)) == list(reader(COMPLETIONS)(path))


def test_no_two_endpoints_share_a_source() -> None:
    assert len({endpoint.source for endpoint in ENDPOINTS}) == len(ENDPOINTS) == 10


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        ({}, "row 1, column input_tokens: must not be null"),
        ({"input_tokens": 1.5}, "row 1, column input_tokens: Decimal.*is not a count"),
        ({"input_tokens": -1}, "row 1, column input_tokens: -1 is not a count"),
        ({"input_tokens": 2**63}, "row 1, column input_tokens: 9223372036854775808 is not a count"),
        (
            {"input_tokens": 9, "input_cached_tokens": 6, "input_cache_write_tokens": 4},
            "column input_cached_tokens: cached and written 10 exceed the input_tokens",
        ),
        (
            {"object": "organization.usage.embeddings.result", "input_tokens": 1},
            "column object: 'organization.usage.embeddings.result' is no usage of completions",
        ),
    ],
)
def test_a_wrong_result_is_refused_naming_the_place_and_the_rule(
    tmp_path: Path, result: dict[str, Any], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"usage\.json: .*{rule}"):
        list(reader(COMPLETIONS)(write_page(tmp_path, result)))

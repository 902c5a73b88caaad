"""Every unit and every selector a price file can name is rated, one by one and as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import UNITS
from tokenbudget.formats.price_book import build_price_list
from tokenbudget.formats.price_rates import RATE_KEYS
from tokenbudget.frames.rating import rate_frame

HEAD = 'schema = 1\nprovider = "acme"\n[model."m"]\nprice = [\n'
FRIDAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
INPUT = {"input_tokens": 1_000_000}
OUTPUT = {"output_tokens": 1_000_000}

# What a usage costs by a row that rates seven dollars for each published quantity.
EVERY_UNIT: list[tuple[str, dict[str, int], int]] = [
    ("input", INPUT, 7_000_000_000),
    ("input = 1, cached", INPUT | {"cached_input_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, write", INPUT | {"cache_write_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, write_5m", INPUT | {"cache_write_5m_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, write_1h", INPUT | {"cache_write_1h_tokens": 1_000_000}, 7_000_000_000),
    ("output", OUTPUT, 7_000_000_000),
    ("output = 1, reasoning", OUTPUT | {"reasoning_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, audio_in", INPUT | {"input_audio_tokens": 1_000_000}, 7_000_000_000),
    (
        "input = 1, audio_cached",
        INPUT
        | {"input_audio_tokens": 1_000_000}
        | {"cached_input_tokens": 1_000_000, "cached_audio_tokens": 1_000_000},
        7_000_000_000,
    ),
    ("output = 1, audio_out", OUTPUT | {"output_audio_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, image_in", INPUT | {"input_image_tokens": 1_000_000}, 7_000_000_000),
    (
        "input = 1, image_cached",
        INPUT
        | {"input_image_tokens": 1_000_000}
        | {"cached_input_tokens": 1_000_000, "cached_image_tokens": 1_000_000},
        7_000_000_000,
    ),
    ("output = 1, image_out", OUTPUT | {"output_image_tokens": 1_000_000}, 7_000_000_000),
    ("input = 1, video_in", INPUT | {"input_video_tokens": 1_000_000}, 7_000_000_000),
    ("output = 1, video_out", OUTPUT | {"output_video_tokens": 1_000_000}, 7_000_000_000),
    ("chars_in", {"input_characters": 1_000}, 7_000_000),
    ("web_search", {"web_searches": 3}, 21_000_000),
    ("file_search", {"file_searches": 3}, 21_000_000),
    ("code_exec", {"code_executions": 3}, 21_000_000),
    ("request", {"requests": 3}, 21_000_000),
    ("rerank", {"reranks": 3}, 21_000_000),
    ("page", {"pages": 3}, 21_000_000),
    ("image", {"images": 3}, 21_000_000_000),
    ("audio_second", {"audio_seconds": 3}, 21_000_000_000),
    # 7 / 3,600 of a dollar is 1,944,444.4 nanos.
    ("audio_hour", {"audio_seconds": 1}, 1_944_444),
    ("gpu_second", {"gpu_seconds": 3}, 21_000_000_000),
    ("gpu_hour", {"gpu_seconds": 1_800}, 3_500_000_000),
]


def book(*rows: str, after: str = "") -> PriceList:
    """Give the price list of one file with these rows."""
    return build_price_list({"acme.toml": HEAD + ",\n".join(rows) + "\n]\n" + after})


def list_nanos(price_list: PriceList, usage: dict[str, int], **facts: Any) -> int | None:
    """Give the list cost of a usage of the model ``m``, which both ways of rating must agree on."""
    fields = {"provider": "acme", "model": "m", "occurred_at": FRIDAY, **facts}
    charge = rate(usage, RatingFacts(**fields), price_list)
    frame = pl.DataFrame([{**fields, **usage}], infer_schema_length=None).with_columns(
        pl.col("occurred_at").cast(pl.Datetime("us", "UTC"))
    )
    assert rate_frame(frame, price_list)["list_nanos"].to_list() == [charge.list_nanos]
    return charge.list_nanos


def test_every_rate_key_and_every_unit_is_below() -> None:
    keys = {row.rpartition(" ")[2] for row, _, _ in EVERY_UNIT}
    units = {unit for _, usage, _ in EVERY_UNIT for unit in usage}

    assert keys == set(RATE_KEYS)
    assert units == set(UNITS)


@pytest.mark.parametrize(("row", "usage", "nanos"), EVERY_UNIT)
def test_a_unit_is_charged_at_its_published_rate(
    row: str, usage: dict[str, int], nanos: int
) -> None:
    assert list_nanos(book(f"{{ {row} = 7 }}"), usage) == nanos


def test_a_row_may_publish_for_another_quantity() -> None:
    price_list = book("{ chars_in = 0.015, unit.chars_in = 1000 }")

    assert list_nanos(price_list, {"input_characters": 2_000}) == 30_000_000


def test_the_multiplier_of_a_region_is_for_tokens_of_every_tier_and_size() -> None:
    price_list = book(
        "{ input = 1, web_search = 10 }",
        "{ above = 1000000, input = 2, web_search = 10 }",
        '{ tier = "batch", input = 0.5, web_search = 10 }',
        '{ region = "eu", times = 1.1 }',
    )
    searched = INPUT | {"web_searches": 1}

    assert list_nanos(price_list, searched) == 1_010_000_000
    assert list_nanos(price_list, searched, region="eu") == 1_110_000_000
    assert list_nanos(price_list, searched, region="eu", service_tier="batch") == 560_000_000
    long = {"input_tokens": 2_000_000}
    assert list_nanos(price_list, long, region="eu") == 4_400_000_000


@pytest.mark.parametrize(
    ("instant", "nanos"),
    [
        # Friday 23:59 and Saturday 00:00 in Shanghai, where the week ends at 16:00 UTC.
        (datetime(2026, 11, 20, 15, 59, tzinfo=UTC), 2_000_000_000),
        (datetime(2026, 11, 20, 16, 0, tzinfo=UTC), 1_000_000_000),
        # Monday 22:59 and 23:00.
        (datetime(2026, 11, 23, 14, 59, tzinfo=UTC), 1_000_000_000),
        (datetime(2026, 11, 23, 15, 0, tzinfo=UTC), 2_000_000_000),
        # Before the hours were introduced.
        (datetime(2026, 10, 30, 15, 30, tzinfo=UTC), 1_000_000_000),
    ],
)
def test_hours_weekdays_zone_and_date_hold_together(instant: datetime, nanos: int) -> None:
    price_list = book(
        "{ input = 1 }",
        '{ from = 2026-11-01, hours = ["23:00-00:00"], days = "mon-fri", '
        'tz = "Asia/Shanghai", input = 2 }',
    )

    assert list_nanos(price_list, INPUT, occurred_at=instant) == nanos


def test_a_moving_name_costs_what_it_meant_at_the_time() -> None:
    price_list = book(
        "{ input = 1 }",
        after=(
            '[model."n"]\nprice = [{ input = 2 }]\n'
            '[[alias]]\nname = "latest"\n'
            'to = [{ model = "m" }, { from = 2026-11-20T12:00:00Z, model = "n" }]\n'
        ),
    )
    before = datetime(2026, 11, 20, 11, 59, 59, 999_999, tzinfo=UTC)

    assert list_nanos(price_list, INPUT, model="latest", occurred_at=before) == 1_000_000_000
    assert list_nanos(price_list, INPUT, model="latest") == 2_000_000_000

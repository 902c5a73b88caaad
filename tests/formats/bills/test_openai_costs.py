"""Pages of OpenAI's costs API, as their samples and their oddities have them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, EmptyPeriod, openai_costs
from tokenbudget.formats.bills.openai_costs import parse_line_item, usage_type_of
from tokenbudget.formats.bills.pages import load_pages

FIRST_OF_SEPTEMBER = 1_788_220_800
DAY_SECONDS = 86_400


def day(number: int) -> Period:
    start = datetime(2026, 9, number, tzinfo=UTC)
    return Period(start, start + timedelta(days=1))


def make_result(**overrides: Any) -> dict[str, Any]:
    result = {
        "object": "organization.costs.result",
        "amount": {"value": "0.50", "currency": "usd"},
        "line_item": "gpt-4.1-2025-04-14, input",
        "project_id": "proj_search",
        "quantity": 250000,
        "quantity_unit": "tokens",
    }
    return {**result, **overrides}


def make_bucket(*results: object, **overrides: Any) -> dict[str, Any]:
    bucket = {
        "object": "bucket",
        "start_time": FIRST_OF_SEPTEMBER,
        "end_time": FIRST_OF_SEPTEMBER + DAY_SECONDS,
        "results": list(results),
    }
    return {**bucket, **overrides}


def write_page(directory: Path, *buckets: object, **overrides: Any) -> Path:
    path = directory / "costs.json"
    path.write_text(json.dumps({"object": "page", "data": list(buckets), **overrides}))
    return path


def read_lines(path: Path) -> list[BillLine]:
    return [entry for entry in openai_costs.read(path) if isinstance(entry, BillLine)]


def read_one(directory: Path, **overrides: Any) -> BillLine:
    [line] = read_lines(write_page(directory, make_bucket(make_result(**overrides))))
    return line


def total(lines: list[BillLine]) -> Decimal:
    return sum((line.billed for line in lines), Decimal(0))


def test_the_two_sample_pages_sum_to_their_published_totals() -> None:
    first = read_lines(BILLING / "openai-costs.page1.json")
    second = read_lines(BILLING / "openai-costs.page2.json")

    by_day = Counter[int]()
    for line in first + second:
        by_day[line.period.start.day] += line.billed  # type: ignore[assignment]
    assert by_day == {1: Decimal("9.40"), 2: Decimal("6.5693225"), 4: Decimal("-2.1941105")}
    assert total(first + second) == Decimal("13.7752120")


def test_the_restated_day_differs_by_its_first_row() -> None:
    lines = read_lines(BILLING / "openai-costs.restated-day2.json")

    assert total(lines) == Decimal("6.5693245")
    assert {line.period for line in lines} == {day(2)}


def test_amounts_are_exact_as_number_and_as_text(tmp_path: Path) -> None:
    page = write_page(tmp_path, make_bucket(make_result(amount={"value": 0, "currency": "usd"})))
    digits = "0.123456789012345678901234567891"
    page.write_text(page.read_text().replace('"value": 0', f'"value": {digits}'))

    as_number = read_lines(page)[0]
    as_text = read_one(tmp_path, amount={"value": digits, "currency": "usd"})

    assert as_number.billed == as_text.billed == Decimal(digits)
    assert as_number.currency == "USD"


def test_a_line_keeps_what_the_page_says(tmp_path: Path) -> None:
    line = read_one(
        tmp_path,
        line_item="gpt-4.1-2025-04-14 (batch), cached input",
        api_key_id="key_support",
        organization_id="org-1",
        project_name="Support",
        something_new={"nested": True},
    )

    assert line == BillLine(
        row_number=1,
        provider="openai",
        account="org-1",
        period=day(1),
        category=ChargeCategory.USAGE,
        billed=Decimal("0.50"),
        currency="USD",
        project="proj_search",
        api_key="key_support",
        model="gpt-4.1-2025-04-14",
        usage_type="cached_input_tokens",
        description="gpt-4.1-2025-04-14 (batch), cached input",
        quantity=Decimal("250000"),
        unit="cached input tokens",
        tags={"x_project_name": "Support"},
    )


def test_a_result_of_nothing_but_an_amount_is_usage_of_no_known_model(tmp_path: Path) -> None:
    bare = {"amount": {"value": 1, "currency": "usd"}, "line_item": None, "quantity": None}

    [line] = read_lines(write_page(tmp_path, make_bucket(bare)))

    assert (line.model, line.description, line.quantity, line.unit) == (None, None, None, None)
    assert (line.category, line.account, line.project) == (ChargeCategory.USAGE, "", None)


@pytest.mark.parametrize(
    ("line_item", "category"),
    [
        ("Promotional credit adjustment", ChargeCategory.CREDIT),
        (None, ChargeCategory.CREDIT),
        ("gpt-4.1-2025-04-14, output", ChargeCategory.USAGE),
    ],
)
def test_money_given_back_is_a_credit_unless_it_names_a_model(
    tmp_path: Path, line_item: str | None, category: ChargeCategory
) -> None:
    line = read_one(tmp_path, line_item=line_item, amount={"value": "-2.5", "currency": "usd"})

    assert line.category is category


@pytest.mark.parametrize(
    ("line_item", "model", "unit"),
    [
        ("gpt-4.1-2025-04-14, input", "gpt-4.1-2025-04-14", "input"),
        ("gpt-4.1-2025-04-14 (batch), input", "gpt-4.1-2025-04-14", "input"),
        ("gpt-5-nano, input_tokens", "gpt-5-nano", "input_tokens"),
        ("gpt-image-1, image generation", "gpt-image-1", "image generation"),
        ("o3, output", "o3", "output"),
        ("whisper-1", "whisper-1", None),
        ("web search tool calls", None, None),
        ("Text tokens", None, None),
        ("input_tokens", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_a_line_item_is_read_for_a_model_and_a_unit_as_far_as_that_goes(
    line_item: str | None, model: str | None, unit: str | None
) -> None:
    assert parse_line_item(line_item) == (model, unit)


@pytest.mark.parametrize(
    ("line_item", "quantity_unit", "usage_type"),
    [
        ("gpt-4.1-2025-04-14 (batch), cached input", "tokens", "cached_input_tokens"),
        ("gpt-5-nano, output_tokens", "tokens", "output_tokens"),
        ("gpt-5-nano, something new", "tokens", "something new"),
        ("web search tool calls", None, "web_searches"),
        ("input_tokens", "tokens", "input_tokens"),
        ("whisper-1", "duration_seconds", "audio_seconds"),
        ("tts-1", "characters", "input_characters"),
        ("Code interpreter", "duration_seconds", None),
        ("Promotional credit adjustment", None, None),
        (None, None, None),
    ],
)
def test_a_line_item_and_its_quantity_tell_the_unit_as_far_as_that_goes(
    line_item: str | None, quantity_unit: str | None, usage_type: str | None
) -> None:
    assert usage_type_of(line_item, quantity_unit) == usage_type


def test_a_page_that_was_fetched_reads_like_one_from_a_file() -> None:
    path = BILLING / "openai-costs.page1.json"
    [page] = load_pages(path, "costs")

    assert list(openai_costs.read_page(page, path)) == list(openai_costs.read(path))


def test_an_empty_bucket_is_marked_for_every_account_of_the_page(tmp_path: Path) -> None:
    empty = make_bucket(
        start_time=FIRST_OF_SEPTEMBER + DAY_SECONDS, end_time=FIRST_OF_SEPTEMBER + 2 * DAY_SECONDS
    )
    filled = make_bucket(make_result(organization_id="org-1"), make_result(organization_id="org-2"))

    entries = list(openai_costs.read(write_page(tmp_path, filled, empty)))

    assert entries[2:] == [EmptyPeriod("org-1", day(2)), EmptyPeriod("org-2", day(2))]


def test_a_page_of_empty_buckets_marks_the_account_nobody_named(tmp_path: Path) -> None:
    entries = list(openai_costs.read(write_page(tmp_path, make_bucket())))

    assert entries == [EmptyPeriod("", day(1))]


def test_old_pages_spell_results_in_the_singular(tmp_path: Path) -> None:
    bucket = make_bucket(make_result())
    bucket["result"] = bucket.pop("results")

    assert len(read_lines(write_page(tmp_path, bucket))) == 1


@pytest.mark.parametrize(
    ("bucket", "rule"),
    [
        ("no object", "bucket 1, column data: a bucket must be an object"),
        (make_bucket(start_time="2026-09-01"), "bucket 1, column start_time: '2026-09-01' is not"),
        (make_bucket(start_time=True), "bucket 1, column start_time: True is not a time"),
        (make_bucket(end_time=10**15), "bucket 1, column end_time: 10+ is not a time"),
        (make_bucket(end_time=0), "bucket 1, column end_time: the period must end after"),
        (make_bucket(results=None), "bucket 1, column results: must be a list"),
        (make_bucket(make_result(), "no object"), "row 2, column results: a result must be an obj"),
        (make_bucket(make_result(amount=None)), "row 1, column amount: must be an object with val"),
        (
            make_bucket(make_result(amount={"currency": "usd"})),
            "row 1, column amount.value: None is not a decimal number",
        ),
        (
            make_bucket(make_result(amount={"value": 1, "currency": "dollars"})),
            "row 1, column amount.currency: 'DOLLARS' is not a currency",
        ),
        (make_bucket(make_result(quantity="many")), "row 1, column quantity: 'many' is not a dec"),
        (make_bucket(make_result(line_item=7)), "row 1, column line_item: 7 is not a text"),
    ],
)
def test_a_wrong_page_is_refused_naming_the_place_and_the_rule(
    tmp_path: Path, bucket: object, rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"costs\.json: {rule}"):
        list(openai_costs.read(write_page(tmp_path, bucket)))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("start_time,amount_value", "is not JSON"),
        ('{"data": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be one JSON object"),
        ('{"object": "page"}', "must be a page with a list named data"),
    ],
)
def test_a_file_that_is_no_page_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)

    with pytest.raises(BadFile, match=rule):
        list(openai_costs.read(path))


def test_a_page_beyond_all_size_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.json"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)

    with pytest.raises(BadFile, match="is larger than the 67108864 bytes"):
        list(openai_costs.read(path))

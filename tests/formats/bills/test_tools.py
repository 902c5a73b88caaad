"""Bills and meters of tools and smaller providers: Cursor, GitHub, DeepSeek, LiteLLM's days."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.formats.bills.samples import BILLING
from tests.formats.bills.table_files import write_rows
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills import BillLine, UsageLine, cursor, deepseek, github, litellm_daily
from tokenbudget.formats.bills.lines import BillEntry
from tokenbudget.formats.bills.meters import METER_SOURCES

CURSOR = BILLING / "cursor-usage-events.csv"
CREDITS = BILLING / "github-ai-usage.csv"
PREMIUM = BILLING / "github-copilot-premium-requests.csv"
EVENT = {
    "Date": "2026-09-01T10:00:00.000Z",
    "Kind": "On-Demand",
    "Model": "gpt-5",
    "Input (w/ Cache Write)": "0",
    "Input (w/o Cache Write)": "10",
    "Cache Read": "5",
    "Output Tokens": "2",
    "Total Tokens": "17",
    "Cost": "$0.12",
}
REPORT = {
    "date": "2026-09-01",
    "username": "ana",
    "product": "copilot",
    "sku": "sku",
    "quantity": "1",
    "unit_type": "requests",
    "gross_amount": "0.04",
    "discount_amount": "0",
    "net_amount": "0.04",
}
SEEN = {
    "user_id": "u-1",
    "start_time_iso": "2026-09-01T00:00:00Z",
    "end_time_iso": "2026-09-02T00:00:00Z",
    "model": "deepseek-chat",
    "api_key_name": "prod",
    "api_key": "sk-***1",
}
COST = {**SEEN, "wallet_type": "topped_up", "cost": "0.125", "currency": "cny"}
AMOUNT = {**SEEN, "type": "output_tokens", "price": "0.42", "amount": "9"}
DAILY = {
    "date": "2026-09-01",
    "user_id": "u-1",
    "api_key": "hash",
    "model": "gpt-4.1",
    "custom_llm_provider": "openai",
    "prompt_tokens": "100",
    "completion_tokens": "10",
    "cache_read_input_tokens": "30",
    "cache_creation_input_tokens": "0",
    "spend": "0.5",
    "api_requests": "4",
    "failed_requests": "1",
}


def billed(entries: list[BillEntry]) -> Decimal:
    return sum((each.billed for each in entries if isinstance(each, BillLine)), Decimal(0))


def usage_of(entries: list[BillEntry]) -> list[UsageLine]:
    return [entry for entry in entries if isinstance(entry, UsageLine)]


def test_cursor_bills_on_demand_usage_alone() -> None:
    entries = list(cursor.read(CURSOR))

    assert billed(entries) == Decimal("0.13")
    lines = [entry for entry in entries if isinstance(entry, BillLine)]
    assert [line.description for line in lines] == [
        "Included",
        "On-Demand",
        "Errored, No Charge",
        "On-Demand",
    ]
    assert lines[0].api_key == "dev1@example.com"
    assert lines[2].tags["x_cloud_agent"] == "bc-1"


def test_cursor_columns_that_stand_apart_all_count() -> None:
    first = usage_of(list(cursor.read(CURSOR)))[0]

    assert first.quantities == {
        "input_tokens": 7_200,
        "cached_input_tokens": 5_000,
        "cache_write_tokens": 1_200,
        "output_tokens": 300,
    }
    assert (first.period.start, first.requests) == (datetime(2026, 9, 1, tzinfo=UTC), 1)


def test_cursor_columns_that_overlap_count_once(tmp_path: Path) -> None:
    row = {**EVENT, "Input (w/ Cache Write)": "12", "Total Tokens": "19"}

    [usage] = usage_of(list(cursor.read(write_rows(tmp_path, row))))

    assert usage.quantities == {
        "input_tokens": 17,
        "cached_input_tokens": 5,
        "cache_write_tokens": 2,
        "output_tokens": 2,
    }


@pytest.mark.parametrize("cost", ["Included", "free", "-", ""])
def test_a_word_for_a_cost_bills_nothing(tmp_path: Path, cost: str) -> None:
    assert billed(list(cursor.read(write_rows(tmp_path, {**EVENT, "Cost": cost})))) == 0


def test_cursor_reports_that_count_requests_have_no_money(tmp_path: Path) -> None:
    row = {name: cell for name, cell in EVENT.items() if name != "Cost"}

    entries = list(cursor.read(write_rows(tmp_path, {**row, "Requests": "2"})))

    assert [type(entry) for entry in entries] == [UsageLine]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**EVENT, "Total Tokens": "18"}, "column Total Tokens: 18 is no sum of the token columns"),
        (
            {**EVENT, "Input (w/ Cache Write)": "4", "Total Tokens": "11"},
            "column Total Tokens: 11 is no sum",
        ),
        ({**EVENT, "Cost": "twelve"}, "column Cost: 'twelve' is neither an amount nor Included"),
        ({**EVENT, "Cost": "1.2.3"}, "column Cost: '1.2.3' is not a decimal number"),
        ({**EVENT, "Date": "yesterday"}, "column Date: 'yesterday' is not a UTC time"),
    ],
)
def test_a_wrong_event_of_cursor_is_refused(tmp_path: Path, row: dict[str, str], rule: str) -> None:
    with pytest.raises(BadFile, match=rf"table\.csv: row 1, {rule}"):
        list(cursor.read(write_rows(tmp_path, row)))


def test_github_bills_the_net_amount() -> None:
    entries = list(github.read(CREDITS))

    assert billed(entries) == Decimal("0.035")
    lines = [entry for entry in entries if isinstance(entry, BillLine)]
    assert sum((line.listed or Decimal(0) for line in lines), Decimal(0)) == Decimal("0.14")
    assert [line.tags.get("x_discount") for line in lines] == ["0.105 USD", None, None]
    assert (lines[0].project, lines[0].api_key) == ("org-alpha", "alice")
    assert lines[0].tags["x_cost_center"] == "CC-Alpha"


def test_github_tokens_stand_apart_and_may_be_unknown() -> None:
    first, second = usage_of(list(github.read(CREDITS)))

    assert first.quantities == {
        "input_tokens": 6_250,
        "cached_input_tokens": 5_000,
        "cache_write_tokens": 250,
        "output_tokens": 100,
    }
    assert second.quantities["input_tokens"] == 1_100


def test_premium_requests_are_weighted_and_no_count_of_requests() -> None:
    entries = list(github.read(PREMIUM))

    assert billed(entries) == Decimal("0.4")
    assert usage_of(entries) == []
    assert [each.quantity for each in entries if isinstance(each, BillLine)] == [
        Decimal("3.6"),
        Decimal("10"),
    ]


def test_the_two_reports_of_github_are_told_apart() -> None:
    credits_head, premium_head = CREDITS.read_bytes(), PREMIUM.read_bytes()

    assert github.recognises_credits(credits_head)
    assert not github.recognises_premium_requests(credits_head)
    assert github.recognises_premium_requests(premium_head)
    assert not github.recognises_credits(premium_head)


@pytest.mark.parametrize("column", ["gross_amount", "discount_amount", "net_amount", "quantity"])
def test_a_wrong_number_of_github_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(BadFile, match=f"row 1, column {column}: 'x' is not a decimal number"):
        list(github.read(write_rows(tmp_path, {**REPORT, column: "x"})))


def test_deepseek_costs_are_lines_of_a_wallet(tmp_path: Path) -> None:
    path = write_rows(tmp_path, COST)

    [line] = deepseek.read_costs(path)

    assert deepseek.recognises_costs(path.read_bytes())
    assert isinstance(line, BillLine)
    assert (line.account, line.api_key, line.model) == ("u-1", "sk-***1", "deepseek-chat")
    assert (line.billed, line.currency) == (Decimal("0.125"), "CNY")
    assert line.tags == {"x_api_key_name": "prod", "x_wallet": "topped_up"}


def test_deepseek_usage_has_a_row_per_kind(tmp_path: Path) -> None:
    kinds = {
        "input_cache_hit_tokens": "30",
        "input_cache_miss_tokens": "70",
        "output_tokens": "9",
        "request_count": "2",
    }
    rows = [{**AMOUNT, "type": kind, "amount": amount} for kind, amount in kinds.items()]
    path = write_rows(tmp_path, *rows)

    lines = usage_of(list(deepseek.read_usage(path)))

    sums: Counter[str] = Counter()
    for line in lines:
        sums.update(line.quantities)
    assert deepseek.recognises_usage(path.read_bytes())
    assert sums == {"input_tokens": 100, "cached_input_tokens": 30, "output_tokens": 9}
    assert [line.requests for line in lines] == [None, None, None, 2]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**AMOUNT, "type": "guesses"}, "column type: 'guesses' is no kind of usage that is known"),
        ({**AMOUNT, "amount": ""}, "column amount: must not be null"),
        (
            {**AMOUNT, "end_time_iso": SEEN["start_time_iso"]},
            "column end_time_iso: the period must",
        ),
    ],
)
def test_wrong_usage_of_deepseek_is_refused(tmp_path: Path, row: dict[str, str], rule: str) -> None:
    with pytest.raises(BadFile, match=rf"table\.csv: row 1, {rule}"):
        list(deepseek.read_usage(write_rows(tmp_path, row)))


def test_a_wallet_without_a_currency_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="row 1, column currency: must not be null"):
        list(deepseek.read_costs(write_rows(tmp_path, {**COST, "currency": ""})))


def test_days_of_litellm_are_a_meter_and_never_a_bill(tmp_path: Path) -> None:
    [line] = litellm_daily.read(write_rows(tmp_path, DAILY))

    assert isinstance(line, UsageLine)
    assert (line.provider, line.api_key, line.requests) == ("openai", "hash", 4)
    assert line.quantities == {
        "input_tokens": 100,
        "cached_input_tokens": 30,
        "cache_write_tokens": 0,
        "output_tokens": 10,
    }
    assert line.tags == {
        "x_user": "u-1",
        "x_failed_requests": "1",
        "x_computed_cost": "0.5 USD",
    }
    assert litellm_daily.SOURCE in METER_SOURCES


def test_days_of_litellm_may_come_as_a_printed_json_array(tmp_path: Path) -> None:
    path = tmp_path / "daily.json"
    row = {**DAILY, "custom_llm_provider": None, "spend": 0.5, "prompt_tokens": 100}
    path.write_text(json.dumps([row], indent=2))

    [line] = litellm_daily.read(path)

    assert litellm_daily.recognises(path.read_bytes())
    assert not litellm_daily.recognises(b'[\n  {"date": "2026-09-01"}]')
    assert isinstance(line, UsageLine)
    assert line.provider == "unknown"


def test_days_by_tag_are_refused_since_requests_would_count_twice(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="a request with two tags counts twice; export"):
        list(litellm_daily.read(write_rows(tmp_path, {**DAILY, "tag": "env:prod"})))


def test_more_tokens_from_the_cache_than_in_the_prompt_are_refused(tmp_path: Path) -> None:
    row = {**DAILY, "cache_read_input_tokens": "101"}

    with pytest.raises(BadFile, match="column prompt_tokens: is less than its cached_input_tokens"):
        list(litellm_daily.read(write_rows(tmp_path, row)))

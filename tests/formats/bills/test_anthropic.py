"""Anthropic's reports of costs and usage, from its APIs: cents, and tokens apart from the cache."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, EmptyPeriod, UsageLine, claude_code
from tokenbudget.formats.bills import anthropic_costs as costs
from tokenbudget.formats.bills import anthropic_usage as usage
from tokenbudget.formats.bills.pages import load_pages

DAY_ONE = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))
COST_PAGES = [BILLING / f"anthropic-cost-report.page{number}.json" for number in (1, 2)]
USAGE_PAGES = [BILLING / f"anthropic-usage-messages.page{number}.json" for number in (1, 2)]
ANALYTICS = BILLING / "anthropic-analytics-cost_report.json"
CODE = BILLING / "anthropic-claude-code.json"


def write_page(directory: Path, *results: object, **page: Any) -> Path:
    bucket = {
        "starting_at": "2026-09-01T00:00:00Z",
        "ending_at": "2026-09-02T00:00:00Z",
        "results": list(results),
    }
    path = directory / "page.json"
    path.write_text(json.dumps({"data": [bucket], "has_more": False, **page}))
    return path


def make_cost(**overrides: Any) -> dict[str, Any]:
    return {"amount": "123.45", "currency": "USD", "cost_type": "tokens", **overrides}


def read_cost(directory: Path, **overrides: Any) -> BillLine:
    [line] = costs.read(write_page(directory, make_cost(**overrides)))
    assert isinstance(line, BillLine)
    return line


def read_usage(directory: Path, **result: Any) -> UsageLine:
    [line] = usage.read(write_page(directory, result))
    assert isinstance(line, UsageLine)
    return line


def write_code(directory: Path, *rows: object) -> Path:
    path = directory / "code.json"
    path.write_text(json.dumps({"data": list(rows)}))
    return path


def make_code(**overrides: Any) -> dict[str, Any]:
    model = {
        "model": "claude-sonnet-4-5",
        "tokens": {"input": 10, "output": 2, "cache_read": 5, "cache_creation": 3},
        "estimated_cost": {"amount": 1.5, "currency": "USD"},
    }
    row = {
        "date": "2026-09-01T00:00:00Z",
        "actor": {"api_key_name": "ci"},
        "model_breakdown": [model],
    }
    return {**row, **overrides}


def test_the_cost_samples_sum_to_their_published_totals() -> None:
    lines = [line for path in COST_PAGES for line in costs.read(path) if isinstance(line, BillLine)]

    by_day: dict[int, Decimal] = Counter()  # type: ignore[assignment]
    for line in lines:
        by_day[line.period.start.day] += line.billed
    assert by_day == {1: Decimal("17.4125"), 2: Decimal("5.5791007500"), 4: Decimal("-2.499282")}
    assert sum((line.billed for line in lines), Decimal(0)) == Decimal("20.49231875")
    assert [line.category for line in lines if line.billed < 0] == [ChargeCategory.CREDIT]


def test_amounts_are_cents_and_keep_every_digit(tmp_path: Path) -> None:
    digits = "0.123456789012345678901234567891"

    assert read_cost(tmp_path).billed == Decimal("1.2345")
    exact = Decimal("0.00123456789012345678901234567891")
    assert read_cost(tmp_path, amount=digits).billed == exact


def test_a_cost_line_keeps_what_the_page_says(tmp_path: Path) -> None:
    line = read_cost(
        tmp_path,
        model="claude-sonnet-4-5-20250929",
        token_type="cache_creation.ephemeral_1h_input_tokens",
        description="Claude Sonnet 4.5 Usage",
        workspace_id="wrkspc_1",
        service_tier="batch",
        context_window="0-200k",
        inference_geo="us",
    )

    assert line == BillLine(
        row_number=1,
        provider="anthropic",
        account="",
        period=DAY_ONE,
        category=ChargeCategory.USAGE,
        billed=Decimal("1.2345"),
        currency="USD",
        project="wrkspc_1",
        model="claude-sonnet-4-5-20250929",
        usage_type="cache_write_1h_tokens",
        description="Claude Sonnet 4.5 Usage",
        tags={
            "x_service_tier": "batch",
            "x_context_window": "0-200k",
            "x_region": "us",
            "x_cost_type": "tokens",
        },
    )


@pytest.mark.parametrize(
    ("cost_type", "usage_type"),
    [
        ("web_search", "web_searches"),
        ("code_execution", "code_executions"),
        ("session_usage", "session_usage"),
        ("tokens", None),
        (None, None),
    ],
)
def test_costs_of_no_tokens_are_told_by_their_kind(
    tmp_path: Path, cost_type: str | None, usage_type: str | None
) -> None:
    assert read_cost(tmp_path, cost_type=cost_type).usage_type == usage_type


def test_analytics_tell_the_list_price_too() -> None:
    line, empty = costs.read(ANALYTICS)

    assert isinstance(line, BillLine)
    assert (line.billed, line.listed) == (Decimal("18.934"), Decimal("21.04"))
    assert isinstance(empty, EmptyPeriod)


def test_analytics_that_leave_groups_out_are_refused(tmp_path: Path) -> None:
    page = write_page(tmp_path, *[make_cost()] * 100, data_refreshed_at="2026-09-03T00:00:00Z")

    with pytest.raises(BadFile, match="bucket 1 has 100 groups, and the API leaves further ones"):
        list(costs.read(page))


def test_a_cost_report_may_have_any_number_of_groups(tmp_path: Path) -> None:
    assert len(list(costs.read(write_page(tmp_path, *[make_cost()] * 101)))) == 101


def test_a_broken_bucket_of_analytics_is_refused_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text('{"data": [3], "data_refreshed_at": "2026-09-03T00:00:00Z"}')

    with pytest.raises(BadFile, match="bucket 1, column data: a bucket must be an object"):
        list(costs.read(path))


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"amount": None}, "row 1, column amount: None is not a decimal number"),
        ({"amount": "12,5"}, "row 1, column amount: '12,5' is not a decimal number"),
        ({"currency": "usd"}, "row 1, column currency: 'usd' is not a currency"),
        ({"list_amount": "x"}, "row 1, column list_amount: 'x' is not a decimal number"),
        ({"rbac_group_id": "g"}, "row 1, column rbac_group_id: groups overlap"),
    ],
)
def test_a_wrong_cost_is_refused_naming_the_place_and_the_rule(
    tmp_path: Path, overrides: dict[str, Any], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"page\.json: {rule}"):
        read_cost(tmp_path, **overrides)


def test_the_usage_samples_sum_to_their_published_totals() -> None:
    lines = [
        line for path in USAGE_PAGES for line in usage.read(path) if isinstance(line, UsageLine)
    ]

    sums: Counter[str] = Counter()
    for line in lines:
        sums.update(line.quantities)
    assert sums == {
        "input_tokens": 9_231_334,
        "output_tokens": 988_425,
        "cached_input_tokens": 4_201_000,
        "cache_write_5m_tokens": 350_000,
        "cache_write_1h_tokens": 20_000,
        "web_searches": 12,
    }
    assert {line.requests for line in lines} == {None}
    assert [line.api_key for line in lines[:2]] == ["apikey_01Research", None]


def test_a_usage_line_keeps_what_the_page_says(tmp_path: Path) -> None:
    line = read_usage(
        tmp_path,
        uncached_input_tokens=10,
        output_tokens=2,
        requests=4,
        workspace_id="wrkspc_1",
        api_key_id="key",
        account_id="user",
        model="claude-haiku-4-5",
        service_tier="priority",
        inference_geo="us",
        context_window="200k-1M",
    )

    assert line == UsageLine(
        row_number=1,
        provider="anthropic",
        account="",
        period=DAY_ONE,
        quantities={"input_tokens": 10, "output_tokens": 2},
        requests=4,
        project="wrkspc_1",
        api_key="key",
        model="claude-haiku-4-5",
        service_tier="priority",
        region="us",
        tags={"x_user": "user", "x_context_window": "200k-1M"},
    )


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        ({}, "row 1, column uncached_input_tokens: must not be null"),
        (
            {"uncached_input_tokens": 1, "cache_creation": 7},
            "row 1, column cache_creation: must be an object",
        ),
        (
            {"uncached_input_tokens": 1, "rbac_group_id": "g"},
            "row 1, column rbac_group_id: groups overlap",
        ),
    ],
)
def test_a_wrong_usage_is_refused_naming_the_place_and_the_rule(
    tmp_path: Path, result: dict[str, Any], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"page\.json: {rule}"):
        read_usage(tmp_path, **result)


def test_pages_that_were_fetched_read_like_those_from_files() -> None:
    [cost_page], [usage_page] = load_pages(ANALYTICS, ""), load_pages(USAGE_PAGES[0], "")

    assert list(costs.read_page(cost_page, ANALYTICS)) == list(costs.read(ANALYTICS))
    assert list(usage.read_page(usage_page, USAGE_PAGES[0])) == list(usage.read(USAGE_PAGES[0]))


def test_claude_code_estimates_are_usage_and_no_bill() -> None:
    line, idle = claude_code.read(CODE)

    assert line == UsageLine(
        row_number=1,
        provider="anthropic",
        account="org-EXAMPLE",
        period=DAY_ONE,
        quantities={
            "input_tokens": 2_660_000,
            "cached_input_tokens": 2_500_000,
            "cache_write_tokens": 120_000,
            "output_tokens": 19_000,
        },
        model="claude-sonnet-4-5-20250929",
        tags={
            "x_user": "dev1@example.com",
            "x_terminal": "vscode",
            "x_customer_type": "api",
            "x_estimated_cost": "1.86 USD",
        },
    )
    assert idle == EmptyPeriod("org-EXAMPLE", DAY_ONE)


def test_claude_code_may_estimate_no_cost(tmp_path: Path) -> None:
    model = {"model": "m", "tokens": {"input": 1}, "estimated_cost": {}}

    [line] = claude_code.read(write_code(tmp_path, make_code(model_breakdown=[model])))

    assert isinstance(line, UsageLine)
    assert (line.tags, line.quantities) == ({"x_api_key_name": "ci"}, {"input_tokens": 1})


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (7, "row 1, column data: a row must be an object"),
        (make_code(date="September"), "row 1, column date: 'September' is not a UTC day"),
        (make_code(date="2026-02-30"), "row 1, column date: '2026-02-30' is not a UTC day"),
        (make_code(actor=None), "row 1, column actor: must be an object"),
        (make_code(model_breakdown={}), "row 1, column model_breakdown: must be a list"),
        (make_code(model_breakdown=[1]), "row 1, column model_breakdown: a model must be an obj"),
        (make_code(model_breakdown=[{}]), "row 1, column tokens: must be an object"),
        (
            make_code(model_breakdown=[{"tokens": {}, "estimated_cost": {}}]),
            "row 1, column tokens.input: must not be null",
        ),
        (
            make_code(
                model_breakdown=[{"tokens": {"input": 1}, "estimated_cost": {"amount": "a"}}]
            ),
            "row 1, column estimated_cost.amount: 'a' is not a decimal number",
        ),
    ],
)
def test_a_wrong_row_of_claude_code_is_refused(tmp_path: Path, row: object, rule: str) -> None:
    with pytest.raises(BadFile, match=rf"code\.json: {rule}"):
        list(claude_code.read(write_code(tmp_path, row)))

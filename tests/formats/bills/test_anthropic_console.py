"""CSV exports of Anthropic's Console: display names, commas in names, dollars in whole cents."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tests.formats.bills.samples import BILLING
from tests.formats.bills.table_files import write_rows
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills import BillLine, UsageLine
from tokenbudget.formats.bills.anthropic_console import model_id_of, read_costs, read_usage

COST = {"usage_date_utc": "2026-09-01", "model": "Claude Opus 4.1", "cost_usd": "0.01"}
USAGE = {
    "usage_date_utc": "2026-09-01",
    "model_version": "claude-opus-4-1",
    "usage_input_tokens_no_cache": "7",
}


def test_the_sample_of_costs_sums_to_its_published_total() -> None:
    lines = [line for line in read_costs(BILLING / "anthropic-console-cost.csv")]

    assert all(isinstance(line, BillLine) for line in lines)
    bill_lines = [line for line in lines if isinstance(line, BillLine)]
    assert sum((line.billed for line in bill_lines), Decimal(0)) == Decimal("22.42")
    assert Counter(line.usage_type for line in bill_lines) == {
        "input_tokens": 6,
        "output_tokens": 6,
        "cached_input_tokens": 2,
        "cache_write_5m_tokens": 1,
        "cache_write_1h_tokens": 1,
    }


def test_names_stay_names_and_ids_are_preferred() -> None:
    lines = list(read_costs(BILLING / "anthropic-console-cost.csv"))
    legacy, shared = lines[5], lines[11]

    assert isinstance(legacy, BillLine)
    assert isinstance(shared, BillLine)
    assert (legacy.project, legacy.api_key) == (None, "legacy key")
    assert (shared.project, shared.api_key, shared.model) == (
        "Ops",
        "apikey_01Ops",
        "claude-zeta-1",
    )
    assert shared.tags == {
        "x_api_key_name": "Ops, shared",
        "x_region": "global",
        "x_cost_type": "token",
        "x_service_tier": "standard",
        "x_context_window": "0-200k",
    }


def test_older_exports_have_fewer_columns(tmp_path: Path) -> None:
    [line] = read_costs(write_rows(tmp_path, COST))

    assert isinstance(line, BillLine)
    assert (line.billed, line.listed, line.usage_type, line.tags) == (
        Decimal("0.01"),
        None,
        None,
        {},
    )


def test_what_is_billed_beside_tokens_is_told_by_its_kind(tmp_path: Path) -> None:
    rows = [{**COST, "cost_type": kind} for kind in ("web_search", "session_usage")]

    lines = list(read_costs(write_rows(tmp_path, *rows)))

    kinds = [line.usage_type for line in lines if isinstance(line, BillLine)]
    assert kinds == ["web_searches", "session_usage"]


@pytest.mark.parametrize(
    ("display_name", "model"),
    [
        ("Claude Haiku 4.5", "claude-haiku-4-5"),
        ("Claude Sonnet 3.7", "claude-3-7-sonnet"),
        ("Claude 3.5 Sonnet", "claude-3-5-sonnet"),
        ("Claude Opus 4", "claude-opus-4"),
        (None, None),
    ],
)
def test_a_display_name_stands_for_a_model(display_name: str | None, model: str | None) -> None:
    assert model_id_of(display_name) == model


def test_the_sample_of_usage_sums_to_what_the_api_says() -> None:
    sums: Counter[str] = Counter()
    for line in read_usage(BILLING / "anthropic-console-usage.csv"):
        assert isinstance(line, UsageLine)
        sums.update(line.quantities)

    assert (sums["input_tokens"], sums["output_tokens"]) == (9_231_334, 988_425)
    assert (sums["cached_input_tokens"], sums["web_searches"]) == (4_201_000, 12)


def test_usage_keeps_who_and_where() -> None:
    lines = list(read_usage(BILLING / "anthropic-console-usage.csv"))
    line = lines[5]

    assert isinstance(line, UsageLine)
    assert (line.api_key, line.project, line.service_tier) == ("Ops, shared", "Ops", "priority")
    assert (line.region, line.tags) == ("global", {"x_context_window": "0-200k"})


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**COST, "usage_date_utc": "01/09/2026"}, "column usage_date_utc: '01/09/2026' is not a"),
        ({**COST, "cost_usd": "$0.01"}, "column cost_usd: .*0.01' is not a decimal number"),
        ({**COST, "list_price_usd": "a"}, "column list_price_usd: 'a' is not a decimal number"),
    ],
)
def test_a_wrong_cost_is_refused(tmp_path: Path, row: dict[str, str], rule: str) -> None:
    with pytest.raises(BadFile, match=rf"table\.csv: row 1, {rule}"):
        list(read_costs(write_rows(tmp_path, row)))


def test_a_row_of_usage_without_its_count_is_refused(tmp_path: Path) -> None:
    row = {**USAGE, "usage_input_tokens_no_cache": ""}

    with pytest.raises(BadFile, match="column usage_input_tokens_no_cache: must not be null"):
        list(read_usage(write_rows(tmp_path, row)))


def test_costs_are_no_usage() -> None:
    with pytest.raises(BadFile, match="column usage_input_tokens_no_cache is missing"):
        list(read_usage(BILLING / "anthropic-console-cost.csv"))

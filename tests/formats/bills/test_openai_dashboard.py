"""CSV exports of OpenAI's dashboard: columns found by name, empty buckets, exports of nothing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.formats.bills.samples import BILLING
from tests.formats.bills.table_files import write_rows
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillLine, EmptyPeriod, UsageLine
from tokenbudget.formats.bills.openai_dashboard import read_completions, read_costs

COSTS = BILLING / "openai-dashboard-cost.csv"
COMPLETIONS = BILLING / "openai-dashboard-completions.csv"
EMPTY = BILLING / "openai-dashboard-empty.csv"
START, END = "1788220800", "1788307200"
TIMES = {"start_time": START, "end_time": END}
COST = {**TIMES, "amount_value": "1.5", "amount_currency": "usd", "line_item": "gpt-4.1, input"}


def day(number: int) -> Period:
    start = datetime(2026, 9, number, tzinfo=UTC)
    return Period(start, start + timedelta(days=1))


def test_the_sample_of_costs_sums_to_what_the_pages_sum_to() -> None:
    entries = list(read_costs(COSTS))

    lines = [entry for entry in entries if isinstance(entry, BillLine)]
    assert sum((line.billed for line in lines), Decimal(0)) == Decimal("13.7752120")
    assert len(lines) == 21
    assert entries[-1] == EmptyPeriod("org-EXAMPLE", day(3))
    assert (lines[0].account, lines[0].api_key) == ("org-EXAMPLE", "key_search_prod")
    assert lines[0].tags == {"x_project_name": "Search"}


def test_counts_printed_with_a_point_are_whole() -> None:
    entries = list(read_completions(COMPLETIONS))

    sums: Counter[str] = Counter()
    for entry in entries:
        if isinstance(entry, UsageLine):
            sums.update(entry.quantities)
    assert (sums["input_tokens"], sums["cached_input_tokens"]) == (11_967_311, 3_577_777)
    assert sums["output_tokens"] == 1_494_220
    assert entries[2].service_tier == "batch"  # type: ignore[union-attr]
    assert entries[-1] == EmptyPeriod("", day(3))


def test_an_export_of_nothing_says_nothing() -> None:
    assert list(read_costs(EMPTY)) == list(read_completions(EMPTY)) == []


def test_buckets_without_anything_mark_the_account_nobody_named(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(f"{','.join(COST)}\n{START},{END}\n")

    assert list(read_costs(path)) == [EmptyPeriod("", day(1))]


def test_the_order_of_columns_and_further_ones_do_not_matter(tmp_path: Path) -> None:
    shuffled = dict(sorted({**COST, "api_source": "api", "new": "x"}.items()))

    [line] = read_costs(write_rows(tmp_path, shuffled))

    assert isinstance(line, BillLine)
    assert (line.billed, line.tags) == (Decimal("1.5"), {"x_api_source": "api"})


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**COST, "start_time": "today"}, "column start_time: 'today' is not a decimal number"),
        ({**COST, "end_time": ""}, "column end_time: None is not a time in whole Unix seconds"),
        ({**COST, "end_time": START}, "column end_time: the period must end after it starts"),
        ({**COST, "amount_value": "free"}, "column amount.value: 'free' is not a decimal number"),
        ({**TIMES, "amount_value": "1"}, "column amount_currency: the column is missing"),
    ],
)
def test_a_wrong_row_is_refused_naming_row_and_column(
    tmp_path: Path, row: dict[str, str], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"table\.csv: row 1, {rule}"):
        list(read_costs(write_rows(tmp_path, row)))


def test_costs_are_no_completions() -> None:
    with pytest.raises(BadFile, match="row 1, column num_model_requests: the column is missing"):
        list(read_completions(COSTS))

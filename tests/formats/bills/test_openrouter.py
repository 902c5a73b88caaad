"""OpenRouter's activity: what it takes, and what was paid to the customer's own provider."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills import BillLine, UsageLine
from tokenbudget.formats.bills.lines import BillEntry
from tokenbudget.formats.bills.openrouter import read_csv, read_json

JSON = BILLING / "openrouter-activity.json"
CSV = BILLING / "openrouter-activity.csv"


def read_row(directory: Path, **overrides: Any) -> list[BillEntry]:
    row = {
        "date": "2026-09-01",
        "model": "acme/plain",
        "usage": 0.5,
        "byok_usage_inference": 0,
        "requests": 3,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "completion_tokens": 10,
        "reasoning_tokens": 4,
        **overrides,
    }
    path = directory / "activity.json"
    path.write_text(json.dumps({"data": [row]}))
    return list(read_json(path))


def billed(entries: list[BillEntry]) -> Decimal:
    return sum((each.billed for each in entries if isinstance(each, BillLine)), Decimal(0))


@pytest.mark.parametrize(("read", "path"), [(read_json, JSON), (read_csv, CSV)])
def test_both_shapes_sum_to_the_published_total_without_own_keys(read: Any, path: Path) -> None:
    entries = list(read(path))

    assert billed(entries) == Decimal("4.3051")
    byok = [entry.tags.get("x_byok_usage") for entry in entries if isinstance(entry, BillLine)]
    assert byok == [None, "1.25 USD", None, None]
    assert sum(each.requests or 0 for each in entries if isinstance(each, UsageLine)) == 170


def test_a_row_is_a_line_and_what_was_used(tmp_path: Path) -> None:
    line, usage = read_row(tmp_path, workspace_id="ws", provider_name="Acme", endpoint_id="e-1")

    assert isinstance(line, BillLine)
    assert (line.provider, line.model, line.project) == ("openrouter", "acme/plain", "ws")
    assert line.tags == {"x_upstream_provider": "Acme", "x_endpoint": "e-1"}
    assert isinstance(usage, UsageLine)
    assert usage.quantities == {
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 10,
        "reasoning_tokens": 4,
    }


def test_replayed_hits_beyond_the_input_are_a_tag(tmp_path: Path) -> None:
    _, usage = read_row(tmp_path, cached_tokens=150)

    assert isinstance(usage, UsageLine)
    assert "cached_input_tokens" not in usage.quantities
    assert usage.tags["x_cached_tokens"] == "150"


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"usage": "much"}, "column usage: 'much' is not a decimal number"),
        ({"model": None}, "column model: must not be null"),
        ({"date": "2026-09-01 12:00:00"}, "column date: '2026-09-01 12:00:00' is not a UTC day"),
        ({"requests": 1.5}, "column requests: Decimal.* is not a count"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, overrides: dict[str, Any], rule: str) -> None:
    with pytest.raises(BadFile, match=rf"activity\.json: row 1, {rule}"):
        read_row(tmp_path, **overrides)


def test_a_row_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "activity.json"
    path.write_text('{"data": [1]}')

    with pytest.raises(BadFile, match="row 1, column data: a row must be an object"):
        list(read_json(path))

"""Pages of admin APIs: several of them in one file, and days that are only told in part."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills import BillLine, anthropic_costs, openai_costs
from tokenbudget.formats.bills.pages import page_text

MIDNIGHT = 1_788_220_800
HOUR = 3_600
COSTS = BILLING / "openai-costs.page1.json"


def make_page(*hours: int, **overrides: Any) -> dict[str, Any]:
    buckets = [
        {
            "start_time": MIDNIGHT + hour * HOUR,
            "end_time": MIDNIGHT + (hour + 1) * HOUR,
            "results": [],
        }
        for hour in hours
    ]
    return {"object": "page", "data": buckets, **overrides}


def write(directory: Path, content: object) -> Path:
    path = directory / "pages.json"
    path.write_text(json.dumps(content))
    return path


def test_a_json_array_holds_several_pages_and_rows_are_counted_over_all(tmp_path: Path) -> None:
    pages = [
        json.loads((BILLING / f"openai-costs.page{number}.json").read_text()) for number in (1, 2)
    ]

    entries = list(openai_costs.read(write(tmp_path, pages)))

    lines = [entry for entry in entries if isinstance(entry, BillLine)]
    assert [line.row_number for line in lines] == list(range(1, 22))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_page_may_be_encoded_or_compressed_otherwise(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "page.json.gz"
    path.write_bytes(gzip.compress(COSTS.read_text().encode(encoding)))

    assert list(openai_costs.read(path)) == list(openai_costs.read(COSTS))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_page_that_was_cut_off_is_refused(tmp_path: Path, compressed: bool) -> None:
    content = COSTS.read_bytes()
    path = tmp_path / "page.json"
    path.write_bytes(gzip.compress(content)[:-20] if compressed else content[:-20])

    with pytest.raises(BadFile, match=r"page\.json: is .*cut short"):
        list(openai_costs.read(path))


def test_hours_of_whole_days_are_read(tmp_path: Path) -> None:
    entries = list(openai_costs.read(write(tmp_path, make_page(*range(24), has_more=True))))

    assert len(entries) == 24


def test_a_file_that_begins_within_a_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="bucket 1, column start_time: the file covers only a part"):
        list(openai_costs.read(write(tmp_path, make_page(6, 7))))


def test_a_file_that_ends_within_a_day_is_refused_when_more_is_to_follow(tmp_path: Path) -> None:
    partial = make_page(0, 1, has_more=True)

    with pytest.raises(BadFile, match="bucket 2, column end_time: the file covers only a part"):
        list(openai_costs.read(write(tmp_path, partial)))


def test_the_last_page_may_end_within_the_day_it_was_fetched_on(tmp_path: Path) -> None:
    assert len(list(openai_costs.read(write(tmp_path, make_page(0, 1, has_more=False))))) == 2


def test_a_page_without_buckets_says_nothing(tmp_path: Path) -> None:
    assert list(openai_costs.read(write(tmp_path, make_page(has_more=True)))) == []


@pytest.mark.parametrize("head", [b"", b"a,b\n1,2\n", b"PAR1"])
def test_what_does_not_begin_like_json_is_no_page(head: bytes) -> None:
    assert page_text(head) is None
    assert not openai_costs.recognises(head)
    assert not anthropic_costs.recognises(head)

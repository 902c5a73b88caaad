"""Which source a file is from, told from its content."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.formats.bills import FORMATS, SOURCES, detect_format, get_format

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("openai-costs.page1.json", "openai-costs"),
        ("openai-costs.page2.json", "openai-costs"),
        ("openai-costs.restated-day2.json", "openai-costs"),
        ("focus-1.2-llm-golden.csv", "focus"),
        ("focus-1.2-llm-golden.parquet", "focus"),
        ("focus-1.2-llm-invalid.csv", "focus"),
        ("focus-1.0-official-rows.csv", "focus"),
        ("aws-focus-1.2-bedrock.csv", "focus"),
        ("litellm-focus.csv", "focus"),
        ("focus-spec-virtual-currency-a1.csv", "focus"),
        ("aws-cur2-bedrock.csv", "aws-cur"),
        ("azure-ea-actualcost-official.csv", "azure"),
        ("azure-openai-ea-actualcost.csv", "azure"),
        ("azure-openai-mca-actualcost.csv", "azure"),
        ("gcp-billing-export-detailed.jsonl", "google-cloud"),
    ],
)
def test_the_source_is_told_from_the_content_and_not_from_the_name(
    tmp_path: Path, name: str, source: str
) -> None:
    renamed = tmp_path / "bill.bin"
    shutil.copy(BILLING / name, renamed)

    assert detect_format(renamed).source == source


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"date,amount\n2026-09-01,1\n",
        b'{"object": "page", "data": []}',
        b'{"object": ',
        b"[1, 2]",
        b'"organization.costs.result"',
    ],
)
def test_a_file_nobody_knows_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mystery.csv"
    path.write_bytes(content)

    with pytest.raises(BadFile, match=r"mystery\.csv: is no bill .* one of openai-costs, "):
        detect_format(path)


def test_a_source_is_found_by_its_name() -> None:
    assert [get_format(source).source for source in SOURCES] == list(SOURCES)
    assert set(SOURCES) == {known.source for known in FORMATS}


def test_of_several_shapes_of_a_source_the_one_that_recognises_the_file_reads_it() -> None:
    dashboard = BILLING / "openai-dashboard-cost.csv"

    assert get_format("openai-costs", dashboard) == detect_format(dashboard)
    assert get_format("openai-costs", BILLING / "litellm-focus.csv") == get_format("openai-costs")
    assert get_format("focus", dashboard).source == "focus"


def test_compressed_and_transcoded_files_are_recognised(tmp_path: Path) -> None:
    content = (BILLING / "aws-cur2-bedrock.csv").read_bytes()
    for name, packed in (
        ("a", gzip.compress(content)),
        ("b", zstd.compress(content)),
        ("c", content.decode().encode("utf-16")),
        ("d", b"\xef\xbb\xbf" + content),
    ):
        path = tmp_path / name
        path.write_bytes(packed)

        assert detect_format(path).source == "aws-cur"


def test_a_wrong_name_of_a_source_is_one_clear_error() -> None:
    with pytest.raises(InvalidInput, match="source 'opanai' is not one of openai-costs, "):
        get_format("opanai")

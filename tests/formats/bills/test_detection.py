"""Which source a file is from, told from its content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.formats.bills import FORMATS, detect_format, get_format


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
        b'{"object": "page", "data": [{"object": "organization.usage.completions.result"}]}',
        b'"organization.costs.result"',
    ],
)
def test_a_file_nobody_knows_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mystery.csv"
    path.write_bytes(content)

    with pytest.raises(BadFile, match=r"mystery\.csv: is no bill .* one of openai-costs, focus"):
        detect_format(path)


def test_a_source_is_found_by_its_name() -> None:
    assert [get_format(known.source) for known in FORMATS] == list(FORMATS)


def test_a_wrong_name_of_a_source_is_one_clear_error() -> None:
    with pytest.raises(InvalidInput, match="source 'opanai' is not one of openai-costs, focus"):
        get_format("opanai")

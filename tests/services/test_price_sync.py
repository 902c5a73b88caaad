"""Syncing writes what is new, as a whole and soundly, or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tokenbudget.domain.errors import BadFile, Conflict, InvalidInput, NotFound
from tokenbudget.formats.price_sources import parse_provenance
from tokenbudget.services.price_sync import SourceName, SyncPlan, SyncRequest, plan_sync, write_sync

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
BOOK = """\
# Kept by hand.
schema = 1
provider = "acme"
src = "acme.toml"

[model."m"]
price = [
  { input = 3, output = 15 },
]
"""
LITELLM: dict[str, dict[str, Any]] = {
    "acme/m": {
        "litellm_provider": "acme",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "input_cost_per_token_batches": 1.5e-06,
        "output_cost_per_token_batches": 7.5e-06,
        "deprecation_date": "2027-01-31",
    }
}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Give a directory with a price book of one provider."""
    directory = tmp_path / "pricing"
    directory.mkdir()
    (directory / "acme.toml").write_text(BOOK, encoding="utf-8")
    return directory


def source_file(tmp_path: Path, text: str) -> SyncRequest:
    """Give a request to compare with a file of our schema, called as the book's own source is."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(exist_ok=True)
    (theirs / "acme.toml").write_text(text, encoding="utf-8")
    return SyncRequest(SourceName.FILE, theirs / "acme.toml")


def plan(book: Path, request: SyncRequest) -> SyncPlan:
    """Give the plan of a sync at a fixed time."""
    return plan_sync(book, request, now=NOW)


def test_an_equal_source_writes_nothing(book: Path, tmp_path: Path) -> None:
    found = plan(book, source_file(tmp_path, BOOK))

    assert (found.differences, found.files) == ((), {})
    assert write_sync(book, found, is_forced=False) == []
    assert (book / "acme.toml").read_text(encoding="utf-8") == BOOK


def test_a_changed_rate_is_one_line_from_the_day_of_the_sync(book: Path, tmp_path: Path) -> None:
    request = source_file(tmp_path, BOOK.replace("input = 3", "input = 2.5"))

    assert write_sync(book, plan(book, request), is_forced=False) == ["acme.toml"]

    line = "  { from = 2026-11-21T00:00:00Z, input = 2.5, output = 15 },\n"
    expected = BOOK.replace("output = 15 },\n", "output = 15 },\n" + line)
    assert (book / "acme.toml").read_text(encoding="utf-8") == expected
    assert plan(book, request).open_differences == []


def test_a_new_provider_becomes_a_file(book: Path, tmp_path: Path) -> None:
    request = source_file(tmp_path, BOOK.replace('"acme"', '"new-one.ai"'))

    names = write_sync(book, plan(book, request), is_forced=False)

    assert names == ["new_one_ai.toml"]
    assert 'provider = "new_one.ai"' in (book / "new_one_ai.toml").read_text(encoding="utf-8")
    assert plan(book, request).differences == ()


def test_alarms_stop_the_writing_unless_it_is_forced(book: Path, tmp_path: Path) -> None:
    found = plan(book, source_file(tmp_path, BOOK.replace("input = 3", "input = 300")))

    with pytest.raises(Conflict, match=r"nothing was written, --force is needed: acme m: input_"):
        write_sync(book, found, is_forced=False)
    assert (book / "acme.toml").read_text(encoding="utf-8") == BOOK

    assert write_sync(book, found, is_forced=True) == ["acme.toml"]


def test_a_book_that_would_not_be_sound_is_not_written(book: Path, tmp_path: Path) -> None:
    rows = "price = [\n  { input = 1 },\n]\n"
    hidden = f'\n[model."m*"]\n{rows}[model."mm"]\nmatch = ["mm*"]\n{rows}'
    found = plan(book, source_file(tmp_path, BOOK + hidden))

    with pytest.raises(BadFile, match=r"acme.toml: mm: nothing was written, .* pattern_never_reac"):
        write_sync(book, found, is_forced=True)
    assert (book / "acme.toml").read_text(encoding="utf-8") == BOOK


def test_litellm_completes_the_book_and_is_listed_as_a_source(book: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(LITELLM), encoding="utf-8")
    request = SyncRequest(SourceName.LITELLM, file)

    names = write_sync(book, plan(book, request), is_forced=False)

    written = (book / "acme.toml").read_text(encoding="utf-8")
    (listed,) = parse_provenance((book / "SOURCES.toml").read_text(encoding="utf-8"))
    assert names == ["acme.toml", "SOURCES.toml"]
    assert f'  {{ tier = "batch", input = 1.5, output = 7.5, src = "{listed.label}" }},' in written
    assert f'sunset = 2027-01-31\nsunset_src = "{listed.label}"\n' in written
    assert listed.date == NOW.date()
    again = plan(book, request)
    assert (again.differences, again.files) == ((), {})


def test_one_provider_may_be_compared_alone(book: Path) -> None:
    other = BOOK.replace('"acme"', '"other"\nnames = ["other-ai"]').replace(
        "acme.toml", "genai-prices 0.1"
    )
    (book / "other.toml").write_text(other, encoding="utf-8")

    found = plan(book, SyncRequest(SourceName.GENAI, provider="Other AI"))

    assert [(each.kind.value, each.provider) for each in found.differences] == [("gone", "other")]
    assert found.alarms == ("1 of 1 models vanish, more than one in five",)
    assert found.files == {}


def test_a_provider_the_book_does_not_have_is_an_error(book: Path) -> None:
    with pytest.raises(NotFound, match="the price book has no provider 'nobody'"):
        plan(book, SyncRequest(SourceName.GENAI, provider="nobody"))


def test_a_file_as_source_needs_its_path(book: Path) -> None:
    with pytest.raises(InvalidInput, match="the price source file needs --path"):
        plan(book, SyncRequest(SourceName.FILE))

"""Pages of providers' admin APIs, as saved to files: a list of buckets of time with results.

It owns the page and the bucket; it refuses to know what a result says. A file holds one page or a
JSON array of pages. What a file says replaces earlier files by UTC day, so hours and minutes must
come as whole days: a file may not begin within one, nor end within one when a page is to follow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.cells import day_of, instant_cell, unix_cell
from tokenbudget.formats.bills.lines import (
    BillEntry,
    EmptyPeriod,
    Place,
    period_of,
    refuse_file,
)
from tokenbudget.formats.bills.plain_files import open_plain

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
UTF8_MARK: Final = b"\xef\xbb\xbf"

Page = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a bucket: what it says, when, and where it stands (counted over the file)."""

    facts: Mapping[str, Any]
    period: Period
    row_number: int
    place: Place


@dataclass(frozen=True, slots=True)
class PageShape:
    """How a provider names the bounds of a bucket and spells their times."""

    start: str
    end: str
    instant: Callable[[object, Place, str], datetime]

    def period(self, bucket: Mapping[str, Any], place: Place) -> Period:
        """Give the half-open period of a bucket."""
        start = self.instant(bucket.get(self.start), place, self.start)
        end = self.instant(bucket.get(self.end), place, self.end)
        return period_of(start, end, place, self.end)


OPENAI: Final = PageShape("start_time", "end_time", unix_cell)
ANTHROPIC: Final = PageShape("starting_at", "ending_at", instant_cell)


def page_text(head: bytes) -> str | None:
    """Give the first part of a file, in UTF-8, as text when it begins like JSON, else None."""
    text = head.removeprefix(UTF8_MARK).decode(errors="ignore")
    return text if text.lstrip()[:1] in ("{", "[") else None


def load_pages(path: Path, noun: str) -> list[Page]:
    """Give the page of a file, or the pages of its array; ``noun`` says what they ought to be of.

    Numbers are read exactly. Raises BadFile when the file is too large or no such JSON.
    """
    with open_plain(path) as plain:
        if plain.content.stat().st_size > MAX_FILE_BYTES:
            raise refuse_file(
                path, f"is larger than the {MAX_FILE_BYTES} bytes of a page of {noun}"
            )
        text = plain.content.read_bytes().removeprefix(UTF8_MARK)
    try:
        content = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise refuse_file(path, f"is not JSON, or is cut short: {error}") from None
    pages = content if isinstance(content, list) else [content]
    if not pages or not all(isinstance(page, dict) for page in pages):
        raise refuse_file(path, f"must be one JSON object, a page of {noun}")
    return pages


def read_pages(
    pages: Iterable[Page],
    path: Path,
    shape: PageShape,
    read_result: Callable[[Result], Iterable[BillEntry]],
) -> Iterator[BillEntry]:
    """Give what every result says, in order, and a mark for each bucket without any.

    ``path`` only words errors. Raises BadFile naming the row or bucket, the column and the rule.
    """
    empty_periods: list[Period] = []
    accounts: set[str] = set()
    for found in _results(pages, path, shape):
        if isinstance(found, Period):
            empty_periods.append(found)
            continue
        for entry in read_result(found):
            accounts.add(entry.account)
            yield entry
    for account in sorted(accounts or {""}):
        yield from (EmptyPeriod(account, period) for period in empty_periods)


def list_of(page: Page, field: str, path: Path) -> Sequence[object]:
    """Give the list that a page has under this name."""
    found = page.get(field)
    if not isinstance(found, list):
        raise refuse_file(path, f"must be a page with a list named {field}")
    return found


def _results(pages: Iterable[Page], path: Path, shape: PageShape) -> Iterator[Result | Period]:
    """Give the results in order, and the period of every bucket that has none."""
    row_number = 0
    for period, results in _buckets(pages, path, shape):
        if not results:
            yield period
        for facts in results:
            row_number += 1
            place = Place(path, f"row {row_number}")
            if not isinstance(facts, dict):
                raise place.refuse("results", "a result must be an object")
            yield Result(facts, period, row_number, place)


def _buckets(
    pages: Iterable[Page], path: Path, shape: PageShape
) -> Iterator[tuple[Period, Sequence[object]]]:
    place, period = Place(path, "bucket 0"), None
    bucket_number = 0
    for page in pages:
        for bucket in list_of(page, "data", path):
            bucket_number += 1
            place, is_first = Place(path, f"bucket {bucket_number}"), period is None
            period, results = _read_bucket(bucket, shape, place)
            if is_first:
                _require_midnight(period.start, place, shape.start)
            yield period, results
        if period is not None and page.get("has_more") is True:
            _require_midnight(period.end, place, shape.end)


def _read_bucket(bucket: object, shape: PageShape, place: Place) -> tuple[Period, Sequence[object]]:
    if not isinstance(bucket, dict):
        raise place.refuse("data", "a bucket must be an object")
    period = shape.period(bucket, place)
    # Pages of 2024 spelt it "result".
    results = bucket.get("results", bucket.get("result"))
    if not isinstance(results, list):
        raise place.refuse("results", "must be a list")
    return period, results


def _require_midnight(instant: datetime, place: Place, column: str) -> None:
    if instant != day_of(instant).start:
        raise place.refuse(
            column,
            "the file covers only a part of this UTC day and would replace the whole of it; put"
            " the pages of the day into one file, as a JSON array",
        )

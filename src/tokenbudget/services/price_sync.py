"""Bring a price book and a source of prices together: one comparison, one careful writing.

It owns the order of the steps and the files. It refuses to judge differences
(``domain/price_sync.py``) and to spell rows (``formats/price_writer.py``). The book as it would be
is parsed and linted as a whole before the first file is written, and each file is replaced at
once, so a book is never left half-written.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Final

from tokenbudget.domain.errors import BadFile, Conflict, InvalidInput, NotFound
from tokenbudget.domain.price_completion import complete_book
from tokenbudget.domain.price_differences import AddProvider, Difference, FileChange, find_alarms
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.price_sync import compare_with_source
from tokenbudget.domain.prices import ProviderPrices, normalise_word
from tokenbudget.formats.price_book import build_price_list, read_sources
from tokenbudget.formats.price_lint import lint_price_book
from tokenbudget.formats.price_sources import (
    SOURCES_FILE,
    Provenance,
    Snapshot,
    parse_provenance,
    render_provenance,
    replace_provenance,
)
from tokenbudget.formats.price_sources.files import read_price_files
from tokenbudget.formats.price_sources.genai import read_genai
from tokenbudget.formats.price_sources.litellm import read_litellm
from tokenbudget.formats.price_writer import apply_changes, render_provider
from tokenbudget.formats.whole_files import replace_file

NOT_IN_FILE_NAMES: Final = re.compile(r"[^a-z0-9]+")


class SourceName(StrEnum):
    """Where prices may be taken from."""

    GENAI = "genai"
    LITELLM = "litellm"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What to compare: ``path`` is the source's file, ``provider`` limits the comparison to one."""

    source: SourceName
    path: Path | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What differs and what would be written.

    ``files`` has the new texts by name; ``alarms`` say why they should not be written without a
    second look; ``remarks`` name what of the source was left out.
    """

    label: str
    differences: tuple[Difference, ...]
    alarms: tuple[str, ...]
    remarks: tuple[str, ...]
    files: Mapping[str, str]

    @property
    def open_differences(self) -> list[Difference]:
        """Give the differences that somebody has to decide."""
        return [difference for difference in self.differences if difference.is_open]


def plan_sync(directory: Path, request: SyncRequest, *, now: datetime) -> SyncPlan:
    """Give what a source says otherwise than the book in a directory; nothing is written.

    Undated changes hold from the beginning of the day of ``now``, in UTC.
    """
    sources = read_sources(directory)
    book = build_price_list(sources)
    today = datetime.combine(now.astimezone(UTC), time(), tzinfo=UTC)
    reading = _read(request, book, today)
    compared = _limit(book, request.provider)
    names = {each.provider for each in compared}
    found = [each for each in reading.differences if not names or each.provider in names]
    provenance = None if request.provider else reading.provenance
    return SyncPlan(
        label=reading.label,
        differences=tuple(found),
        alarms=tuple(find_alarms(compared or book.providers, found)),
        remarks=reading.remarks,
        files={**_changed_files(sources, book, found), **_changed_sources(directory, provenance)},
    )


def write_sync(directory: Path, plan: SyncPlan, *, is_forced: bool) -> list[str]:
    """Write the files of a plan and give their names.

    Raises Conflict when the plan has alarms and is not forced, and BadFile when the book would not
    be sound afterwards; nothing is written then.
    """
    if plan.alarms and not is_forced:
        raise Conflict(f"nothing was written, --force is needed: {'; '.join(plan.alarms)}")
    prices = {name: text for name, text in plan.files.items() if name != SOURCES_FILE}
    if prices:
        _require_sound({**read_sources(directory), **prices})
    for name, text in plan.files.items():
        replace_file(directory / name, text.encode())
    return list(plan.files)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A source as read and compared."""

    label: str
    provenance: Provenance | None
    remarks: tuple[str, ...]
    differences: Sequence[Difference]


def _read(request: SyncRequest, book: PriceList, today: datetime) -> _Reading:
    if request.source is SourceName.LITELLM:
        completion = read_litellm(request.path, today=today.date())
        label = completion.provenance.label
        found = complete_book(book, completion.offers, label=label, today=today)
        return _Reading(label, completion.provenance, completion.remarks, found)
    snapshot = _read_snapshot(request, today)
    found = compare_with_source(book.providers, snapshot.source, today=today)
    return _Reading(snapshot.source.label, snapshot.provenance, snapshot.remarks, found)


def _read_snapshot(request: SyncRequest, today: datetime) -> Snapshot:
    if request.source is SourceName.GENAI:
        return read_genai(today=today.date())
    if request.path is None:
        raise InvalidInput("the price source file needs --path", field="path")
    return read_price_files(request.path)


def _limit(book: PriceList, provider: str | None) -> list[ProviderPrices]:
    """Give the one provider that is asked for, nothing when none is."""
    if provider is None:
        return []
    word = normalise_word(provider)
    chosen = [each for each in book.providers if word in map(normalise_word, each.names)]
    if not chosen:
        raise NotFound(f"the price book has no provider {provider!r}", field="provider")
    return chosen


def _changed_files(
    sources: Mapping[str, str], book: PriceList, differences: Sequence[Difference]
) -> dict[str, str]:
    file_of = dict(zip((each.provider for each in book.providers), sources, strict=True))
    changes: dict[str, list[FileChange]] = defaultdict(list)
    files = {}
    for difference in differences:
        if isinstance(difference.change, AddProvider):
            name = NOT_IN_FILE_NAMES.sub("_", normalise_word(difference.provider)) + ".toml"
            files[name] = render_provider(difference.change.prices)
        elif difference.change is not None:
            changes[file_of[difference.provider]].append(difference.change)
    for file in changes:
        files[file] = apply_changes(file, sources[file], changes[file])
    return files


def _changed_sources(directory: Path, provenance: Provenance | None) -> dict[str, str]:
    if provenance is None:
        return {}
    path = directory / SOURCES_FILE
    known = parse_provenance(path.read_text(encoding="utf-8")) if path.exists() else []
    newest = replace_provenance(known, provenance)
    return {} if newest == known else {SOURCES_FILE: render_provenance(newest)}


def _require_sound(sources: Mapping[str, str]) -> None:
    build_price_list(sources)
    findings = lint_price_book(sources)
    if findings:
        first = findings[0]
        raise BadFile(
            f"{first.file}: {first.model}: nothing was written, since the book would have "
            f"{len(findings)} lint findings: {first.rule}: {first.detail}",
            file=first.file,
        )

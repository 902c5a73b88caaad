"""Importing files of single calls: what a provider or gateway says of each becomes usage.

It owns reading such a file twice, first to see that all of it can be told and then to tell it, and
what came of its calls. It refuses shapes (``formats/calls``), which witness counts
(``witnesses.py``) and bills (``bills.py``). What was told of a call before is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.calls import CallFormat, find_call_format
from tokenbudget.formats.events import Door, Rejection
from tokenbudget.formats.litellm import CallbackDoor
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage

CALLS_PER_WORK: Final = 2_000
MAX_NOTES: Final = 20

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class CallFile:
    """A file of single calls, every one of which can be told."""

    path: Path
    format: CallFormat
    call_count: int


@dataclass(frozen=True, slots=True)
class CallImport:
    """What came of one file.

    ``differing`` were told before by the same source with other content and were left as they are;
    ``notes`` name the first of them by row.
    """

    file_name: str
    source: str
    call_count: int
    accepted: int = 0
    duplicates: int = 0
    differing: int = 0
    unpriced: int = 0
    notes: tuple[str, ...] = ()


def open_door(ledger: Ledger, tolerance: timedelta) -> CallbackDoor:
    """Give what rows are read with: the instant, and the price book's names of providers."""
    provider_of = ledger.shelf.price_list.canonical_provider
    return CallbackDoor(Door(ledger.clock(), tolerance), provider_of)


def find_call_files(
    paths: Sequence[Path], source: str | None, door: CallbackDoor
) -> dict[Path, CallFile]:
    """Give those of the files that are of single calls, every row having been read.

    Nothing is recorded. Raises BadFile naming file, row, column and rule.
    """
    found: dict[Path, CallFile] = {}
    for path in paths:
        call_format = find_call_format(path, source)
        if call_format is not None:
            count = sum(1 for _ in call_format.read(path, door))
            found[path] = CallFile(path, call_format, count)
    return found


def import_calls(
    ledger: Ledger, file: CallFile, door: CallbackDoor, advance: Advance = lambda _count: None
) -> CallImport:
    """Tell the ledger of every call of a file and give what came of them.

    A call that nobody reported becomes usage that counts. One that was reported is joined by its
    response id or span, and the better witness counts from now on. Importing a file again changes
    nothing. ``advance`` is told the number of calls done, now and then.
    """
    result = CallImport(file.path.name, file.format.source, file.call_count)
    for batch in _batches(file.format.read(file.path, door)):
        [answer] = ledger.apply([RecordUsage([event for _, event in batch], Caller())])
        if not isinstance(answer, RecordAnswer):
            raise TypeError(f"recording usage was answered with {type(answer).__name__}")
        result = _with_answer(result, answer, [row for row, _ in batch])
        advance(len(batch))
    return result


def _with_answer(result: CallImport, answer: RecordAnswer, rows: Sequence[int]) -> CallImport:
    notes = (*result.notes, *(_note(result, each, rows) for each in answer.rejected))
    return CallImport(
        result.file_name,
        result.source,
        result.call_count,
        accepted=result.accepted + answer.accepted,
        duplicates=result.duplicates + answer.duplicates,
        differing=result.differing + len(answer.rejected),
        unpriced=result.unpriced + answer.unpriced,
        notes=notes[:MAX_NOTES],
    )


def _note(result: CallImport, rejection: Rejection, rows: Sequence[int]) -> str:
    return f"{result.file_name}: row {rows[rejection.index]}: {rejection.detail}"


def _batches(
    calls: Iterable[tuple[int, UsageEvent]],
) -> Iterator[list[tuple[int, UsageEvent]]]:
    remaining = iter(calls)
    while batch := list(islice(remaining, CALLS_PER_WORK)):
        yield batch

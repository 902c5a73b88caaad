"""Providers' bills, one module a source, all turned into the same lines.

This module owns which sources there are and how a file's source is told from its content; it
refuses to read a line. A new source is a new module and one more entry in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.bills import aws_cur, azure, focus, google
from tokenbudget.formats.bills.lines import (
    BillEntry,
    BillLine,
    EmptyPeriod,
    Replaces,
    UsageLine,
    refuse_file,
)
from tokenbudget.formats.bills.plain_files import head_of
from tokenbudget.formats.bills.sources import SHAPES

__all__ = [
    "FORMATS",
    "SOURCES",
    "BillEntry",
    "BillFormat",
    "BillLine",
    "EmptyPeriod",
    "Replaces",
    "UsageLine",
    "detect_format",
    "get_format",
    "refuse_file",
]


@dataclass(frozen=True, slots=True)
class BillFormat:
    """A source of bills: its name, whether the head of a file looks like it, and how to read one.

    ``recognises`` is given the beginning of the file as UTF-8 without a mark, decompressed, and of
    a Parquet file the names of its columns between commas. ``read`` streams in the order of the
    file and raises BadFile at the first thing that is wrong. ``replaces`` is what of earlier files
    a file takes out of force. Several shapes of one source are formats of the same name.
    ``meaning`` is what, beside its content, decides what a file says, such as a mapping.
    """

    source: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Path], Iterator[BillEntry]]
    replaces: Replaces = Replaces.DAY
    meaning: str = ""


FORMATS: Final = (
    *(BillFormat(*shape) for shape in SHAPES),
    BillFormat(focus.SOURCE, focus.recognises, focus.read),
    BillFormat(aws_cur.SOURCE, aws_cur.recognises, aws_cur.read, Replaces.MONTH),
    BillFormat(azure.SOURCE, azure.recognises, azure.read, Replaces.MONTH),
    BillFormat(google.SOURCE, google.recognises, google.read, Replaces.MONTH),
)
SOURCES: Final = tuple(dict.fromkeys(known.source for known in FORMATS))


def get_format(source: str, path: Path | None = None) -> BillFormat:
    """Give the format of that name, of several the one that recognises the file, else the first.

    Raises InvalidInput listing the names there are.
    """
    named = [known for known in FORMATS if known.source == source]
    if not named:
        raise InvalidInput(f"source {source!r} is not one of {', '.join(SOURCES)}", field="source")
    if path is None or len(named) == 1:
        return named[0]
    head = head_of(path)
    return next((known for known in named if known.recognises(head)), named[0])


def detect_format(path: Path) -> BillFormat:
    """Give the format that a file's content shows; raises BadFile when it is none of ours."""
    head = head_of(path)
    for known in FORMATS:
        if known.recognises(head):
            return known
    rule = f"is no bill that is known; name its source, one of {', '.join(SOURCES)}"
    raise refuse_file(path, rule)

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
from tokenbudget.formats.bills import focus, openai_costs
from tokenbudget.formats.bills.lines import BillLine, EmptyPeriod, refuse_file

__all__ = [
    "FORMATS",
    "BillFormat",
    "BillLine",
    "EmptyPeriod",
    "detect_format",
    "get_format",
    "refuse_file",
]

HEAD_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class BillFormat:
    """A source of bills: its name, whether the head of a file looks like it, and how to read one.

    ``read`` streams in the order of the file and raises BadFile at the first thing that is wrong.
    """

    source: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Path], Iterator[BillLine | EmptyPeriod]]


FORMATS: Final = (
    BillFormat(openai_costs.SOURCE, openai_costs.recognises, openai_costs.read),
    BillFormat(focus.SOURCE, focus.recognises, focus.read),
)


def get_format(source: str) -> BillFormat:
    """Give the format of that name; raises InvalidInput listing the names there are."""
    for known in FORMATS:
        if known.source == source:
            return known
    raise InvalidInput(f"source {source!r} is not one of {_sources()}", field="source")


def detect_format(path: Path) -> BillFormat:
    """Give the format that a file's content shows; raises BadFile when it is none of ours."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for known in FORMATS:
        if known.recognises(head):
            return known
    raise refuse_file(path, f"is no bill that is known; name its source, one of {_sources()}")


def _sources() -> str:
    return ", ".join(known.source for known in FORMATS)

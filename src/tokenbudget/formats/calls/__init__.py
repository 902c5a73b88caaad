"""Files of single calls: evidence that becomes usage events, never a bill.

This module owns which sources there are, how a file's source is told from its content and who is
the witness; it refuses to record anything. Each row is told to the ledger like any other event, so
that it joins what else was told of the call and counts by its rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.usage import UsageEvent, Witness
from tokenbudget.formats.bills.lines import Place
from tokenbudget.formats.bills.plain_files import head_of
from tokenbudget.formats.bills.tables import Cells, read_rows
from tokenbudget.formats.calls import langfuse, litellm_spend_logs, openrouter_generations
from tokenbudget.formats.events import ParsedItem, Rejection
from tokenbudget.formats.foreign_records import flagged, parse_one
from tokenbudget.formats.litellm import CallbackDoor, read_callback

_encoder = msgspec.json.Encoder(decimal_format="number")

ReadCall = Callable[[Cells, Place, CallbackDoor], ParsedItem | None]


@dataclass(frozen=True, slots=True)
class CallFormat:
    """A source of calls: its name, what recognises its files, and the event of one row.

    ``read_call`` gives None for a row that is no call of a model.
    """

    source: str
    recognises: Callable[[bytes], bool]
    required: tuple[str, ...]
    read_call: ReadCall

    def read(self, path: Path, door: CallbackDoor) -> Iterator[tuple[int, UsageEvent]]:
        """Give each call with its row, in the order of the file.

        Raises BadFile naming the row, the column or code, and the rule.
        """
        for number, row in read_rows(path, required=self.required):
            place = Place(path, f"row {number}")
            item = self.read_call(row, place, door)
            if isinstance(item, Rejection):
                raise _refusal(place, item)
            if item is not None:
                yield number, item


def find_call_format(path: Path, source: str | None) -> CallFormat | None:
    """Give the format of that name, or that a file's content shows; None for what is no such file.

    Raises BadFile when the file cannot be read.
    """
    if source is not None:
        return next((known for known in CALL_FORMATS if known.source == source), None)
    head = head_of(path)
    return next((known for known in CALL_FORMATS if known.recognises(head)), None)


def _read_generation(row: Cells, place: Place, door: CallbackDoor) -> ParsedItem:
    wire = openrouter_generations.wire_of(row, place)
    present = {name: value for name, value in wire.items() if value is not None}
    return parse_one(present, 0, replace(door.door, witness=Witness.PROVIDER))


def _read_spend_log(row: Cells, place: Place, door: CallbackDoor) -> ParsedItem:
    record = litellm_spend_logs.record_of(row, place)
    [reading] = read_callback(_encoder.encode(record), door, max_records=1)
    return reading.item


def _read_observation(row: Cells, place: Place, door: CallbackDoor) -> ParsedItem | None:
    read = langfuse.wire_of(row, place)
    if read is None:
        return None
    wire, flags = read
    return flagged(parse_one(wire, 0, replace(door.door, witness=Witness.GATEWAY)), flags)


def _refusal(place: Place, item: Rejection) -> BadFile:
    return place.refuse(item.code, item.detail)


CALL_FORMATS: Final = (
    CallFormat(
        openrouter_generations.SOURCE,
        openrouter_generations.recognises,
        openrouter_generations.REQUIRED,
        _read_generation,
    ),
    CallFormat(
        litellm_spend_logs.SOURCE,
        litellm_spend_logs.recognises,
        litellm_spend_logs.REQUIRED,
        _read_spend_log,
    ),
    CallFormat(langfuse.SOURCE, langfuse.recognises, langfuse.REQUIRED, _read_observation),
)
CALL_SOURCES: Final = tuple(known.source for known in CALL_FORMATS)

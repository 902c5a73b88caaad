"""Importing files of events by the million, each event once, whatever interrupts it.

It owns the way of a piece of a file into the ledger: what is plain goes in one transaction
(``bulk_batches.py``), together with the note of how far the file is done; what is not goes before
it, one by one (``usage.py``). So an interrupted import goes on where it stopped, and a row that was
already in by then is a duplicate. It refuses to read files and to word reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Final

import polars as pl
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from tokenbudget.domain.errors import Conflict, Unavailable
from tokenbudget.formats.event_files import Piece
from tokenbudget.formats.events import Door, Rejection
from tokenbudget.services.bulk_batches import (
    BulkAnswer,
    KeysTaken,
    NotPlain,
    record_plain_events,
)
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.piece_reading import PreparedPiece
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage
from tokenbudget.store.imports import (
    add_import,
    advance_import,
    begin_import_again,
    find_import,
    finish_import,
)
from tokenbudget.store.witnesses import is_deadlock

ITEMS_PER_WORK: Final = 5_000
MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a file so far; ``last_row`` is where the last of them stands."""

    last_row: int = 0
    accepted: int = 0
    duplicates: int = 0
    unpriced: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """A row that was not accepted: where it stands, why, and what it says."""

    row: int
    rejection: Rejection
    content: object


KeepFaults = Callable[[Sequence[FaultyRow]], None]
"""What keeps the rows that were not accepted; it is called before their piece counts as done."""


def forget_faults(_: Sequence[FaultyRow]) -> None:
    """Keep nothing."""


@dataclass(slots=True)
class EventImport:
    """The import of one file; without a fingerprint nothing is noted of how far it is done."""

    ledger: Ledger
    fingerprint: str | None = None
    file_name: str = ""
    counts: Counts = field(default_factory=Counts)
    is_finished: bool = False
    looks_first: bool = False

    def record(
        self, prepared: PreparedPiece, door: Door, keep_faults: KeepFaults = forget_faults
    ) -> None:
        """Record a piece, all of it or nothing but what is a duplicate next time.

        Raises Conflict when another process imports the same file, and Unavailable when the
        database cannot answer; then the piece may be recorded again.
        """
        counts = self._record_singly(prepared.rest, door, keep_faults)
        plain = prepared.plain
        last_row = max(prepared.last_row, self.counts.last_row)
        for _ in range(MAX_ATTEMPTS):
            try:
                self.counts = self._record_plain(plain, replace(counts, last_row=last_row))
            except NotPlain as found:
                for piece in prepared.pick(found.rows):
                    counts = _sum(counts, self._record_singly(piece, door, keep_faults))
                plain = plain.filter(~pl.col("row").is_in(list(found.rows)))
            except KeysTaken:
                # Where one event was known, the next ones may be too.
                self.looks_first = True
            except IntegrityError:
                # Another worker has just stored the same new name; it is found now.
                continue
            except Unavailable as error:
                if not is_deadlock(error):
                    raise
            else:
                return
        raise Conflict("other workers keep recording the same events; import the file again")

    def finish(self) -> None:
        """Note that every row is done."""
        if self.fingerprint is not None:
            with self.ledger.database.transaction() as session:
                finish_import(session, self.fingerprint, now=self.ledger.clock())
        self.is_finished = True

    def _record_plain(self, plain: pl.DataFrame, counts: Counts) -> Counts:
        """Give the counts of the file once the plain events of a piece are recorded too."""
        reached: list[Counts] = []

        def note(session: Session, answer: BulkAnswer) -> None:
            reached.append(_sum(self.counts, _sum(counts, _counts_of(answer))))
            self._note_progress(session, reached[-1])

        record_plain_events(self.ledger, plain, note, looks_first=self.looks_first)
        return reached[-1]

    def _note_progress(self, session: Session, reached: Counts) -> None:
        if self.fingerprint is None:
            return
        now = self.ledger.clock()
        add_import(
            session,
            {
                "fingerprint": self.fingerprint,
                "file_name": self.file_name,
                "started_at": now,
                "updated_at": now,
                **asdict(Counts()),
            },
        )
        is_ours = advance_import(
            session,
            self.fingerprint,
            after_row=self.counts.last_row,
            counts=asdict(reached),
            now=now,
        )
        if not is_ours:
            raise Conflict("another process is importing this file; wait until it has ended")

    def _record_singly(self, piece: Piece, door: Door, keep_faults: KeepFaults) -> Counts:
        """Record events one by one, in order, and tell which were not accepted."""
        counts = Counts()
        for first in range(0, len(piece.rows), ITEMS_PER_WORK):
            part = piece.pick(range(first, min(first + ITEMS_PER_WORK, len(piece.rows))))
            work = RecordUsage(part.items(door), Caller())
            [answer] = self.ledger.apply([work])
            if not isinstance(answer, RecordAnswer):
                raise TypeError(f"recording usage was answered with {type(answer).__name__}")
            keep_faults(
                [
                    FaultyRow(part.rows[each.index], each, part.source_of(each.index))
                    for each in answer.rejected
                ]
            )
            counts = _sum(counts, _counts_of(answer))
        return counts


def begin_import(ledger: Ledger, fingerprint: str, file_name: str) -> EventImport:
    """Give the import of a file as it stands.

    It begins with the first row that is not done. One that is finished has nothing left to do,
    unless rows of it were rejected: what they lacked may be there by now, so it begins again.
    """
    with ledger.database.transaction() as session:
        known = find_import(session, fingerprint)
        if known is None:
            return EventImport(ledger, fingerprint, file_name)
        is_finished = known.finished_at is not None
        counts = Counts(
            known.last_row, known.accepted, known.duplicates, known.unpriced, known.rejected
        )
        if is_finished and counts.rejected:
            begin_import_again(session, fingerprint, now=ledger.clock())
            counts, is_finished = Counts(), False
    return EventImport(ledger, fingerprint, file_name, counts, is_finished)


def door_of(ledger: Ledger, tolerance: timedelta) -> Door:
    """Give the door as it is now."""
    return Door(now=ledger.clock(), future_tolerance=tolerance)


def _counts_of(answer: BulkAnswer | RecordAnswer) -> Counts:
    rejected = len(answer.rejected) if isinstance(answer, RecordAnswer) else 0
    return Counts(0, answer.accepted, answer.duplicates, answer.unpriced, rejected)


def _sum(left: Counts, right: Counts) -> Counts:
    ours: Mapping[str, int] = asdict(left)
    sums = {name: ours[name] + count for name, count in asdict(right).items()}
    return Counts(**{**sums, "last_row": max(left.last_row, right.last_row)})

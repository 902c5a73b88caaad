"""Reading files of events ahead of the ledger: pieces, with what is plain in them told apart.

It owns the process that reads the next piece while the ledger writes the last one: SQLite and the
checks of rows both want a processor of their own. It refuses the ledger, which only the writing
process knows.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import polars as pl

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.event_files import (
    PLAIN_READING,
    Piece,
    Reading,
    read_pieces,
)
from tokenbudget.formats.event_tables import plain_events
from tokenbudget.formats.events import DEFAULT_SOURCE, Door
from tokenbudget.frames.events import with_hashes

MIN_ROWS_AHEAD: Final = 200_000
"""Files with fewer rows are imported in the time that a further process takes to start."""

END_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class FileReading:
    """What is read of which file: the rows after one, and what they mean."""

    path: Path
    door: Door
    reading: Reading = PLAIN_READING
    after_row: int = 0


@dataclass(frozen=True, slots=True)
class PreparedPiece:
    """The plain events of a piece as a table, whose ``row`` says where each stands, and its rest.

    ``origin`` is the piece itself, or the file that it can be read from again.
    """

    last_row: int
    plain: pl.DataFrame
    rest: Piece
    origin: Piece | FileReading

    def pick(self, rows: Collection[int]) -> list[Piece]:
        """Give these rows of the piece, in order, as pieces of their own."""
        if not isinstance(self.origin, FileReading):
            return [_picked(self.origin, rows)]
        parts: list[Piece] = []
        left = set(rows)
        path, reading = self.origin.path, self.origin.reading
        for piece in read_pieces(path, reading, after_row=min(rows) - 1):
            parts.append(_picked(piece, left))
            left.difference_update(parts[-1].rows)
            if not left:
                break
        return parts


def prepare_piece(piece: Piece, door: Door, origin: FileReading | None = None) -> PreparedPiece:
    """Give the piece with its plain events told from the rest; nothing is asked of the ledger.

    Without an ``origin`` the piece itself is kept, to pick rows from.
    """
    events = plain_events(piece.columns(), door)
    places = pl.Series(range(len(piece.rows)), dtype=pl.UInt32)
    if not events.is_empty():
        rows = pl.Series(piece.rows, dtype=pl.Int64).gather(events["place"])
        places = places.filter(~places.is_in(events["place"].implode()))
        events = with_hashes(events.drop("place").with_columns(row=rows), DEFAULT_SOURCE)
    rest = piece.pick(places.to_list())
    return PreparedPiece(piece.rows[-1], events, rest, origin or piece)


def _picked(piece: Piece, rows: Collection[int]) -> Piece:
    wanted = set(rows)
    return piece.pick([place for place, row in enumerate(piece.rows) if row in wanted])


def prepared_pieces(asked: FileReading, *, rows: int) -> Generator[PreparedPiece]:
    """Give the pieces of a file in order, from a process of its own when ``rows`` are many.

    Raises BadFile naming file, row and rule.
    """
    if rows - asked.after_row < MIN_ROWS_AHEAD or (os.cpu_count() or 1) == 1:
        yield from _prepare(asked)
        return
    # A fork would share the locks of threads that only exist in this process.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_pieces, args=(sender, asked), daemon=True)
    process.start()
    sender.close()
    try:
        yield from _received(receiver)
    finally:
        receiver.close()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()


def _prepare(asked: FileReading) -> Iterator[PreparedPiece]:
    for piece in read_pieces(asked.path, asked.reading, after_row=asked.after_row):
        yield prepare_piece(piece, asked.door, asked)


def _received(receiver: Connection) -> Iterator[PreparedPiece]:
    while True:
        try:
            message = receiver.recv()
        except EOFError:
            raise BadFile("the process that reads the file has ended; import it again") from None
        if message is None:
            return
        if isinstance(message, str):
            raise BadFile(message)
        yield message


def _send_pieces(sender: Connection, asked: FileReading) -> None:
    """Send every piece and then None, or the fault of the file."""
    # An interrupt is for the process that writes; this one ends when nobody listens any more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A piece is a million objects and no cycle: looking for cycles takes as long as reading it.
    gc.disable()
    with suppress(BrokenPipeError):
        try:
            for prepared in _prepare(asked):
                sender.send(prepared)
            sender.send(None)
        except BadFile as error:
            sender.send(error.detail)

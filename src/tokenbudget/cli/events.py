"""``events import``.

Files of usage events into the ledger, with the same answers per item as the API.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.fault_files import fault_file
from tokenbudget.cli.import_progress import row_progress
from tokenbudget.cli.start import started
from tokenbudget.formats.column_mapping import ColumnMapping, load_mapping
from tokenbudget.formats.event_files import FileFacts, Reading, inspect_file, read_lines
from tokenbudget.formats.events import Door
from tokenbudget.services.bulk_import import (
    Counts,
    EventImport,
    FaultyRow,
    begin_import,
    door_of,
)
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.piece_reading import (
    FileReading,
    PreparedPiece,
    prepare_piece,
    prepared_pieces,
)

STDIN: Final = "-"
MAX_SHOWN: Final = 20
FILE_ID_DIGITS: Final = 16

app = typer.Typer(help="Usage events.", no_args_is_help=True)


@app.callback()
def events() -> None:
    """Usage events."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of every file of one command."""

    mapping: ColumnMapping | None
    errors: Path | None
    source: str | None

    def meanings(self) -> tuple[str, ...]:
        """Give what, beside its content, decides what a file says."""
        mapping = "" if self.mapping is None else self.mapping.text
        return (mapping, self.source or "")

    def reading(self, facts: FileFacts) -> Reading:
        """Give what the rows of a file mean."""
        if self.mapping is None:
            return Reading(self.source)
        file_id = facts.content_digest[:FILE_ID_DIGITS]
        return Reading(self.source, partial(self.mapping.reshape, file_id=file_id))


@dataclass(slots=True)
class Imported:
    """What became of one file, and the first faults of its rows."""

    file: str
    counts: Counts = field(default_factory=Counts)
    faults: list[str] = field(default_factory=list)

    def show(self, rows: Sequence[FaultyRow]) -> None:
        """Note the first rows that were not accepted."""
        for fault in rows[: MAX_SHOWN - len(self.faults)]:
            rejection = fault.rejection
            self.faults.append(
                f"{self.file}: row {fault.row}: {rejection.code}: {rejection.detail}"
            )


@app.command("import")
def import_events(
    files: Annotated[list[str], typer.Argument(help="JSONL, CSV or Parquet; - is JSONL on stdin")],
    mapping: Annotated[
        Path | None, typer.Option(help="TOML that gives the columns of another log our names")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option(help="Directory for the rows at fault, with the reasons")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source of rows that name none", min=1, max=256)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Import files of usage events; importing a file again changes nothing.

    An import that was interrupted goes on where it stopped. Exits 1 when rows were rejected.
    """
    options = Options(None if mapping is None else load_mapping(mapping), errors, source)
    services = started()
    ledger = make_ledger(services)
    outcomes = [_import_file(services, ledger, name, options) for name in files]
    rows = [
        {
            "file": outcome.file,
            "accepted": outcome.counts.accepted,
            "duplicates": outcome.counts.duplicates,
            "unpriced": outcome.counts.unpriced,
            "rejected": outcome.counts.rejected,
        }
        for outcome in outcomes
    ]
    print_rows("Imported events", rows, as_json=as_json)
    for outcome in outcomes:
        for fault in outcome.faults:
            print(fault, file=sys.stderr)
    if any(outcome.counts.rejected for outcome in outcomes):
        raise typer.Exit(1)


def _import_file(services: Services, ledger: Ledger, name: str, options: Options) -> Imported:
    door = door_of(ledger, timedelta(seconds=services.settings.future_tolerance_seconds))
    if name == STDIN:
        lines = read_lines(sys.stdin.buffer, Reading(options.source))
        pieces = (prepare_piece(piece, door) for piece in lines)
        return _record(EventImport(ledger, file_name="stdin"), pieces, door, options, rows=None)
    path = Path(name)
    facts = inspect_file(path, *options.meanings())
    importing = begin_import(ledger, facts.fingerprint, name)
    if importing.is_finished:
        done = importing.counts
        return Imported(name, Counts(duplicates=done.accepted + done.duplicates))
    after_row = importing.counts.last_row
    if after_row:
        print(f"{name}: going on after row {after_row}", file=sys.stderr)
    asked = FileReading(path, door, options.reading(facts), after_row)
    pieces = prepared_pieces(asked, rows=facts.rows)
    return _record(importing, pieces, door, options, rows=facts.rows)


def _record(
    importing: EventImport,
    pieces: Generator[PreparedPiece],
    door: Door,
    options: Options,
    *,
    rows: int | None,
) -> Imported:
    """Record the pieces of one file and give what became of all its rows."""
    name = importing.file_name
    outcome = Imported(name)
    after_row = importing.counts.last_row
    with (
        fault_file(options.errors, name, importing.fingerprint, after_row=after_row) as keep,
        row_progress(f"Importing {name}", rows, done=after_row) as advance,
        closing(pieces),
    ):

        def keep_faults(faults: Sequence[FaultyRow]) -> None:
            outcome.show(faults)
            keep(faults)

        for prepared in pieces:
            importing.record(prepared, door, keep_faults)
            advance(importing.counts.last_row)
    importing.finish()
    outcome.counts = importing.counts
    return outcome

"""``events import``.

Files of usage events into the ledger, with the same answers per item as the API.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.start import started
from tokenbudget.formats.event_files import Piece, read_event_lines, read_events
from tokenbudget.formats.events import Door
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage

STDIN: Final = "-"
MAX_SHOWN: Final = 20

app = typer.Typer(help="Usage events.", no_args_is_help=True)


@app.callback()
def events() -> None:
    """Usage events."""


@dataclass(slots=True)
class Imported:
    """What became of one file."""

    file: str
    accepted: int = 0
    duplicates: int = 0
    unpriced: int = 0
    rejected: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, answer: RecordAnswer, rows: Sequence[int]) -> None:
        """Count one piece of the file, whose items stood in these rows."""
        self.accepted += answer.accepted
        self.duplicates += answer.duplicates
        self.unpriced += answer.unpriced
        self.rejected += len(answer.rejected)
        for rejection in answer.rejected[: MAX_SHOWN - len(self.faults)]:
            row = rows[rejection.index]
            self.faults.append(f"{self.file}: row {row}: {rejection.code}: {rejection.detail}")


@app.command("import")
def import_events(
    files: Annotated[list[str], typer.Argument(help="JSONL, CSV or Parquet; - is JSONL on stdin")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Import files of usage events; importing a file again changes nothing.

    Exits 1 when rows were rejected.
    """
    services = started()
    ledger = make_ledger(services)
    outcomes = [_import_file(services, ledger, name) for name in files]
    rows = [
        {
            "file": outcome.file,
            "accepted": outcome.accepted,
            "duplicates": outcome.duplicates,
            "unpriced": outcome.unpriced,
            "rejected": outcome.rejected,
        }
        for outcome in outcomes
    ]
    print_rows("Imported events", rows, as_json=as_json)
    for outcome in outcomes:
        for fault in outcome.faults:
            print(fault, file=sys.stderr)
    if any(outcome.rejected for outcome in outcomes):
        raise typer.Exit(1)


def _import_file(services: Services, ledger: Ledger, name: str) -> Imported:
    outcome = Imported("stdin" if name == STDIN else name)
    with progress(f"Importing {outcome.file}", None) as advance:
        for piece in _pieces(name, services):
            answer = ledger.apply([RecordUsage(piece.items, Caller())])[0]
            if not isinstance(answer, RecordAnswer):
                raise TypeError(f"recording usage was answered with {type(answer).__name__}")
            outcome.add(answer, piece.rows)
            advance(len(piece.items))
    return outcome


def _pieces(name: str, services: Services) -> Iterator[Piece]:
    tolerance = timedelta(seconds=services.settings.future_tolerance_seconds)
    door = Door(now=services.clock(), future_tolerance=tolerance)
    if name == STDIN:
        return read_event_lines(sys.stdin.buffer, door)
    return read_events(Path(name), door)

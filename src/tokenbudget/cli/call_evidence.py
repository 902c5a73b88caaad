"""Files of single calls among those given to ``bills import``: told to the ledger as usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.cli.console import progress
from tokenbudget.formats.litellm import CallbackDoor
from tokenbudget.services.evidence import (
    CallFile,
    CallImport,
    find_call_files,
    import_calls,
    open_door,
)
from tokenbudget.services.ledger import Ledger


@dataclass(frozen=True, slots=True)
class CallFiles:
    """The files of single calls, all of them readable."""

    ledger: Ledger
    door: CallbackDoor
    files: Mapping[Path, CallFile]

    def record(self) -> list[CallImport]:
        """Tell the ledger of every call and give what came of each file."""
        if not self.files:
            return []
        total = sum(file.call_count for file in self.files.values())
        with progress("Calls", total) as advance:
            return [
                import_calls(self.ledger, file, self.door, advance) for file in self.files.values()
            ]


def find_calls(services: Services, paths: Sequence[Path], source: str | None) -> CallFiles:
    """Give the files of single calls among these, every row of them read and none recorded.

    Raises BadFile naming file, row, column and rule.
    """
    ledger = make_ledger(services)
    door = open_door(ledger, timedelta(seconds=services.settings.future_tolerance_seconds))
    files = find_call_files(list(dict.fromkeys(paths)), source, door)
    return CallFiles(ledger, door, files)


def call_row(imported: CallImport) -> dict[str, object]:
    """Give the row of a table about one file."""
    return {
        "file": imported.file_name,
        "source": imported.source,
        "calls": imported.call_count,
        "accepted": imported.accepted,
        "duplicates": imported.duplicates,
        "differing": imported.differing,
        "unpriced": imported.unpriced,
    }

"""Side files: the rows of an imported file that were not accepted, each with the reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tokenbudget.domain.errors import BadFile
from tokenbudget.services.bulk_import import FaultyRow, KeepFaults, forget_faults

ID_DIGITS = 8
SUFFIX = ".errors.jsonl"


@contextmanager
def fault_file(
    directory: Path | None, name: str, fingerprint: str | None, *, after_row: int
) -> Iterator[KeepFaults]:
    """Give what writes rows at fault beside each other while the block runs.

    The file is named after the imported one and its fingerprint. What an interrupted import wrote
    of later rows than ``after_row`` is dropped, since those are read again. Without a directory
    nothing is written.
    """
    if directory is None:
        yield forget_faults
        return
    parts = [Path(name).name, (fingerprint or "")[:ID_DIGITS]]
    path = directory / (".".join(part for part in parts if part) + SUFFIX)
    with _opened(path, after_row) as lines:
        yield _writer(lines)
    if path.stat().st_size == 0:
        path.unlink()


def _opened(path: Path, after_row: int) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_up_to(path, after_row)
        lines = path.open("w", encoding="utf-8")
    except OSError as error:
        raise BadFile(f"{path}: cannot be written: {error.strerror}") from None
    lines.writelines(kept)
    lines.flush()
    return lines


def _lines_up_to(path: Path, row: int) -> list[str]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [line for line in lines if _row_of(line) <= row]


def _row_of(line: str) -> int:
    """Give the row a line tells of; a line that was cut off counts as the latest."""
    try:
        return int(json.loads(line)["row"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize


def _writer(lines: IO[str]) -> Callable[[Sequence[FaultyRow]], None]:
    def write(faults: Sequence[FaultyRow]) -> None:
        for fault in sorted(faults, key=lambda each: each.row):
            entry = {
                "row": fault.row,
                "event_id": fault.rejection.event_id,
                "code": fault.rejection.code,
                "detail": fault.rejection.detail,
                "content": fault.content,
            }
            lines.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        lines.flush()

    return write

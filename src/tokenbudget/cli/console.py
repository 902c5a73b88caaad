"""How commands speak: tables or JSON on stdout, progress on stderr.

It owns no logic of any feature.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PIPED_WIDTH = 160
RIGHT_ALIGNED_ENDINGS = (
    "cost",
    "amount",
    "limit",
    "settled",
    "held",
    "headroom",
    "forecast",
    "measured",
    "tokens",
    "requests",
)


def stdout() -> Console:
    """Give a console on the current standard output, looked up late so that it can be captured."""
    is_terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if is_terminal else PIPED_WIDTH)


def print_rows(
    title: str,
    rows: Sequence[Mapping[str, object]],
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
) -> None:
    """Print rows as a table, or as one JSON array when ``as_json``.

    Columns default to the first row's keys.
    """
    if as_json:
        print(json.dumps([dict(row) for row in rows], default=str))
        return
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in names:
        is_number = name.endswith(RIGHT_ALIGNED_ENDINGS) or _is_numeric_column(rows, name)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in names))
    stdout().print(table)


def _is_numeric_column(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    return bool(rows) and all(isinstance(row.get(name), int) for row in rows)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr while the block runs.

    The value given advances it by a count.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)

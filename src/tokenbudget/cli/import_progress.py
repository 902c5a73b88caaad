"""The bar of a long import: rows done, rows a second and what is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SPEED_SECONDS = 60


class RateColumn(ProgressColumn):
    """Rows a second over the last minute."""

    def render(self, task: Task) -> Text:
        """Give the rate, nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


@contextmanager
def row_progress(
    description: str, total: int | None, *, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr while the block runs.

    The value given sets it to a row of the file; ``done`` is where it starts.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        speed_estimate_period=SPEED_SECONDS,
    )
    with bar:
        task = bar.add_task(description, total=total, completed=done)
        yield lambda row: bar.update(task, completed=row)

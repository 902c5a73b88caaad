"""Tables written for tests: the cells of a few rows under the columns of a source."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path


def write_rows(directory: Path, *rows: Mapping[str, str], name: str = "table.csv") -> Path:
    """Write a CSV file with the columns of the first row."""
    path = directory / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path

"""What the commands of documents have in common: telling what an apply has changed."""

from __future__ import annotations

from typing import Final

from tokenbudget.cli.console import print_rows
from tokenbudget.domain.documents import Applied
from tokenbudget.formats.documents import describe_change

MAX_SHOWN: Final = 100


def print_applied(title: str, applied: Applied, *, dry_run: bool, as_json: bool) -> None:
    """Print what became of every entry, and which version is in force."""
    rows = [describe_change(change) for change in applied.changes]
    if as_json:
        print_rows("", rows, as_json=True)
        return
    if not applied.is_changed:
        print(f"{title}: version {applied.version} is in force and says just this.")
        return
    print_rows(title, rows[:MAX_SHOWN], as_json=False)
    if len(rows) > MAX_SHOWN:
        print(f"{len(rows) - MAX_SHOWN} further changes are not shown; --json has them")
    would = "would be" if dry_run else "is"
    print(f"Version {applied.version} {would} in force.")

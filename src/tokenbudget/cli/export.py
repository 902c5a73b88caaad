"""``tokenbudget export``: data sets as files for other tools. No logic of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.start import started
from tokenbudget.formats.focus import file_kind, parse_days
from tokenbudget.formats.focus_columns import DEFAULT_VERSION, VERSIONS
from tokenbudget.services.focus_export import FocusQuestion, export_focus

app: Final = typer.Typer(help="Write data sets for other tools.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """Write data sets for other tools."""


@app.command("focus")
def write_focus_file(
    first: Annotated[str, typer.Option("--from", help="First UTC day, such as 2026-09-01.")],
    end: Annotated[str, typer.Option("--to", help="UTC day after the last one.")],
    out: Annotated[Path, typer.Option(help="The file, ending with .csv or .parquet.")],
    version: Annotated[
        str, typer.Option(help=f"FOCUS version: {', '.join(VERSIONS)}.")
    ] = DEFAULT_VERSION,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Write a FOCUS cost and usage file of whole UTC days; no file when there is nothing in it."""
    question = FocusQuestion(parse_days(first, end), file_kind(out.name), version)
    services = started()
    with progress("Rollups and charges", None) as advance:
        export = export_focus(
            services.database, question, out, price_list=services.price_list, advance=advance
        )
    row = {
        "file": str(out),
        "version": version,
        "rows": export.rows,
        "billed_cost_is": "invoiced" if export.is_invoiced else "expected",
        "unpriced_requests": export.unpriced_requests,
    }
    print_rows("FOCUS", [row], as_json=as_json)

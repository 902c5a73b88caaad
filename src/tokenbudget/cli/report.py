"""``tokenbudget report``: finance reports as files. No logic of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.services.reports import build_weekly, choose_week, write_weekly
from tokenbudget.settings import packaged_path

app: Final = typer.Typer(help="Write finance reports.", no_args_is_help=True)


@app.callback()
def report() -> None:
    """Write finance reports."""


@app.command("weekly")
def write_weekly_report(
    week: Annotated[
        str | None, typer.Option(help="ISO week; default the last complete one")
    ] = None,
    team: Annotated[str | None, typer.Option(help="One team; default all")] = None,
    formats: Annotated[str, typer.Option("--format", help="html, csv or both")] = "html",
    out: Annotated[
        Path | None, typer.Option(help="Directory; default the report directory")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON")] = False,
) -> None:
    """Write the report of one ISO week and print where it lies."""
    services = started()
    settings, now = services.settings, services.clock()
    built = build_weekly(
        services.database,
        period=choose_week(week, now=now, timezone=settings.timezone),
        now=now,
        currency=settings.currency,
        timezone=settings.timezone,
        team=team,
    )
    paths = write_weekly(
        built,
        formats=[name.strip() for name in formats.split(",")],
        directory=out or settings.report_dir,
        templates=packaged_path("reports"),
    )
    rows = [{"week": built.name, "format": path.suffix[1:], "file": str(path)} for path in paths]
    print_rows("Weekly report", rows, as_json=as_json)

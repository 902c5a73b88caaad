"""``statements export``: a statement as files for finance. No logic of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import make_surroundings
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.options import with_options
from tokenbudget.cli.start import started
from tokenbudget.domain.months import parse_month
from tokenbudget.services.statement_documents import (
    FORMATS,
    get_version,
    make_documents,
    make_question,
    write_documents,
)

USUAL_FORMATS: Final = "html,xlsx"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What ``statements export`` takes."""

    period: Annotated[str, typer.Argument(metavar="PERIOD", help="The month, such as 2026-09")]
    formats: Annotated[
        str, typer.Option("--format", help=f"Any of {', '.join(FORMATS)}, comma-separated.")
    ] = USUAL_FORMATS
    by: Annotated[
        str, typer.Option(help="What its chapters are cut by: team, cost_center or tenant.")
    ] = "team"
    team: Annotated[str | None, typer.Option(help="Only what this team bears.")] = None
    cost_center: Annotated[str | None, typer.Option(help="Only what this cost centre bears.")] = (
        None
    )
    tenant: Annotated[str | None, typer.Option(help="Only what this tenant bears.")] = None
    each: Annotated[
        bool, typer.Option("--each", help="One document for each team, or what --by names.")
    ] = False
    version: Annotated[int | None, typer.Option(help="Another version than the one in force.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="Directory; default the report directory.")] = (
        None
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False


@with_options(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a month's statement as files, and print where they lie.

    pdf needs the extra pdf. gl is a balanced journal, by the accounts of TOKENBUDGET_GL_FILE.
    """
    month = parse_month(options.period)
    services = started()
    header = get_version(services.database, month, options.version)
    documents = make_documents(
        services.database,
        make_question(
            header.statement_id,
            by=options.by,
            team=options.team,
            cost_center=options.cost_center,
            tenant=options.tenant,
            each=options.each,
        ),
        [name.strip() for name in options.formats.split(",")],
        make_surroundings(services),
    )
    paths = write_documents(documents, options.out or services.settings.report_dir)
    rows = [
        {"statement": header.name, "format": document.format, "file": str(path)}
        for document, path in zip(documents, paths, strict=True)
    ]
    print_rows("Statement", rows, as_json=options.as_json)
    for warning in (each for document in documents for each in document.warnings):
        print(f"Note: {warning}", file=sys.stderr)

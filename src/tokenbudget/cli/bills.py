"""Commands about bills: ``import``, ``list``, ``withdraw``. They print; the services decide."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.cli.call_evidence import call_row, find_calls
from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.reconciliation import format_amount
from tokenbudget.formats import bills as formats
from tokenbudget.formats.bill_mapping import load_bill_mapping
from tokenbudget.formats.bill_views import describe_import
from tokenbudget.formats.bills.mapped import mapped_format
from tokenbudget.formats.calls import CALL_SOURCES
from tokenbudget.services.bill_records import list_imports
from tokenbudget.services.bill_withdrawals import withdraw_import
from tokenbudget.services.bills import BillImport, Delivery, import_bills, import_delivery
from tokenbudget.services.evidence import CallImport

SOURCES = ", ".join((*formats.SOURCES, *CALL_SOURCES))

app = typer.Typer(help="Providers' bills.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def bills() -> None:
    """Keep ``import`` a command of its own while it is the only one."""


@app.command("import")
def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="The files, a restatement after what it restates.")
    ],
    source: Annotated[
        str | None,
        typer.Option(help=f"Where they are from, when their content does not show it: {SOURCES}."),
    ] = None,
    account: Annotated[
        str, typer.Option(help="The account that bills without one belong to.")
    ] = "",
    mapping: Annotated[
        Path | None, typer.Option(help="TOML that says which columns of any table are the bill.")
    ] = None,
    delivery: Annotated[
        bool,
        typer.Option("--delivery", help="The files are parts of one delivery, none a restatement."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import providers' bills and usage; importing a file again changes nothing.

    Files of single calls become usage, which joins what else was told of the same calls.
    """
    services = started()
    chosen = _format_of(source, mapping)
    calls = find_calls(services, () if mapping else files, source)
    with progress("Bill lines", None) as advance:
        paths = [file for file in files if file not in calls.files]
        now = services.clock()
        if delivery:
            told_parts = Delivery(paths, source=chosen, account=account)
            imports = import_delivery(services.database, told_parts, now=now, advance=advance)
        else:
            imports = import_bills(
                services.database,
                paths,
                now=now,
                source=chosen,
                account=account,
                advance=advance,
            )
    _print_imports(imports, calls.record(), as_json=as_json)


@app.command("list")
def list_bills(
    limit: Annotated[int, typer.Option(help="The most imports to show, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what was imported, newest first, and how much of it later imports superseded."""
    services = started()
    page = list_imports(services.database, cursor=None, limit=limit)
    rows = [
        describe_import(each.row, superseded_lines=each.superseded_lines) for each in page.records
    ]
    shown = ("imported_at", "source", "file_name", "lines", "superseded_lines", "withdrawn_at")
    table = rows if as_json else [{name: row[name] for name in (*shown, "id")} for row in rows]
    print_rows("Bills", table, as_json=as_json)


@app.command("withdraw")
def withdraw(
    bill_id: Annotated[str, typer.Argument(metavar="ID", help="The import, as in bills list.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the import.")],
    as_json: AsJson = False,
) -> None:
    """Take an import back: what it replaced counts again; nothing is deleted.

    The same file may then be imported again, under another account too.
    """
    services = started()
    withdrawn = withdraw_import(services.database, bill_id, reason=reason, now=services.clock())
    row = {
        "id": withdrawn.import_id,
        "outcome": "withdrawn" if withdrawn.is_new else "already withdrawn",
        "withdrawn_lines": withdrawn.withdrawn_lines,
        "restored_lines": withdrawn.restored_lines,
    }
    print_rows("Withdrawn", [row], as_json=as_json)


def _format_of(source: str | None, mapping: Path | None) -> str | formats.BillFormat | None:
    if mapping is None:
        return source
    if source is not None:
        raise InvalidInput("source and mapping exclude each other: the mapping names the source")
    return mapped_format(load_bill_mapping(mapping))


def _print_imports(
    imports: Sequence[BillImport], told: Sequence[CallImport], *, as_json: bool
) -> None:
    rows = [_import_row(each, as_json) for each in imports]
    calls = [call_row(each) for each in told]
    if as_json:
        print_rows("Bills", [*rows, *calls], as_json=True)
    else:
        if rows or not calls:
            print_rows("Bills", rows, as_json=False)
        if calls:
            print_rows("Calls", calls, as_json=False)
    for note in (note for each in told for note in each.notes):
        print(note, file=sys.stderr)
    for warning in dict.fromkeys(warning for each in imports for warning in each.warnings):
        print(f"warning: {warning}", file=sys.stderr)


def _import_row(imported: BillImport, as_json: bool) -> dict[str, object]:
    totals = {currency: format_amount(total) for currency, total in imported.totals.items()}
    return {
        "file": imported.file_name,
        "source": imported.source,
        "outcome": "imported" if imported.is_new else "already imported",
        "lines": imported.line_count,
        "superseded_lines": imported.superseded_lines,
        "total_amount": totals if as_json else _joined(totals),
    }


def _joined(totals: Mapping[str, str]) -> str:
    return ", ".join(f"{total} {currency}" for currency, total in totals.items())

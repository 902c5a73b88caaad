"""``allocation apply``, ``show`` and ``preview``: how invoices are divided, as code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenbudget.cli.budgets import read_text
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.documents import print_applied
from tokenbudget.cli.start import started
from tokenbudget.domain.months import parse_month
from tokenbudget.formats.allocation_previews import describe_allocation
from tokenbudget.formats.allocation_rules import KINDS, parse_allocation_toml
from tokenbudget.services.allocation import preview_allocation
from tokenbudget.services.allocation_rules import apply_allocation_rules, get_allocation_rules

app = typer.Typer(help="Allocation rules as code: who bears what.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[
        Path, typer.Argument(help="A file of [[pool]], [[acceptance]] and [[unbilled]] tables")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the file in place of all allocation rules; closed statements stay as they are."""
    draft = parse_allocation_toml(read_text(file), file_name=str(file))
    services = started()
    applied = apply_allocation_rules(
        services.database, draft, now=services.clock(), dry_run=dry_run
    )
    print_applied("Allocation rules", applied, dry_run=dry_run, as_json=as_json)


@app.command("show")
def show(as_json: JsonOption = False) -> None:
    """Show the rules in force, in their order."""
    present = get_allocation_rules(started().database)
    rows = [{"kind": kind, **entry} for kind in KINDS for entry in present.content[kind]]
    if as_json:
        print_rows("", rows, as_json=True)
        return
    tolerance = present.content["tolerance"]
    title = f"Allocation rules, version {present.version}, tolerance {tolerance}"
    print_rows(title, [_row(entry) for entry in rows], as_json=False)


@app.command("preview")
def preview(
    period: Annotated[str, typer.Option(help="The month, such as 2026-09")],
    file: Annotated[
        Path | None, typer.Option(help="Rules to divide by instead of those in force")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who would bear what of a month's invoices; nothing is stored."""
    month = parse_month(period)
    draft = None
    if file is not None:
        draft = parse_allocation_toml(read_text(file), file_name=str(file))
    services = started()
    divided = describe_allocation(
        preview_allocation(
            services.database,
            month=month,
            currency=services.settings.currency,
            price_list=services.price_list,
            draft=draft,
        )
    )
    if as_json:
        print(json.dumps(divided))
        return
    print_rows(f"{period} by team, {divided['currency']}", divided["teams"], as_json=False)
    if divided["pools"]:
        print_rows("Shared", divided["pools"], as_json=False)
    print(f"Invoiced and divided: {divided['total']} {divided['currency']}.")
    for refusal in divided["refusals"]:
        print(f"Cannot be closed: {refusal['code']}: {refusal['detail']}")


def _row(entry: dict[str, Any]) -> dict[str, str]:
    """Give an entry in a few cells: what it is about, and what it says."""
    told = ("kind", "name")
    says = ", ".join(
        f"{name}={json.dumps(value) if isinstance(value, dict | list) else value}"
        for name, value in entry.items()
        if name not in told and value is not None
    )
    return {"kind": entry["kind"], "name": entry.get("name") or "", "says": says}

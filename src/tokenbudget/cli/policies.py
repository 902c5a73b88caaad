"""``policies apply`` and ``policies show``: which models calls may be made with, as code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenbudget.cli.budgets import read_text
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.documents import print_applied
from tokenbudget.cli.start import started
from tokenbudget.formats.policies import parse_policies_toml, require_asked_tags
from tokenbudget.services.policies import apply_policies, get_policies

app = typer.Typer(help="Policies as code: models, lifecycle, owners.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A file of [[policy]] tables and [classes]")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the file in place of all policies; they decide from the next check on."""
    draft = parse_policies_toml(read_text(file), file_name=str(file))
    services = started()
    require_asked_tags(draft, services.settings.unrolled_tags)
    applied = apply_policies(services.database, draft, now=services.clock(), dry_run=dry_run)
    print_applied("Policies", applied, dry_run=dry_run, as_json=as_json)


@app.command("show")
def show(as_json: JsonOption = False) -> None:
    """Show the policies in force, in their order."""
    present = get_policies(started().database)
    if as_json:
        print_rows("", present.content["policy"], as_json=True)
        return
    title = f"Policies, version {present.version}"
    print_rows(title, [_row(policy) for policy in present.content["policy"]], as_json=False)


def _row(policy: dict[str, Any]) -> dict[str, str]:
    """Give a policy in a few cells: whom it is for, and what it demands."""
    told = ("id", "mode", "selector")
    demands = {
        name: value for name, value in policy.items() if name not in told and value is not None
    }
    return {
        "policy": policy["id"],
        "mode": policy["mode"],
        "selector": json.dumps(policy["selector"]) if policy["selector"] else "everything",
        "demands": ", ".join(f"{name}={_text(demands[name])}" for name in demands),
    }


def _text(value: object) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

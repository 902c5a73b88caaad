"""``selfcheck``, ``doctor`` and ``db upgrade``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tokenbudget import __version__
from tokenbudget.bootstrap import prepare_database
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import opened, started
from tokenbudget.domain.errors import TokenbudgetError
from tokenbudget.services.health import is_ready
from tokenbudget.services.selfcheck import selfcheck
from tokenbudget.settings import describe_settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
database_app = typer.Typer(help="The database.", no_args_is_help=True)


def run_selfcheck(as_json: JsonOption = False) -> None:
    """Compare every derived figure with the rows it is derived from.

    Exits 1 when something differs.
    """
    services = started()
    findings = selfcheck(services.database)
    rows = [
        {
            "rule": finding.rule,
            "ok": "yes" if finding.holds else "NO",
            "checked": finding.checked,
            "broken": "; ".join(finding.broken[:3]),
        }
        for finding in findings
    ]
    print_rows("Self-check", rows, as_json=as_json)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(1)


def doctor(
    settings: Annotated[bool, typer.Option("--settings", help="List every setting")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether this installation can work, or list every setting with unit and default."""
    if settings:
        print_rows("Settings", describe_settings(), as_json=as_json)
        return
    rows = [{"part": "tokenbudget", "ok": "yes", "detail": __version__}]
    rows.append({"part": "python", "ok": "yes", "detail": sys.version.split()[0]})
    rows.extend(_diagnose())
    print_rows("Doctor", rows, as_json=as_json)
    if any(row["ok"] != "yes" for row in rows):
        raise typer.Exit(1)


@database_app.command("upgrade")
def upgrade() -> None:
    """Bring the database to the tables of this version."""
    started()
    print("the database is current")


def _diagnose() -> list[dict[str, str]]:
    try:
        services = opened()
    except TokenbudgetError as error:
        return [{"part": "settings", "ok": "no", "detail": error.detail}]
    book = f"price list {services.price_list.version[:12]}"
    rows = [{"part": "price book", "ok": "yes", "detail": book}]
    try:
        prepare_database(services)
        is_ready(services.database)
    except TokenbudgetError as error:
        return [*rows, {"part": "database", "ok": "no", "detail": error.detail}]
    kind = services.database.url.get_backend_name()
    return [*rows, {"part": "database", "ok": "yes", "detail": kind}]

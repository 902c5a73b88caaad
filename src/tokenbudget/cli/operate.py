"""``selfcheck``, ``doctor`` and ``db upgrade``."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated

import typer

from tokenbudget import __version__
from tokenbudget.bootstrap import (
    Services,
    list_pulled_providers,
    make_pull_order,
    prepare_database,
)
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import opened, started
from tokenbudget.domain.errors import TokenbudgetError
from tokenbudget.formats.bill_requests import get_api
from tokenbudget.services.bill_pulls import list_stale
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
    return [*rows, {"part": "database", "ok": "yes", "detail": kind}, *_diagnose_pulls(services)]


def _diagnose_pulls(services: Services) -> list[dict[str, str]]:
    """Give a row for each provider whose bills are pulled: no pull may be late."""
    settings = services.settings
    hours = settings.bills_pull_stale_hours
    rows = []
    for provider in list_pulled_providers(settings):
        stale = list_stale(
            services.database,
            get_api(provider),
            make_pull_order(settings, provider).account,
            now=services.clock(),
            limit=timedelta(hours=hours),
        )
        late = f"not pulled to the end in {hours} hours: {', '.join(stale)}"
        detail = late if stale else "pulled"
        ok = "no" if stale else "yes"
        rows.append({"part": f"bills of {provider}", "ok": ok, "detail": detail})
    return rows

"""The command ``bills pull``: what providers bill and meter, read from their admin APIs.

It prints; the services decide.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from time import sleep
from typing import Annotated, Final

import httpx
import typer

from tokenbudget.bootstrap import make_provider_client, make_pull_order
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.reconciliation import format_amount
from tokenbudget.formats.bill_requests import APIS, get_api
from tokenbudget.services.bill_pulls import PulledReport, PullOrder, pull_bills

PROVIDERS: Final = " or ".join(api.name for api in APIS)
DAY_FORMATS: Final = ["%Y-%m-%d"]


def pull(
    source: Annotated[str, typer.Option(help=f"Whose bills: {PROVIDERS}.")],
    from_day: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=DAY_FORMATS,
            metavar="DAY",
            help="First day, in UTC; by default what is new and what may be restated.",
        ),
    ] = None,
    to_day: Annotated[
        datetime | None,
        typer.Option(
            "--to", formats=DAY_FORMATS, metavar="DAY", help="Day to stop at, by default today."
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="The account that is pulled, by default the setting's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Pull costs and usage from a provider; what it says unchanged is stored once."""
    get_api(source)
    services = started()
    usual = make_pull_order(services.settings, source)
    order = PullOrder(
        account=usual.account if account is None else account,
        terms=usual.terms,
        start=_utc(from_day),
        end=_utc(to_day),
    )
    with httpx.Client() as http:
        client = make_provider_client(services, source, http, sleep)
        pulled = pull_bills(services.database, client, order, now=services.clock())
    rows = [_row(each, as_json) for each in pulled]
    print_rows(f"Pulled from {source}", rows, as_json=as_json)
    for warning in (warning for each in pulled for warning in each.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    for each in pulled:
        if each.failure is not None:
            raise each.failure


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)


def _row(pulled: PulledReport, as_json: bool) -> dict[str, object]:
    totals = {currency: format_amount(total) for currency, total in pulled.totals.items()}
    shown = ", ".join(f"{total} {currency}" for currency, total in totals.items())
    return {
        "source": pulled.source,
        "from": pulled.period.start.date().isoformat(),
        "to": pulled.period.end.date().isoformat(),
        "days": pulled.days,
        "changed_days": pulled.changed_days,
        "lines": pulled.line_count,
        "superseded_lines": pulled.superseded_lines,
        "total_amount": totals if as_json else shown,
        "failure": None if pulled.failure is None else pulled.failure.detail,
    }

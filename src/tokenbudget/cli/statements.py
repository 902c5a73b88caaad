"""``statements``: closing months, showing what was stated, restating and verifying it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated

import typer

from tokenbudget.bootstrap import Services, make_statement_allocate
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import Conflict, InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month, parse_month
from tokenbudget.domain.statements import StatementHeader, StatementState
from tokenbudget.formats.statements import describe_header, describe_totals
from tokenbudget.services.closing import close_month
from tokenbudget.services.restatements import (
    Approval,
    approve_restatement,
    propose_restatement,
)
from tokenbudget.services.statements import (
    MAX_LISTED,
    get_shown,
    list_statements,
    total_by_team_against,
    total_statement,
    verify_statement,
)

app = typer.Typer(help="A month's statement: close, show, restate, verify.", no_args_is_help=True)
MonthArgument = Annotated[str, typer.Argument(metavar="PERIOD", help="The month, such as 2026-09")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("close")
def close(
    period: MonthArgument,
    no_grace: Annotated[
        bool, typer.Option("--no-grace", help="Close at once instead of after the usual grace.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Close a month: a draft while grace lasts. Exit 1 lists all that speaks against it."""
    month = parse_month(period)
    services = started()
    hours = 0 if no_grace else services.settings.statement_grace_hours
    try:
        closing = close_month(
            services.database,
            make_statement_allocate(services),
            month=month,
            now=services.clock(),
            grace=timedelta(hours=hours),
        )
    except Conflict as error:
        _show_refusals(error, period, as_json=as_json)
        raise
    _show(services, closing.statement, by="team", organisation="then", as_json=as_json)


@app.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """List the latest statements with every version."""
    found = list_statements(started().database, limit=MAX_LISTED)
    rows = [describe_header(each) for each in found]
    if as_json:
        print_rows("", rows, as_json=True)
        return
    columns = ("period", "version", "state", "total", "currency", "closed_at", "grace_ends_at")
    print_rows("Statements", rows, as_json=False, columns=(*columns, "id"))


@app.command("show")
def show(
    period: MonthArgument,
    by: Annotated[str, typer.Option(help="The dimension that totals are by.")] = "team",
    organisation: Annotated[
        str, typer.Option(help="Whose cost centres: then (frozen) or today.")
    ] = "then",
    as_json: JsonOption = False,
) -> None:
    """Show a month's statement in force, else its draft."""
    month = parse_month(period)
    services = started()
    header = get_shown(services.database, month)
    _show(services, header, by=by, organisation=organisation, as_json=as_json)


@app.command("restate")
def restate(
    period: Annotated[
        str | None, typer.Argument(metavar="PERIOD", help="The month, such as 2026-09")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the restatement.")] = None,
    approve: Annotated[
        str | None, typer.Option(metavar="ID", help="Put this proposal in force.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to restate a closed month, or approve what was proposed."""
    if approve is not None:
        if period is not None or reason is not None:
            raise InvalidInput("--approve applies a proposal as it was; it takes nothing else")
        services = started()
        approved = approve_restatement(
            services.database,
            make_statement_allocate(services),
            approve,
            approval=Approval(None),
            now=services.clock(),
        )
        _show(services, approved, by="team", organisation="then", as_json=as_json)
        return
    if period is None or reason is None:
        raise InvalidInput("name the month and --reason, or a proposal with --approve")
    month = parse_month(period)
    services = started()
    proposed = propose_restatement(
        services.database,
        make_statement_allocate(services),
        month=month,
        reason=reason,
        now=services.clock(),
    )
    _show_proposal(services, proposed, as_json=as_json)


@app.command("verify")
def verify(period: MonthArgument, as_json: JsonOption = False) -> None:
    """Check that a month's rows have the digest they were closed with; exit 1 when they do not."""
    services = started()
    header = get_shown(services.database, parse_month(period))
    found = verify_statement(services.database, header.statement_id)
    if as_json:
        print(
            json.dumps(
                {
                    "id": header.statement_id,
                    "ok": not found.faults,
                    "digest": header.digest,
                    "faults": found.faults,
                }
            )
        )
    elif found.faults:
        print("\n".join(found.faults))
    else:
        print(f"{header.name} ({header.state}) holds: {header.digest or 'no digest yet'}")
    if found.faults:
        raise typer.Exit(1)


def _show(
    services: Services, header: StatementHeader, *, by: str, organisation: str, as_json: bool
) -> None:
    totals = total_statement(
        services.database,
        header.statement_id,
        by=by,
        organisation=organisation,
        now=services.clock(),
    )
    rows = describe_totals(totals, by)
    if as_json:
        shown = {**describe_header(header), "by": by, "organisation": organisation, "totals": rows}
        print(json.dumps(shown))
        return
    title = f"Statement of {header.name}, {header.state}, in {header.currency}"
    print_rows(title, rows, as_json=False)
    print(f"Total {format_nanos(header.total_nanos)}, id {header.statement_id}")
    if header.state is StatementState.DRAFT and header.grace_ends_at is not None:
        print(f"A draft: it closes after {header.grace_ends_at:%Y-%m-%dT%H:%MZ}.")
    for note in header.notes:
        print(f"Note: {note.detail}")


def _show_proposal(services: Services, proposed: StatementHeader, *, as_json: bool) -> None:
    _, teams = total_by_team_against(services.database, proposed.statement_id)
    rows = [
        {
            "team": team,
            "amount_before": format_nanos(before),
            "amount_after": format_nanos(after),
            "change": format_nanos(after - before),
        }
        for team, (before, after) in teams.items()
    ]
    if as_json:
        print(json.dumps({**describe_header(proposed), "changes": rows}))
        return
    print_rows(f"Proposal for {proposed.name}, in {proposed.currency}", rows, as_json=False)
    print(
        f"Nothing changes before: tokenbudget statements restate --approve {proposed.statement_id}"
    )


def _show_refusals(error: Conflict, period: str, *, as_json: bool) -> None:
    """Print all that speaks against closing; the exit code tells that the check failed."""
    refusals = error.facts.get("refusals")
    if not isinstance(refusals, list):
        return
    month = format_month(parse_month(period))
    print_rows(f"{month} cannot be closed", refusals, as_json=as_json)
    raise typer.Exit(1)

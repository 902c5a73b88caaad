"""Commands about what was metered and invoiced: ``reconcile``, ``untracked`` and ``coverage``.

They print; the services decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from tokenbudget.bootstrap import make_reading
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.months import parse_month
from tokenbudget.formats.reconciliations import (
    describe_coverage,
    describe_month,
    describe_untracked,
    parse_coverage_window,
)
from tokenbudget.services.coverage import find_untracked_spend, get_coverage
from tokenbudget.services.reconciliation import reconcile_month

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Month = Annotated[str, typer.Option("--period", help="The month, such as 2026-09 (UTC).")]
AMOUNTS: Final = ("metered_amount", "invoiced_amount", "variance_amount")
Provider = Annotated[str | None, typer.Option(help="Only this provider.")]


def reconcile(period: Month, provider: Provider = None, as_json: AsJson = False) -> None:
    """Compare what was metered with what was invoiced; exit 1 when anything was over-counted."""
    month = parse_month(period)
    services = started()
    facts = reconcile_month(services.database, month, make_reading(services, provider))
    described = describe_month(facts.metered, facts.reconciliation, facts.conversions)
    if as_json:
        print(json.dumps({"period": period, **described}))
    else:
        rows = [*map(_table_row, described["rows"]), *_closing_rows(described["totals"])]
        print_rows(f"Reconciliation of {period}", rows, as_json=False)
        steps = [_step_row(step) for step in described["waterfall"]]
        print_rows("From list price to invoice", steps, as_json=False)
        if described["conversions"]:
            print_rows("Converted by", described["conversions"], as_json=False)
    if facts.reconciliation.is_over_counted:
        raise typer.Exit(1)


def untracked(period: Month, provider: Provider = None, as_json: AsJson = False) -> None:
    """List keys, projects and accounts with traffic that nobody reported, and whose it may be."""
    month = parse_month(period)
    services = started()
    found = find_untracked_spend(services.database, month, make_reading(services, provider))
    rows = [
        describe_untracked(each.untracked, each.owner, each.share_basis_points)
        for each in found.names
    ]
    if not as_json:
        rows = [{**row, "models": ", ".join(row["models"])} for row in rows]
    print_rows(f"Untracked in {period}, in {found.currency}", rows, as_json=as_json)


def coverage(
    period: Month,
    until: Annotated[
        str | None, typer.Option(help="The last month, at most a year on; else the same.")
    ] = None,
    by: Annotated[str, typer.Option(help="month or week (UTC).")] = "month",
    as_json: AsJson = False,
) -> None:
    """Show how much of what was invoiced for each team is tracked, over time."""
    first = parse_month(period)
    last = first if until is None else parse_month(until, field="until")
    window = parse_coverage_window(by)
    services = started()
    found = get_coverage(services.database, (first, last), window, make_reading(services))
    rows = [describe_coverage(each.period, each.team, each.coverage) for each in found]
    print_rows(f"Coverage by {by}", rows, as_json=as_json)


def _table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row as narrow as a table needs; what is no usage has no verdict worth telling."""
    return {
        "day": row["day"],
        "provider": row["provider"],
        "model or description": row["model"] or row["description"],
        "account": row["account"],
        **{name: row[name] for name in AMOUNTS},
        "verdict": row["verdict"] if row["category"] == ChargeCategory.USAGE else row["category"],
        "unpriced": row["unpriced_requests"] or None,
    }


def _step_row(step: Mapping[str, Any]) -> dict[str, Any]:
    """Give a step in words, behind ``=`` where it is a level that the steps before it lead to."""
    words = step["step"].replace("_", " ")
    return {
        "provider": step["provider"] or "all",
        "step": f"= {words}" if step["is_level"] else f"  {words}",
        "amount": step["amount"],
    }


def _closing_rows(totals: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"day": "total", **{name: totals[name] for name in AMOUNTS}},
        *(
            {"day": "not compared", "provider": currency, "invoiced_amount": amount}
            for currency, amount in totals["not_compared"].items()
        ),
    ]

"""``budgets apply``, ``status`` and ``replay``.

Budgets as code, how they stand, and what they would have done to real history.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.start import started
from tokenbudget.domain.budgets import FAR_FUTURE, BudgetStanding
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.replay import BudgetReplay
from tokenbudget.formats.budgets import format_quantity, parse_plan_toml, require_rolled_up
from tokenbudget.formats.display import moment_text, nanos_text, quantity_text
from tokenbudget.formats.replay import (
    ACTIONS,
    budget_sentence,
    describe_replay,
    parse_replay_period,
    replay_sentence,
)
from tokenbudget.services.budgets import apply_plan, list_standings
from tokenbudget.services.replay import replay_budgets

app = typer.Typer(help="Budgets as code.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A file of [[budget]] and [[owner]] tables")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a new version of every budget and owner that differs, all or none."""
    services = started()
    text = read_text(file)
    plan = parse_plan_toml(text, file_name=str(file), timezone=services.settings.timezone)
    require_rolled_up(plan.budgets, services.settings.unrolled_tags)
    owners, changes = apply_plan(services.database, plan, now=services.clock(), dry_run=dry_run)
    owned = [
        {"owner": f"{entry.kind} {entry.name}", "action": outcome.value}
        for entry, outcome in owners.outcomes
    ]
    rows: list[dict[str, object]] = [
        {
            "budget": change.budget.id,
            "action": change.action,
            "version": change.budget.version,
            "changed": ", ".join(change.changed_fields) if change.action == "changed" else "",
            "standing": "; ".join(map(_short_standing, change.standings[:3])),
        }
        for change in changes
    ]
    if as_json:
        print_rows("", [*owned, *rows], as_json=True)
        return
    would = " that would change" if dry_run else ""
    if owned:
        print_rows(f"Owners{would}", owned, as_json=False)
    print_rows(f"Budgets{would}", rows, as_json=False)


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show how the current window of every budget stands."""
    services = started()
    standings = list_standings(services.database, now=services.clock())
    currency = services.settings.currency
    rows = [standing_row(each, currency=currency, is_exact=as_json) for each in standings]
    print_rows("Budgets", rows, as_json=as_json)


@app.command("replay")
def replay(
    file: Annotated[Path, typer.Argument(help="A file of [[budget]] tables")],
    start: Annotated[str, typer.Option("--from", help="The first day or time, RFC 3339")],
    end: Annotated[str, typer.Option("--to", help="The day or time after the last")],
    as_json: JsonOption = False,
) -> None:
    """Show what a file's budgets, and no others, would have done together to real history."""
    services = started()
    settings = services.settings
    period = parse_replay_period(start, end, timezone=settings.timezone)
    text = read_text(file)
    drafts = parse_plan_toml(text, file_name=str(file), timezone=settings.timezone).budgets
    if not drafts:
        raise BadFile(f"{file}: holds no [[budget]] table")
    require_rolled_up(drafts, settings.unrolled_tags)
    with progress("Calls replayed", None) as advance:
        told = replay_budgets(services.database, drafts, period, advance=advance)
    currency = settings.currency
    if as_json:
        print(json.dumps(describe_replay(told, currency=currency, timezone=settings.timezone)))
        return
    rows = [_replay_row(each, currency) for each in told.budgets]
    print_rows("Budgets replayed", rows, as_json=False)
    for each in told.budgets:
        print(budget_sentence(each, period=period, currency=currency))
    print(replay_sentence(told, currency=currency, timezone=settings.timezone))


def _replay_row(told: BudgetReplay, currency: str) -> dict[str, object]:
    budget, refused = told.budget, told.refused
    worst = told.splits[0] if told.splits and budget.split_by else None
    return {
        "budget": budget.id,
        "mode": budget.mode.value,
        "limit": quantity_text(budget.limit, budget.unit.value, currency),
        "calls": told.seen.calls,
        **{
            action: refused.calls if mode is budget.mode else None
            for mode, action in ACTIONS.items()
        },
        "first": refused.first_at and moment_text(refused.first_at, budget.window.timezone),
        "last": refused.last_at and moment_text(refused.last_at, budget.window.timezone),
        "their_cost": nanos_text(refused.nanos, currency),
        "windows": told.window_count,
        "worst_split": worst and "/".join(worst.split),
    }


def standing_row(
    standing: BudgetStanding, *, currency: str, is_exact: bool
) -> dict[str, str | None]:
    """Give the row that shows a standing.

    Exact quantities for programs, rounded ones for people.
    """
    unit = standing.budget.unit

    def show(quantity: int) -> str:
        if is_exact:
            return format_quantity(quantity, unit)
        return quantity_text(quantity, unit.value, currency)

    forecast = standing.forecast
    return {
        "budget": standing.budget.id,
        "split": ", ".join(standing.split),
        "mode": standing.budget.mode.value,
        "limit": show(standing.budget.limit),
        "settled": show(standing.settled),
        "held": show(standing.held),
        "headroom": show(standing.headroom),
        "forecast": None if forecast is None else show(forecast),
        "resets_at": format_instant(standing.period.end)
        if standing.period.end < FAR_FUTURE
        else None,
    }


def read_text(file: Path) -> str:
    """Give a text file's content; raises BadFile."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadFile(f"{file}: cannot be read: {reason}") from None


def _short_standing(standing: BudgetStanding) -> str:
    unit = standing.budget.unit
    spent = format_quantity(standing.settled + standing.held, unit)
    of = format_quantity(standing.budget.limit, unit)
    return f"{'/'.join(standing.split) or 'all'}: {spent} of {of}"

"""``budgets apply``, ``status``, ``replay``, ``raise``, ``raises`` and ``end-raise``.

Budgets as code, how they stand, what they would have done to real history, and more for a time.
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
from tokenbudget.formats.raises import describe_raise, parse_raise
from tokenbudget.formats.replay import (
    ACTIONS,
    budget_sentence,
    describe_replay,
    parse_replay_period,
    replay_sentence,
)
from tokenbudget.services.budgets import apply_plan, get_budget, list_standings
from tokenbudget.services.raises import Asker, create_raise, end_raise, list_budget_raises
from tokenbudget.services.replay import replay_budgets

app = typer.Typer(help="Budgets as code.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A file of [[budget]] and [[owner]] tables")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse children that exceed their parent")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a new version of every budget and owner that differs, all or none."""
    services = started()
    text = read_text(file)
    plan = parse_plan_toml(text, file_name=str(file), timezone=services.settings.timezone)
    require_rolled_up(plan.budgets, services.settings.unrolled_tags)
    owners, changes = apply_plan(
        services.database, plan, now=services.clock(), dry_run=dry_run, strict=strict
    )
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
            **({"warnings": [notice.detail for notice in change.warnings]} if as_json else {}),
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
    for sentence in dict.fromkeys(each.detail for change in changes for each in change.warnings):
        print(f"Warning: {sentence}.")


@app.command("raise")
def raise_limit(
    budget: Annotated[str, typer.Argument(help="The budget's id")],
    amount: Annotated[str, typer.Argument(help="How much more, in the budget's unit")],
    until: Annotated[str, typer.Option("--until", help="When it ends, RFC 3339")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept")],
    since: Annotated[
        str | None, typer.Option("--from", help="When it begins, RFC 3339; now if left out")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Raise the limit of every counter of a budget for a time."""
    services = started()
    unit = get_budget(services.database, budget).unit
    entry = {"amount": amount, "valid_from": since, "valid_to": until, "reason": reason}
    draft, now = parse_raise(entry, unit), services.clock()
    view, _ = create_raise(services.database, budget, draft, asker=Asker(), now=now)
    print_rows("Raise", [describe_raise(view, now)], as_json=as_json)


@app.command("raises")
def raises(
    budget: Annotated[str, typer.Argument(help="The budget's id")], as_json: JsonOption = False
) -> None:
    """Show all raises there ever were of a budget."""
    services = started()
    views = list_budget_raises(services.database, budget)
    rows = [describe_raise(view, services.clock()) for view in views]
    print_rows("Raises", rows, as_json=as_json)


@app.command("end-raise")
def end(
    budget: Annotated[str, typer.Argument(help="The budget's id")],
    raise_id: Annotated[str, typer.Argument(help="The raise's id")],
    as_json: JsonOption = False,
) -> None:
    """End a raise now."""
    services = started()
    now = services.clock()
    view = end_raise(services.database, budget, raise_id, asker=Asker(), now=now)
    print_rows("Raise", [describe_raise(view, now)], as_json=as_json)


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
        "split": ", ".join([*standing.split, *_operation_of(standing)]),
        "mode": standing.budget.mode.value,
        "limit": show(standing.budget.limit),
        "carry": show(standing.carry) if standing.budget.rollover is not None else None,
        "raised": show(standing.raised) if standing.raised else None,
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
    name = "/".join([*standing.split, *_operation_of(standing)])
    return f"{name or 'all'}: {spent} of {of}"


def _operation_of(standing: BudgetStanding) -> list[str]:
    return [] if standing.operation_ref is None else [standing.operation_ref]

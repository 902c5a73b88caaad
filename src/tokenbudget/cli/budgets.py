"""``budgets apply`` and ``budgets status``: budgets as code, and how they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.budgets import FAR_FUTURE, BudgetStanding
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity, parse_budgets_toml, require_rolled_up
from tokenbudget.formats.display import quantity_text
from tokenbudget.services.budgets import apply_budgets, list_standings

app = typer.Typer(help="Budgets as code.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A file of [[budget]] tables")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a new version of every budget that differs, all or none."""
    services = started()
    text = read_text(file)
    drafts = parse_budgets_toml(text, file_name=str(file), timezone=services.settings.timezone)
    require_rolled_up(drafts, services.settings.unrolled_tags)
    changes = apply_budgets(services.database, drafts, now=services.clock(), dry_run=dry_run)
    rows = [
        {
            "budget": change.budget.id,
            "action": change.action,
            "version": change.budget.version,
            "changed": ", ".join(change.changed_fields) if change.action == "changed" else "",
            "standing": "; ".join(map(_short_standing, change.standings[:3])),
        }
        for change in changes
    ]
    print_rows("Budgets that would change" if dry_run else "Budgets", rows, as_json=as_json)


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show how the current window of every budget stands."""
    services = started()
    standings = list_standings(services.database, now=services.clock())
    currency = services.settings.currency
    rows = [standing_row(each, currency=currency, is_exact=as_json) for each in standings]
    print_rows("Budgets", rows, as_json=as_json)


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

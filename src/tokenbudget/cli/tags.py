"""``tags apply`` and ``tags reattribute``: who bears what by rules, ahead and looking back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import Services
from tokenbudget.cli.budgets import read_text
from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.documents import print_applied
from tokenbudget.cli.options import with_options
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.reattribution import Reattribution
from tokenbudget.domain.rerating import CostDelta, RerateState
from tokenbudget.formats.reattribution import parse_use_period
from tokenbudget.formats.rerating import describe_delta, describe_owner_key
from tokenbudget.formats.tag_rules import parse_tag_rules_toml, require_known_tags
from tokenbudget.services.reattribution import (
    approve_reattribution,
    get_reattribution,
    propose_reattribution,
)
from tokenbudget.services.tag_rules import apply_tag_rules

MAX_SHOWN: Final = 100

app = typer.Typer(help="Identity mappings and virtual tags as code.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="A file of [[mapping]] and [[rule]] tables")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the file in place of all mappings and rules; recorded usage stays where it counts."""
    draft = parse_tag_rules_toml(read_text(file), file_name=str(file))
    services = started()
    require_known_tags(draft, services.settings.unrolled_tags)
    applied = apply_tag_rules(services.database, draft, now=services.clock(), dry_run=dry_run)
    print_applied("Tag rules", applied, dry_run=dry_run, as_json=as_json)


@dataclass(frozen=True, slots=True)
class ReattributeOptions:
    """Which usage to look at, or which dry run to apply."""

    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would move, as without it.")
    ] = False
    approve: Annotated[int | None, typer.Option(metavar="ID", help="Apply this dry run.")] = None
    start: Annotated[str | None, typer.Option("--from", help="Used since then, RFC 3339.")] = None
    end: Annotated[str | None, typer.Option("--to", help="Used before then, RFC 3339.")] = None
    as_json: JsonOption = False


@app.command("reattribute")
@with_options(ReattributeOptions)
def reattribute(options: ReattributeOptions) -> None:
    """Show what usage the rules of today would count elsewhere, and move it on approval.

    A dry run moves nothing and prints an id; approving the id moves just what was shown.
    """
    bounds = {"start": options.start, "end": options.end}
    period = parse_use_period(bounds)
    if options.approve is None:
        services = started()
        proposed = propose_reattribution(services.database, period, now=services.clock())
        _show(proposed, services, as_json=options.as_json)
        return
    if options.is_dry_run or options.start or options.end:
        raise InvalidInput("--approve applies a dry run as it was; it takes no other option")
    services = started()
    _show(_approve(services, options.approve), services, as_json=options.as_json)


def _approve(services: Services, reattribution_id: int) -> Reattribution:
    known = get_reattribution(services.database, reattribution_id)
    left = known.proposed.usages - known.applied.usages - known.stale.usages
    with progress("Attributing again", left) as advance:
        return approve_reattribution(
            services.database,
            services.price_list,
            reattribution_id,
            now=services.clock(),
            advance=advance,
        )


def _show(shown: Reattribution, services: Services, *, as_json: bool) -> None:
    rows = [
        {**describe_owner_key(key), **describe_delta(delta)} for key, delta in shown.deltas.items()
    ]
    if as_json:
        known = {"reattribution": shown.reattribution_id, "state": shown.state.value}
        print_rows("", [{**known, **row} for row in rows], as_json=True)
        return
    currency = services.settings.currency
    title = f"Re-attribution {shown.reattribution_id}, {shown.state.value}, in {currency}"
    print_rows(title, rows[:MAX_SHOWN], as_json=False)
    if len(rows) > MAX_SHOWN:
        print(f"{len(rows) - MAX_SHOWN} smaller differences are not shown; --json has them")
    print(_outcome(shown))


def _outcome(shown: Reattribution) -> str:
    usages = shown.proposed.usages
    if not usages:
        return "All usage counts where the rules of today say."
    if shown.state is not RerateState.APPLIED:
        return (
            f"{usages} usages that cost {_cost(shown.proposed)} would count elsewhere: "
            f"tokenbudget tags reattribute --approve {shown.reattribution_id}"
        )
    text = f"{shown.applied.usages} usages that cost {_cost(shown.applied)} count elsewhere now."
    if shown.stale.usages:
        text += f" {shown.stale.usages} were left alone since some of them changed meanwhile."
    return text


def _cost(moved: CostDelta) -> str:
    return str(describe_delta(moved)["effective_cost"])

"""The command ``prices rerate``: what a corrected price book would move, and moving it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import Services
from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.options import with_options
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.rerating import USUAL_REASONS, Reason, Rerate, RerateState
from tokenbudget.formats.rerating import describe_delta, describe_key, parse_scope
from tokenbudget.services.rerating import approve_rerate, get_rerate, propose_rerate

MAX_SHOWN: Final = 100
USUALLY: Final = " and ".join(sorted(USUAL_REASONS))


@dataclass(frozen=True, slots=True)
class RerateOptions:
    """What to look at, or which dry run to apply."""

    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would move, as without it.")
    ] = False
    approve: Annotated[int | None, typer.Option(metavar="ID", help="Apply this dry run.")] = None
    reason: Annotated[
        list[Reason] | None, typer.Option(help=f"Why; repeatable; usually {USUALLY}.")
    ] = None
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None
    start: Annotated[str | None, typer.Option("--from", help="Used since then, RFC 3339.")] = None
    end: Annotated[str | None, typer.Option("--to", help="Used before then, RFC 3339.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False

    @property
    def scope(self) -> dict[str, object]:
        """Give what was said of the scope, as it would stand in a request."""
        named = {"provider": self.provider, "model": self.model}
        bounds = {"start": self.start, "end": self.end}
        reasons = [each.value for each in self.reason] if self.reason else None
        return {
            name: value
            for name, value in {**named, **bounds, "reasons": reasons}.items()
            if value is not None
        }


@with_options(RerateOptions)
def rerate(options: RerateOptions) -> None:
    """Show what the price book would charge otherwise than was charged, and apply it on approval.

    A dry run charges nothing and prints an id; approving the id applies just what was shown.
    """
    if options.approve is None:
        scope = parse_scope(options.scope)
        services = started()
        _show(
            propose_rerate(services.database, services.price_list, scope, now=services.clock()),
            services,
            as_json=options.as_json,
        )
        return
    if options.is_dry_run or options.scope:
        raise InvalidInput("--approve applies a dry run as it was; it takes no other option")
    services = started()
    _show(_approve(services, options.approve), services, as_json=options.as_json)


def _approve(services: Services, rerate_id: int) -> Rerate:
    known = get_rerate(services.database, rerate_id)
    left = known.proposed.usages - known.applied.usages - known.stale.usages
    with progress("Rating again", left) as advance:
        return approve_rerate(
            services.database,
            services.price_list,
            rerate_id,
            now=services.clock(),
            advance=advance,
        )


def _show(shown: Rerate, services: Services, *, as_json: bool) -> None:
    rows = [{**describe_key(key), **describe_delta(delta)} for key, delta in shown.deltas.items()]
    if as_json:
        known = {"rerate": shown.rerate_id, "state": shown.state.value}
        print_rows("", [{**known, **row} for row in rows], as_json=True)
        return
    title = f"Re-rating {shown.rerate_id}, {shown.state.value}, in {services.settings.currency}"
    print_rows(title, rows[:MAX_SHOWN], as_json=False)
    if len(rows) > MAX_SHOWN:
        print(f"{len(rows) - MAX_SHOWN} smaller differences are not shown; --json has them")
    print(_outcome(shown))


def _outcome(shown: Rerate) -> str:
    usages = shown.proposed.usages
    amount = describe_delta(shown.proposed)["effective_cost"]
    if not usages:
        return "Nothing is charged otherwise than the price book says."
    if shown.state is not RerateState.APPLIED:
        return (
            f"{usages} usages would move by {amount} in all: "
            f"tokenbudget prices rerate --approve {shown.rerate_id}"
        )
    moved = describe_delta(shown.applied)["effective_cost"]
    text = f"{shown.applied.usages} usages moved by {moved} in all."
    if shown.stale.usages:
        text += f" {shown.stale.usages} were left alone since some of them changed meanwhile."
    return text

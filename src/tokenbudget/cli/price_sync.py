"""The command ``prices sync``: what a price source says otherwise than our book. No rule here."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import utc_now
from tokenbudget.cli.console import print_rows
from tokenbudget.domain.price_differences import Difference
from tokenbudget.formats.price_rates import spell_change, spell_rates
from tokenbudget.services.price_sync import (
    SourceName,
    SyncPlan,
    SyncRequest,
    plan_sync,
    write_sync,
)
from tokenbudget.settings import packaged_path

MODELS_NAMED: Final = 3


def sync(
    source: Annotated[SourceName, typer.Option(help="Whom to compare with.")] = SourceName.GENAI,
    path: Annotated[
        Path | None, typer.Option(help="The source's file: litellm's JSON or wheel, or TOML.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Compare this provider only.")] = None,
    is_writing: Annotated[
        bool | None,
        typer.Option(
            "--write/--check",
            help="Add what is new, or exit 1 when somebody has to decide something.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write although much vanishes or moves far.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare the price book with a source of prices; rows are added, never edited."""
    book = packaged_path("pricing")
    plan = plan_sync(book, SyncRequest(source, path, provider), now=utc_now())
    if as_json:
        print_rows("", [_row(each) for each in plan.differences], as_json=True)
    else:
        _show(plan)
    for remark in (*plan.remarks, *(f"alarm: {alarm}" for alarm in plan.alarms)):
        print(remark, file=sys.stderr)
    if is_writing:
        names = write_sync(book, plan, is_forced=force)
        print(f"written: {', '.join(names) or 'nothing'}", file=sys.stderr)
    if is_writing is False and plan.open_differences:
        raise typer.Exit(1)


def _show(plan: SyncPlan) -> None:
    waiting = [_row(each) for each in plan.open_differences]
    print(f"{len(waiting)} differences from {plan.label} to decide")
    if waiting:
        print_rows("", waiting, as_json=False)
    settled = _by_reason(each for each in plan.differences if not each.is_open)
    if settled:
        print_rows("Differences on purpose", settled, as_json=False)


def _row(difference: Difference) -> dict[str, str]:
    return {
        "kind": difference.kind,
        "provider": difference.provider,
        "model": difference.model,
        "row": difference.place,
        "prices": _prices(difference),
        "reason": difference.reason,
    }


def _prices(difference: Difference) -> str:
    before, after = difference.before, difference.after
    if before is not None and after is not None:
        return spell_change(before, after)
    return spell_rates(after) if after is not None else ""


def _by_reason(differences: Iterable[Difference]) -> list[dict[str, str]]:
    """Give one line for all models of a provider whose difference has the same reason."""
    models: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for each in differences:
        named = models[each.kind, each.provider, each.reason]
        if each.model not in named:
            named.append(each.model)
    return [
        {"kind": kind, "provider": provider, "reason": reason, "models": _named(names)}
        for (kind, provider, reason), names in models.items()
    ]


def _named(names: Sequence[str]) -> str:
    others = len(names) - MODELS_NAMED
    shown = ", ".join(names[:MODELS_NAMED])
    return f"{shown} and {others} more" if others > 0 else shown

"""The commands ``prices``: lookup and lint here, sync and rerate in modules of their own.

They print; the domain decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.bootstrap import open_price_list, utc_now
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.options import with_options
from tokenbudget.cli.price_sync import sync
from tokenbudget.cli.rerate import rerate
from tokenbudget.domain.periods import parse_instant
from tokenbudget.domain.price_explanations import (
    PriceExplanation,
    PriceQuestion,
    flag_meaning,
)
from tokenbudget.formats.price_book import read_sources
from tokenbudget.formats.price_lint import lint_price_book
from tokenbudget.formats.price_lookup import describe_match
from tokenbudget.services.prices import lookup_price
from tokenbudget.settings import load_settings, packaged_path

app = typer.Typer(help="The price book.", no_args_is_help=True)
app.command()(sync)
app.command()(rerate)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True, slots=True)
class LookupOptions:
    """What a price is asked for."""

    provider: Annotated[str, typer.Argument(help="The provider, such as openai or aws.bedrock.")]
    model: Annotated[str, typer.Argument(help="The model, as the provider's answer names it.")]
    at: Annotated[str | None, typer.Option(help="When, RFC 3339; now by default.")] = None
    tier: Annotated[str | None, typer.Option(help="The service tier, such as batch.")] = None
    region: Annotated[str | None, typer.Option(help="The region.")] = None
    account: Annotated[str | None, typer.Option(help="The account, for its contracts.")] = None
    input_tokens: Annotated[int, typer.Option(min=0, help="The size of the whole input.")] = 1
    as_json: AsJson = False


@app.command()
@with_options(LookupOptions)
def lookup(options: LookupOptions) -> None:
    """Show the price row that applies, why it does, and every fallback that led to it."""
    question = PriceQuestion(
        provider=options.provider,
        model=options.model,
        occurred_at=parse_instant(options.at, field="at") if options.at else utc_now(),
        service_tier=options.tier,
        region=options.region,
        account=options.account,
        input_tokens=options.input_tokens,
    )
    found = lookup_price(open_price_list(load_settings()), question)
    if options.as_json:
        rows = [
            {**describe_match(step), "used": "yes" if step is found.used else ""}
            for step in found.steps
        ]
        print_rows("", rows, as_json=True)
        return
    _show(found)


@app.command()
def lint(
    directory: Annotated[
        Path | None, typer.Argument(help="Price files; those that ship by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is doubtful in the price files; exit 1 when there is anything."""
    sources = read_sources(directory or packaged_path("pricing"))
    findings = lint_price_book(sources)
    rows = [
        {
            "file": finding.file,
            "model": finding.model,
            "rule": finding.rule,
            "detail": finding.detail,
        }
        for finding in findings
    ]
    print_rows(f"{len(findings)} findings in {len(sources)} price files", rows, as_json=as_json)
    if findings:
        raise typer.Exit(1)


def _show(found: PriceExplanation) -> None:
    """Print every step by size of the input, then why the one used is used."""
    asked = f"{found.question.provider} {found.question.model}"
    for step in found.steps:
        facts = [
            {"what": name, "value": value} for name, value in describe_match(step).items() if value
        ]
        mark = " (used)" if step is found.used else ""
        print_rows(f"{asked}{mark}", facts, as_json=False)
    for reason in found.reasons:
        print(f"- {reason}")
    for flag in found.used.flags if found.used else ():
        print(f"! {flag}: {flag_meaning(flag)}")

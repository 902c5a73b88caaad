"""The commands ``prices``: lookup and lint here, sync and rerate in modules of their own.

They print; the domain decides.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.bootstrap import utc_now
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.price_sync import sync
from tokenbudget.cli.rerate import rerate
from tokenbudget.domain.errors import NotFound
from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.periods import format_instant, parse_instant
from tokenbudget.domain.prices import Price
from tokenbudget.domain.schedules import PriceMatch
from tokenbudget.domain.usage import TOKEN_UNITS
from tokenbudget.formats.price_book import load_price_book, read_sources
from tokenbudget.formats.price_lint import lint_price_book
from tokenbudget.settings import packaged_path

TOKENS_SHOWN = 10**6

app = typer.Typer(help="The price book.", no_args_is_help=True)
app.command()(sync)
app.command()(rerate)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def lookup(
    provider: Annotated[str, typer.Argument(help="The provider, such as openai or aws.bedrock.")],
    model: Annotated[str, typer.Argument(help="The model, as the provider's answer names it.")],
    at: Annotated[str | None, typer.Option(help="When, RFC 3339; now by default.")] = None,
    tier: Annotated[str | None, typer.Option(help="The service tier, such as batch.")] = None,
    region: Annotated[str | None, typer.Option(help="The region.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the price row that applies, where it comes from and every fallback that led to it."""
    price_list = load_price_book(packaged_path("pricing"))
    instant = parse_instant(at, field="at") if at else utc_now()
    schedule = price_list.schedule(provider, model, tier, region)
    steps = schedule.steps_at(instant)
    if not steps:
        raise NotFound(
            f"{provider} {model} has no price: {schedule.absence}", code=schedule.absence
        )
    rows = [describe_match(match) for _, match in steps]
    if as_json:
        print_rows("", rows, as_json=True)
        return
    for row in rows:
        facts = [{"what": name, "value": value} for name, value in row.items() if value != ""]
        print_rows(f"{provider} {model}", facts, as_json=False)


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


def describe_match(match: PriceMatch) -> dict[str, str]:
    """Give the facts of a match by name, all as text; rates of tokens are for a million of them."""
    price, selector = match.price, match.price.selector
    facts = {
        "price_ref": price.price_ref,
        "provider": price.provider,
        "model": price.model,
        "tier": selector.tier or "",
        "region": selector.region or "",
        "above_input_tokens": "" if selector.above is None else str(selector.above),
        "daily_hours": _hours(price),
        "valid_from": format_instant(price.valid_from) if price.valid_from else "",
        "valid_to": format_instant(price.valid_to) if price.valid_to else "",
        "sunset": format_instant(match.model.sunset) if match.model.sunset else "",
        "currency": price.currency,
    }
    rates = {_rate_name(unit): _rate_text(match, unit) for unit in price.rates}
    provenance = {"source": price.source, "note": price.note, "flags": ", ".join(match.flags)}
    return {**facts, **rates, **provenance}


def _hours(price: Price) -> str:
    hours = price.selector.hours
    if hours is None:
        return ""
    spans = (
        f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
        for start, end in hours.spans
    )
    weekdays = "".join("MTWTFSS"[day] if day in hours.weekdays else "-" for day in range(7))
    return f"{', '.join(spans)} {weekdays} {hours.zone_name}"


def _rate_name(unit: str) -> str:
    return f"million_{unit}" if unit in TOKEN_UNITS else unit


def _rate_text(match: PriceMatch, unit: str) -> str:
    picos = match.price.rates[unit] * match.ratio_of(unit)
    count = TOKENS_SHOWN if unit in TOKEN_UNITS else 1
    shown = picos * count / PICOS_PER_UNIT
    return f"{(Decimal(shown.numerator) / shown.denominator).normalize():f}"

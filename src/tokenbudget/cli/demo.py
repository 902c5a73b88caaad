"""``demo``: a fresh ledger, a replay of real traffic, a bill and a report, then the dashboard."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.cli.budgets import standing_row
from tokenbudget.cli.console import print_rows, progress, stdout
from tokenbudget.cli.serve import require_free_port, serve_with
from tokenbudget.cli.start import started
from tokenbudget.demo.bill import openai_costs_page
from tokenbudget.demo.organisation import budgets_toml, organisation_toml
from tokenbudget.demo.traces import PROVENANCE, event_count, events
from tokenbudget.domain.breakdowns import NANOS_PER_CENT, round_parts, rounded_amount
from tokenbudget.domain.costs import CostFilter, CostQuery
from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.formats.budgets import parse_budgets_toml
from tokenbudget.formats.display import cents_text, count_text, quantity_text, threshold_text
from tokenbudget.formats.events import Door, parse_objects
from tokenbudget.formats.owners import parse_owners_toml
from tokenbudget.services.alerts import list_alerts
from tokenbudget.services.bills import import_bills
from tokenbudget.services.budgets import apply_budgets, list_standings
from tokenbudget.services.costs import query_costs
from tokenbudget.services.counting import split_values_of
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.placement import Caller
from tokenbudget.services.reports import build_weekly, choose_week, write_weekly
from tokenbudget.services.usage import RecordAnswer, RecordUsage
from tokenbudget.settings import load_settings, packaged_path

MARKER: Final = ".tokenbudget-demo"
EVENTS_PER_TRANSACTION: Final = 2_000
REPLAY_REACH: Final = timedelta(days=60)
ALERTS_SHOWN: Final = 20


def demo(
    port: Annotated[int | None, typer.Option(help="Port of the dashboard")] = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the tables")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Where the demo keeps its data")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Replay real LLM traffic into a fresh ledger, print where the money went, serve it."""
    directory = data_dir or load_settings().data_dir / "demo"
    settings = load_settings(
        data_dir=directory,
        database_url=f"sqlite:///{(directory / 'tokenbudget.db').as_posix()}",
        report_dir=directory / "reports",
        auth="off",
        host="127.0.0.1",
        port=port,
        workers=1,
    )
    if not no_serve:
        require_free_port(settings.host, settings.port)
    _make_fresh(directory)
    services = started(settings)
    now = services.clock()
    _replay(services, now)
    _import_bill(services, now, directory)
    refresh_forecasts(services.database, now=now, currency=settings.currency)
    report = _write_report(services, now)
    _print_outcome(services, now, as_json=as_json)
    stdout().print(f"\n{PROVENANCE}\n\nWeekly report: {report}")
    if no_serve:
        stdout().print(
            f"Dashboard: tokenbudget demo serves it on http://{settings.host}:{settings.port}"
        )
        return
    stdout().print(f"Dashboard: http://{settings.host}:{settings.port}  (Ctrl-C ends it)")
    serve_with(settings, services)


def _make_fresh(directory: Path) -> None:
    """Empty a directory that an earlier demo made; raises ConfigurationError for anybody else's."""
    try:
        if directory.exists() and any(directory.iterdir()):
            if not (directory / MARKER).exists():
                raise ConfigurationError(f"{directory} is not empty and was not made by the demo")
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MARKER).touch()
    except OSError as error:
        raise ConfigurationError(
            f"the data directory {directory} cannot be written: {error.strerror}"
        ) from None


def _replay(services: Services, now: datetime) -> None:
    owners = parse_owners_toml(organisation_toml(), file_name="organisation.toml")
    apply_owners(services.database, owners, now=now)
    budgets = parse_budgets_toml(
        budgets_toml(now), file_name="budgets.toml", timezone=services.settings.timezone
    )
    apply_budgets(services.database, budgets, now=now)
    ledger = make_ledger(services)
    door = Door(now=now, future_tolerance=timedelta(0))
    with progress("Replaying real traffic", event_count()) as advance:
        for batch in events(now, batch_events=EVENTS_PER_TRANSACTION):
            answer = ledger.apply([RecordUsage(parse_objects(batch, door), Caller())])[0]
            if not isinstance(answer, RecordAnswer) or answer.rejected:
                raise AssertionError(f"the bundled trace was refused: {answer}")
            advance(len(batch))


def _import_bill(services: Services, now: datetime, directory: Path) -> None:
    """Write the invented bill for the replayed OpenAI usage and import it like any other."""
    query = CostQuery(
        period=_reach(now),
        group_by=("model",),
        granularity="day",
        filters=(CostFilter("provider", ("openai",)),),
    )
    daily: dict[tuple[date, str], int] = {}
    for row in query_costs(services.database, query).rows:
        if row.start is not None and row.group[0] is not None and row.effective_nanos > 0:
            daily[row.start.date(), row.group[0]] = row.effective_nanos
    path = directory / "openai-costs.json"
    path.write_text(json.dumps(openai_costs_page(daily), indent=1), encoding="utf-8")
    import_bills(services.database, [path], now=now)


def _write_report(services: Services, now: datetime) -> Path:
    settings = services.settings
    period = choose_week(None, now=now, timezone=settings.timezone)
    report = build_weekly(
        services.database,
        period=period,
        now=now,
        currency=settings.currency,
        timezone=settings.timezone,
    )
    paths = write_weekly(
        report, formats=("html",), directory=settings.report_dir, templates=packaged_path("reports")
    )
    return paths[0]


def _print_outcome(services: Services, now: datetime, *, as_json: bool) -> None:
    for dimension in ("team", "feature"):
        rows = _cost_rows(services, now, dimension)
        print_rows(f"Where the money went, by {dimension}", rows, as_json=as_json)
    standings = list_standings(services.database, now=now)
    currency = services.settings.currency
    unsplit = [
        standing_row(each, currency=currency, is_exact=as_json)
        for each in standings
        if not each.budget.split_by
    ]
    print_rows("Budgets", unsplit, as_json=as_json)
    fired = [
        {
            "budget": alert.budget_id,
            "split": ", ".join(split_values_of(alert.split_key)),
            "threshold": threshold_text(alert.threshold),
            "measured": quantity_text(alert.measured, alert.unit, currency),
            "limit": quantity_text(alert.limit_quantity, alert.unit, currency),
        }
        for alert in list_alerts(services.database, limit=ALERTS_SHOWN)
    ]
    print_rows("Budgets that fired", fired, as_json=as_json)


def _cost_rows(services: Services, now: datetime, dimension: str) -> list[dict[str, object]]:
    """Give one row a value and the total, whose shown cents are the sum of the shown parts."""
    table = query_costs(services.database, CostQuery(period=_reach(now), group_by=(dimension,)))
    ordered = sorted(table.rows, key=lambda row: -row.effective_nanos)
    total = rounded_amount(table.totals.effective_nanos).cents
    amounts = [row.effective_nanos for row in ordered]
    cents = [*round_parts(amounts, unit=NANOS_PER_CENT, target=total), total]
    shown = [*((row.group[0] or "(none)", row) for row in ordered), ("all", table.totals)]
    return [
        {
            dimension: name,
            "requests": count_text(row.requests),
            "tokens": count_text(row.tokens),
            "cost": cents_text(part, services.settings.currency),
            "unpriced_requests": count_text(row.unpriced_requests),
        }
        for (name, row), part in zip(shown, cents, strict=True)
    ]


def _reach(now: datetime) -> Period:
    day = quarter_hour_at(now).replace(hour=0, minute=0)
    return Period(day - REPLAY_REACH, day + timedelta(days=1))

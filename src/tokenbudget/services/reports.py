"""The weekly report: read, rendered, written.

It owns which questions are asked; the figures are worked out in ``formats``.

The cube of a week is one answer, so that every table of a report adds up also while usage comes in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Final

from tokenbudget.domain.budgets import BudgetStanding
from tokenbudget.domain.errors import ConfigurationError, InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.domain.spans import last_complete_week, parse_week, week_before
from tokenbudget.formats.panels import PriceListVersion, UnpricedLine
from tokenbudget.formats.weekly_csv import weekly_csv
from tokenbudget.formats.weekly_headline import headline_sentences
from tokenbudget.formats.weekly_parts import CUBE
from tokenbudget.formats.weekly_report import WeeklyFacts, WeeklyReport, compose_weekly
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.costs import CostFilter, CostQuery, CostRow, query_costs
from tokenbudget.services.rendering import make_environment
from tokenbudget.services.unpriced import list_unpriced
from tokenbudget.store.db import Database
from tokenbudget.store.freshness import (
    find_first_usage_at,
    find_last_recorded_at,
    find_latest_price_list,
)

FORMATS: Final = ("html", "csv")
UNSAFE_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
DIGEST_DIGITS: Final = 8


def build_weekly(
    database: Database,
    *,
    period: Period,
    now: datetime,
    currency: str,
    timezone: str,
    team: str | None = None,
) -> WeeklyReport:
    """Give the report of one ISO week (``period``, cut in ``timezone``), for one team or for all.

    Budgets are as they stand at ``now``. Raises InvalidInput when the week has not begun.
    """
    if period.start > now:
        raise InvalidInput("week has not begun yet, so there is nothing to report", field="week")
    before = week_before(period, timezone)
    filters = () if team is None else (CostFilter("team", (team,)),)

    def rows(asked: Period, group_by: tuple[str, ...], granularity: str) -> list[CostRow]:
        query = CostQuery(asked, group_by, granularity, timezone, filters)
        return query_costs(database, query).rows

    return compose_weekly(
        WeeklyFacts(
            period=period,
            timezone=timezone,
            currency=currency,
            team=team,
            generated_at=now,
            rows=rows(period, CUBE, "none"),
            rows_before=rows(before, CUBE, "none"),
            rows_by_day=rows(period, ("team",), "day"),
            standings=[each for each in list_standings(database, now=now) if concerns(each, team)],
            unpriced=() if team is not None else read_unpriced(database, period=period),
            price_list=read_price_list(database),
            compares_from=read_compares_from(database, before=before),
        )
    )


def choose_week(name: str | None, *, now: datetime, timezone: str) -> Period:
    """Give the named ISO week, or the last one that is over.

    Raises InvalidInput when the name is malformed.
    """
    return last_complete_week(now, timezone) if name is None else parse_week(name, timezone)


def render_weekly(report: WeeklyReport, *, templates: Path) -> str:
    """Give the report as one self-contained HTML file, from the templates in the directory."""
    template = make_environment(templates).get_template("weekly.html.j2")
    return template.render(report=report, headline=headline_sentences(report))


def write_weekly(
    report: WeeklyReport, *, formats: Collection[str], directory: Path, templates: Path
) -> list[Path]:
    """Write the report in each format and give the paths.

    Earlier files of the same week and team are replaced. Raises InvalidInput for a format nobody
    knows and ConfigurationError when the directory cannot be written.
    """
    for unknown in sorted(set(formats).difference(FORMATS)):
        raise InvalidInput(f"format {unknown!r} is not one of {', '.join(FORMATS)}", field="format")
    texts = {
        "html": lambda: render_weekly(report, templates=templates),
        "csv": lambda: weekly_csv(report),
    }
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (known for known in FORMATS if known in formats):
            path = directory / f"{_file_stem(report)}.{name}"
            path.write_text(texts[name](), encoding="utf-8", newline="")
            paths.append(path)
    except OSError as error:
        raise ConfigurationError(
            f"the report directory {directory} cannot be written: {error.strerror}"
        ) from None
    return paths


def concerns(standing: BudgetStanding, team: str | None) -> bool:
    """Tell whether a budget is about the team: by its selector, or by the split it counts.

    None is every budget.
    """
    if team is None or team in standing.budget.selector.get("team", ()):
        return True
    return ("team", team) in zip(standing.budget.split_by, standing.split, strict=True)


def read_unpriced(database: Database, *, period: Period) -> tuple[UnpricedLine, ...]:
    """Give the usage of the period that has no price, by provider and model."""
    return tuple(
        UnpricedLine(
            each.provider, each.model, each.requests, each.input_tokens, each.output_tokens
        )
        for each in list_unpriced(database, period=period)
    )


def read_price_list(database: Database) -> PriceListVersion | None:
    """Give the price list the ledger recorded last, or None before the first."""
    with database.reading() as session:
        row = find_latest_price_list(session)
        return None if row is None else PriceListVersion(row.sha256, row.recorded_at)


def read_compares_from(database: Database, *, before: Period) -> datetime | None:
    """Give when the ledger begins, if it does so within the period that is compared with.

    None when it holds that whole period, or nothing of it.
    """
    with database.reading() as session:
        first = find_first_usage_at(session)
    return first if first is not None and before.start < first < before.end else None


def read_last_recorded_at(database: Database) -> datetime | None:
    """Give when the newest usage was written, or None in an empty ledger."""
    with database.reading() as session:
        return find_last_recorded_at(session)


def _file_stem(report: WeeklyReport) -> str:
    """Give a file name that no team's name can steer elsewhere, and that two teams never share."""
    if report.team is None:
        return f"weekly-{report.name}"
    readable = UNSAFE_IN_NAME.sub("-", report.team).strip("-")
    if readable != report.team:
        digest = hashlib.sha256(report.team.encode()).hexdigest()[:DIGEST_DIGITS]
        readable = f"{readable}-{digest}".strip("-")
    return f"weekly-{report.name}-{readable}"

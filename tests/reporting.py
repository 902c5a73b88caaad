"""Builders for what pages and reports are made of, with boring defaults, and one full week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenbudget.bootstrap import Services, open_services, prepare_database
from tokenbudget.domain.budgets import (
    Budget,
    BudgetStanding,
    BudgetWindow,
    Mode,
    ThresholdOn,
    Unit,
)
from tokenbudget.domain.costs import CostRow
from tokenbudget.domain.periods import Period, Window
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.formats.panels import PriceListVersion, UnpricedLine
from tokenbudget.formats.weekly_parts import CUBE
from tokenbudget.formats.weekly_report import WeeklyFacts, compose_weekly
from tokenbudget.services.reports import render_weekly
from tokenbudget.settings import load_settings, packaged_path

DOLLAR = 10**9
WEEK = Period(datetime(2026, 11, 9, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC))
GENERATED_AT = datetime(2026, 11, 16, 6, 0, tzinfo=UTC)
GOLDEN = packaged_path("reports") / "golden" / "weekly-2026-W46.html"
Dimensions = dict[str, Any]

CUBE_DEFAULTS: Dimensions = {
    "team": "support",
    "feature": "reply-drafts",
    "tenant": "acme",
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "request_type": "production",
    "status": "ok",
    "is_retry": "false",
}
WRITER: Dimensions = {"team": "growth", "feature": "campaign-writer", "tenant": None}
REVIEW: Dimensions = {"team": "risk", "feature": "contract-review", "tenant": "initech"}
NOBODY: Dimensions = {"team": "unallocated", "feature": None, "tenant": None}
ON_GPT: Dimensions = {"provider": "openai", "model": "gpt-5.2", "tenant": "globex"}
REWRITING: Dimensions = {
    "team": "search",
    "feature": "query-rewriting",
    "provider": "gcp.gemini",
    "model": "gemini-2.5-flash",
    "tenant": "<script>alert(1)</script>",
}
EVALUATION: Dimensions = {
    "team": "research",
    "feature": "model-evaluation",
    "provider": "deepseek",
    "model": "deepseek-reasoner",
    "request_type": "evaluation",
    "tenant": None,
}
PREVIEW: Dimensions = {**EVALUATION, "provider": "openai", "model": "gpt-6-preview"}


def make_row(nanos: int, *, requests: int = 100, **overrides: Any) -> CostRow:
    """Give a cube row of so many nanos; overrides are dimensions or measures."""
    dimensions = {**CUBE_DEFAULTS, **{k: v for k, v in overrides.items() if k in CUBE}}
    measures = {
        "input_tokens": requests * 1_000,
        "cached_input_tokens": requests * 250,
        "output_tokens": requests * 200,
        **{k: v for k, v in overrides.items() if k not in CUBE},
    }
    return CostRow(
        group=tuple(dimensions[name] for name in CUBE),
        list_nanos=nanos,
        contracted_nanos=nanos,
        effective_nanos=nanos,
        requests=requests,
        **measures,
    )


def make_day_row(team: str, day: int, nanos: int) -> CostRow:
    """Give a row of one team on a day of November 2026."""
    start = datetime(2026, 11, day, tzinfo=UTC)
    return CostRow((team,), start, effective_nanos=nanos, requests=10)


def make_standing(
    budget_id: str,
    *,
    settled: int,
    limit: int,
    held: int = 0,
    forecast: int | None = None,
    split: tuple[str, ...] = (),
    **overrides: Any,
) -> BudgetStanding:
    """Give the standing of a monthly money budget."""
    facts: dict[str, Any] = {
        "id": budget_id,
        "version": 1,
        "counting_version": 1,
        "selector": {},
        "split_by": ("tenant",) if split else (),
        "unit": Unit.MONEY,
        "limit": limit,
        "window": BudgetWindow(Window.MONTH, None),
        "window_text": "month",
        "mode": Mode.SOFT,
        "thresholds": (5_000, 8_000, 10_000),
        "threshold_on": ThresholdOn.COMMITTED,
        "overdraft": 0,
        "counts_from_window": True,
        "fails_open": False,
        "owner": None,
        "channels": (),
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        **overrides,
    }
    period = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    headroom = limit - settled - held
    return BudgetStanding(Budget(**facts), split, period, settled, held, headroom, forecast)


def make_facts(
    rows: Sequence[CostRow] = (),
    rows_before: Sequence[CostRow] = (),
    rows_by_day: Sequence[CostRow] = (),
    **overrides: Any,
) -> WeeklyFacts:
    """Give the facts of week 2026-W46."""
    facts = WeeklyFacts(
        period=WEEK,
        timezone="UTC",
        currency="USD",
        team=None,
        generated_at=GENERATED_AT,
        rows=rows,
        rows_before=rows_before,
        rows_by_day=rows_by_day,
        standings=(),
        unpriced=(),
        price_list=PriceListVersion("4f2a" * 16, datetime(2026, 11, 2, 9, 30, tzinfo=UTC)),
        compares_from=None,
    )
    return replace(facts, **overrides)


def sample_facts() -> WeeklyFacts:
    """Give a small week with a rise, an end, dirt, budgets in trouble and a hostile name."""
    rows = _sample_rows()
    return make_facts(
        rows,
        _sample_rows_before(),
        _spread(rows),
        standings=_sample_standings(),
        unpriced=(UnpricedLine("openai", "gpt-6-preview", 17, 17_000, 3_400),),
    )


def _sample_rows() -> tuple[CostRow, ...]:
    return (
        make_row(612_345_678_901, requests=41_200),
        make_row(88_004_000_000, requests=2_100, **ON_GPT),
        make_row(230_500_000_000, requests=9_000, **WRITER),
        make_row(95_120_005_000, requests=30_400, **REWRITING),
        make_row(41_000_000_000, requests=800, unpriced_requests=5, **EVALUATION),
        make_row(7_700_000_000, requests=310, is_retry="true"),
        make_row(3_250_000_000, requests=120, status="error"),
        make_row(28_400_000_000, requests=1_450, **NOBODY),
        make_row(4_000_000, requests=3, **REVIEW),
        make_row(0, requests=17, unpriced_requests=17, **PREVIEW),
    )


def _sample_rows_before() -> tuple[CostRow, ...]:
    return (
        make_row(540_000_000_000, requests=38_000),
        make_row(61_000_000_000, requests=1_500, **ON_GPT),
        make_row(251_250_000_000, requests=9_400, **WRITER),
        make_row(97_000_000_000, requests=31_000, **REWRITING),
        make_row(12_340_000_000, requests=95, **REVIEW),
        make_row(25_000_000_000, requests=1_300, **NOBODY),
    )


def _sample_standings() -> tuple[BudgetStanding, ...]:
    return (
        make_standing(
            "company",
            settled=1_106_323_000_000,
            held=12 * DOLLAR,
            limit=5_000 * DOLLAR,
            forecast=4_210 * DOLLAR,
        ),
        make_standing(
            "support-monthly",
            settled=1_310 * DOLLAR,
            limit=1_200 * DOLLAR,
            forecast=2_420 * DOLLAR,
            mode=Mode.HARD,
        ),
        make_standing(
            "growth-monthly",
            settled=455 * DOLLAR,
            held=4 * DOLLAR,
            limit=800 * DOLLAR,
            forecast=960 * DOLLAR,
        ),
        make_standing(
            "tenant-tokens",
            settled=8_600_000,
            limit=10_000_000,
            split=("globex",),
            unit=Unit.TOKENS,
        ),
    )


def _spread(rows: Sequence[CostRow]) -> list[CostRow]:
    """Give the rows' cost by team, spread over the days; the last day takes the rest."""
    spread = []
    for team in sorted({row.group[0] or "" for row in rows}):
        nanos = sum(row.effective_nanos for row in rows if row.group[0] == team)
        parts = [nanos * percent // 100 for percent in (19, 18, 17, 18, 16, 5)]
        parts.append(nanos - sum(parts))
        spread += [make_day_row(team, 9 + day, part) for day, part in enumerate(parts)]
    return spread


def render_sample() -> str:
    """Give the HTML of the sample week."""
    return render_weekly(compose_weekly(sample_facts()), templates=packaged_path("reports"))


def make_services(directory: Path, *, now: datetime, **settings: Any) -> Services:
    """Give services on an empty embedded ledger in the directory, at a time that stands still."""
    chosen = load_settings(data_dir=directory, **{"auth": "off", **settings})
    services = open_services(chosen, clock=lambda: now, price_list=PriceList((), version="none"))
    prepare_database(services)
    return services


if __name__ == "__main__":
    GOLDEN.write_text(render_sample(), encoding="utf-8")
